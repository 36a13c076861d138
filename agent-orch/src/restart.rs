//! What a supervisor is told about restarts, after the Open Telecom Platform's supervisors.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fleet::duration;

/// Which siblings restart with a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// Only the child itself.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The child and those started after it.
    RestForOne,
}

/// When a child is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only if it ended by a failure.
    #[default]
    Transient,
    /// Never.
    Temporary,
}

/// What a supervisor with too many restarts does, once all its children are stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnMeltdown {
    /// It stays stopped until the host releases it; its siblings go on.
    #[default]
    Quarantine,
    /// It fails as a child of the supervisor above it. The root has none above and is quarantined.
    Escalate,
}

/// How many restarts are normal: more than `restarts` within `period` is a meltdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intensity {
    /// The most restarts within the period.
    pub restarts: u32,
    /// The period.
    pub period: Duration,
}

impl Default for Intensity {
    /// One restart in five seconds, the default of OTP.
    fn default() -> Self {
        Self::new(1, Duration::from_secs(5))
    }
}

impl Intensity {
    /// Creates a limit.
    #[must_use]
    pub const fn new(restarts: u32, period: Duration) -> Self {
        Self { restarts, period }
    }
}

/// How long to wait before a restart: `first`, then `factor` times as long after each further
/// failure, up to `cap`. A child that ran as long as `cap` before it failed begins at `first`
/// again. Written `1s..60s x2 jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RestartDelay {
    /// The wait before the first restart.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How much longer each wait is than the one before.
    pub factor: u32,
    /// Whether up to half of a wait is left out at random, so that many do not restart at once.
    pub jitter: bool,
}

impl RestartDelay {
    /// Restarts follow at once.
    pub const NONE: Self = Self {
        first: Duration::ZERO,
        cap: Duration::ZERO,
        factor: 1,
        jitter: false,
    };

    /// Creates a delay that doubles, with jitter.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            factor: 2,
            jitter: true,
        }
    }

    /// Returns the wait before restart number `n` in a row, counted from one. `seed` decides about
    /// the jitter.
    #[must_use]
    pub fn wait(&self, n: u32, seed: u64) -> Duration {
        let factor = self.factor.saturating_pow(n.max(1) - 1);
        let whole = self.first.saturating_mul(factor).min(self.cap);
        if !self.jitter || whole.is_zero() {
            return whole;
        }
        let half = whole / 2;
        let half_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        whole - Duration::from_nanos(seed.checked_rem(half_ns.saturating_add(1)).unwrap_or(0))
    }
}

impl fmt::Display for RestartDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}..{:?} x{}", self.first, self.cap, self.factor)?;
        f.write_str(if self.jitter { " jitter" } else { "" })
    }
}

impl FromStr for RestartDelay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let range = words.next().and_then(|range| range.split_once(".."));
        let read = range.and_then(|(first, cap)| {
            let mut delay = Self::new(duration(first)?, duration(cap)?);
            delay.jitter = false;
            for word in words {
                match word.strip_prefix('x') {
                    Some(factor) => delay.factor = factor.parse().ok().filter(|n| *n > 0)?,
                    None if word == "jitter" => delay.jitter = true,
                    None => return None,
                }
            }
            Some(delay).filter(|delay| delay.first <= delay.cap)
        });
        read.ok_or_else(|| {
            let expected = "is not a delay such as `1s..60s x2 jitter`";
            Error::invalid("backoff", format!("`{text}` {expected}"))
        })
    }
}
