//! When agents stop asking a side that does not answer, as configuration.
//!
//! ```toml
//! [breaker]
//! calls_min = 10
//! failed_percent = 50
//! window = "30s"
//! open_first = "5s"
//! open_cap = "60s"
//! ```

use std::time::Duration;

use serde::Deserialize;

use super::text::maybe_duration;

/// When a circuit breaker opens, and for how long. Every (action, target, tenant) has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerPolicy {
    /// How many calls say something. Default: 10 in the window.
    pub calls_min: u32,
    /// The share of failed calls, in percent, from which on it opens; above 100 it never does.
    /// Only calls that the other side did not answer count as failed. Default: 50.
    pub failed_percent: u32,
    /// How far back calls count. Default: 30 s.
    pub window: Duration,
    /// How long it stays open at first; doubled each time the other side is still away. Default:
    /// 5 s.
    pub open_first: Duration,
    /// How long it stays open at most. Default: 60 s.
    pub open_cap: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            calls_min: 10,
            failed_percent: 50,
            window: Duration::from_secs(30),
            open_first: Duration::from_secs(5),
            open_cap: Duration::from_secs(60),
        }
    }
}

impl BreakerPolicy {
    /// Never opens.
    #[must_use]
    pub fn never() -> Self {
        Self {
            failed_percent: 101,
            ..Self::default()
        }
    }

    /// Sets for how long it stays open at first and at most. Default: 5 s and 60 s.
    #[must_use]
    pub const fn with_open(mut self, first: Duration, cap: Duration) -> Self {
        (self.open_first, self.open_cap) = (first, cap);
        self
    }

    /// Returns how long it stays open the `n`th time in a row, counted from one.
    #[must_use]
    pub fn wait(&self, n: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(n.saturating_sub(1).min(16));
        self.open_first.saturating_mul(doubled).min(self.open_cap)
    }
}

/// The text form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BreakerText {
    calls_min: Option<u32>,
    failed_percent: Option<u32>,
    #[serde(default, deserialize_with = "maybe_duration")]
    window: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    open_first: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    open_cap: Option<Duration>,
}

impl From<BreakerText> for BreakerPolicy {
    fn from(text: BreakerText) -> Self {
        let defaults = Self::default();
        Self {
            calls_min: text.calls_min.unwrap_or(defaults.calls_min),
            failed_percent: text.failed_percent.unwrap_or(defaults.failed_percent),
            window: text.window.unwrap_or(defaults.window),
            open_first: text.open_first.unwrap_or(defaults.open_first),
            open_cap: text.open_cap.unwrap_or(defaults.open_cap),
        }
    }
}
