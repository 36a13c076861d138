//! What a limit key allows: how many at once, and how many in a time.

use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::{ConfigError, Remedy};
use crate::error::{Error, Result};

/// What a limit key allows.
///
/// The key is `KIND:NAME`. Of effects it concerns those whose action is `KIND` or begins with
/// `KIND.` and whose target is `NAME`; `NAME` may end in `*`. `tenant:NAME` concerns all effects
/// of tasks with that fairness key. So `tool:search` limits `tool.call` on `search`. Of tasks it
/// concerns those that name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Limit {
    /// How many effects may be under way, and how many tasks that name the key may be worked on.
    /// Default: any number.
    pub concurrency: Option<u32>,
    /// How many effects may begin in a time. Default: any number.
    pub rate: Option<Rate>,
}

impl Limit {
    /// The greatest concurrency: as many as one pool has agents.
    pub const CONCURRENCY_MAX: u32 = 10_000;

    /// Allows anything.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            concurrency: None,
            rate: None,
        }
    }

    /// Sets how many may be under way. Default: any number.
    #[must_use]
    pub const fn with_concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// Sets how many effects may begin in a time. Default: any number.
    #[must_use]
    pub const fn with_rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Checks the values of the limit `key`.
    pub(super) fn check(&self, key: &str) -> Result<(), ConfigError> {
        let at = |field: &str| format!("limit.{key}.{field}");
        let range = |max| Remedy::Write(format!("a number from 1 to {max}"));
        let (kind, name) = key.split_once(':').unwrap_or_default();
        if kind.is_empty() || name.is_empty() {
            let remedy = Remedy::Write("`KIND:NAME`, such as `tool:search`".to_owned());
            let reason = format!("`{key}` is no limit key");
            return Err(ConfigError::new(format!("limit.{key}"), reason, remedy));
        }
        let out_of = |n: Option<u32>, max| n.is_some_and(|n| !(1..=max).contains(&n));
        if out_of(self.concurrency, Self::CONCURRENCY_MAX) {
            let reason = "it is out of range";
            let remedy = range(Self::CONCURRENCY_MAX);
            return Err(ConfigError::new(at("concurrency"), reason, remedy));
        }
        if out_of(self.rate.map(|rate| rate.n), Rate::N_MAX) {
            let reason = "it is out of range";
            return Err(ConfigError::new(at("rate"), reason, range(Rate::N_MAX)));
        }
        if out_of(self.rate.map(|rate| rate.burst), Rate::N_MAX) {
            let reason = "it is out of range";
            return Err(ConfigError::new(at("burst"), reason, range(Rate::N_MAX)));
        }
        Ok(())
    }
}

/// A token bucket: `n` in each `per`, and up to `burst` at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rate {
    /// How many.
    pub n: u32,
    /// In which time.
    pub per: Duration,
    /// How many at once after a pause. Default: as many as `n`.
    pub burst: u32,
}

impl Rate {
    /// The most of one period: one a microsecond where the period is a second.
    pub const N_MAX: u32 = 1_000_000;

    /// Allows `n` in each `per`.
    #[must_use]
    pub const fn new(n: u32, per: Duration) -> Self {
        Self { n, per, burst: n }
    }

    /// Sets how many may come at once after a pause. Default: as many as `n`.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// Returns the time between two.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.per / self.n.max(1)
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// Reads `10/s`, `600/m` or `5/h`.
    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (n, unit) = text.split_once('/')?;
            let per = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                _ => return None,
            };
            let n = n
                .trim()
                .parse()
                .ok()
                .filter(|n| (1..=Self::N_MAX).contains(n))?;
            Some(Self::new(n, Duration::from_secs(per)))
        };
        read().ok_or_else(|| {
            let reason = format!("`{text}` is not a rate such as `10/s`, `600/m` or `5/h`");
            Error::invalid("rate", reason)
        })
    }
}
