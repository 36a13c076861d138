//! Supervision as configuration: which agents restart together, when, and how often.

use crate::restart::{Intensity, Restart, Strategy};

/// How the agents of every pool are restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Supervision {
    /// Which siblings restart with a crashed agent. Default: one for one.
    pub strategy: Strategy,
    /// When a crashed agent restarts. Default: transient.
    pub restart: Restart,
    /// How many restarts are normal, per pool. Default: 1 in 5 s. A pool that exceeds it is
    /// quarantined; the host goes on.
    pub intensity: Intensity,
}
