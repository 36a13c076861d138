//! The registry of agents as configuration: which are retired by themselves.

use std::time::Duration;

use serde::Deserialize;

use super::text::maybe_duration;

/// Which agents are retired without being asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retirement {
    /// Agents that did nothing for this long and run nowhere. Default: none.
    pub idle: Option<Duration>,
    /// Agents whose pool is not in the fleet. Default: none.
    pub orphans: bool,
}

impl Retirement {
    /// Retires nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            idle: None,
            orphans: false,
        }
    }

    /// Retires agents that did nothing for this long and run nowhere. Default: none.
    #[must_use]
    pub const fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Retires agents whose pool is not in the fleet. Default: none.
    #[must_use]
    pub const fn with_orphans(mut self) -> Self {
        self.orphans = true;
        self
    }
}

/// `[registry]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistryText {
    #[serde(default, deserialize_with = "maybe_duration")]
    retire_idle: Option<Duration>,
    #[serde(default)]
    retire_orphans: bool,
}

impl From<RegistryText> for Retirement {
    fn from(text: RegistryText) -> Self {
        Self {
            idle: text.retire_idle,
            orphans: text.retire_orphans,
        }
    }
}
