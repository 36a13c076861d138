//! The two things a library may not take from the process by itself: time and randomness.

use std::sync::Arc;

use crate::entropy::{Entropy, OsEntropy};
use crate::time::{Clock, SystemClock};

/// Where time and randomness come from. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Env {
    /// The clock every deadline, lease and record is taken from.
    pub clock: Arc<dyn Clock>,
    /// The source of ids and jitter.
    pub entropy: Arc<dyn Entropy>,
}

impl Env {
    /// Uses the system's clock and random source.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock::new()), Arc::new(OsEntropy::new()))
    }

    /// Uses the given clock and source.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy }
    }
}
