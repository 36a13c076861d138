//! Who is served when there is more work than agents.
//!
//! ```toml
//! [scheduling]
//! age = "10m"
//! preempt_from = 0
//! preempt_gap = 2
//!
//! [tenant.acme]
//! weight = 3
//!
//! [limit."tool:search"]
//! concurrency = 4
//! rate = "10/s"
//! burst = 20
//! ```
//!
//! Tasks are claimed by priority, then by weighted turns of their fairness keys, then by age. A
//! task that waited for `age` moves up one priority, so that none waits for ever.

pub(super) mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Limit, Remedy};

/// How the tasks of a run share its agents and what is behind their effects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Scheduling {
    /// How many turns a fairness key gets for one of a key that is not listed.
    pub weights: BTreeMap<String, u32>,
    /// What a limit key allows; the keys are those of [`Limit`].
    pub limits: BTreeMap<String, Limit>,
    /// How long a task waits before it moves up one priority. Default: 10 min.
    pub age: Duration,
    /// Which waiting tasks take an agent from another task.
    pub preemption: Preemption,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            weights: BTreeMap::new(),
            limits: BTreeMap::new(),
            age: Self::AGE_DEFAULT,
            preemption: Preemption::default(),
        }
    }
}

impl Scheduling {
    /// How long a task waits before it moves up one priority unless told otherwise.
    pub const AGE_DEFAULT: Duration = Duration::from_secs(600);
    /// The greatest weight: beyond a thousand to one the others as good as wait.
    pub const WEIGHT_MAX: u32 = 1_000;
    /// The most limits and the most weights.
    pub const KEYS_MAX: usize = 10_000;
    /// The longest fairness or limit key in bytes.
    pub const KEY_BYTES_MAX: usize = 256;

    /// Sets the weight of a fairness key. Default: 1.
    #[must_use]
    pub fn with_weight(mut self, fair_key: impl Into<String>, weight: u32) -> Self {
        self.weights.insert(fair_key.into(), weight);
        self
    }

    /// Sets what a limit key allows. Default: anything.
    #[must_use]
    pub fn with_limit(mut self, key: impl Into<String>, limit: Limit) -> Self {
        self.limits.insert(key.into(), limit);
        self
    }

    /// Sets how long a task waits before it moves up one priority. Default: 10 min.
    #[must_use]
    pub const fn with_age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Sets which waiting tasks take an agent from another task. Default: those of priority 0,
    /// from tasks of priority 2 and less urgent.
    #[must_use]
    pub const fn with_preemption(mut self, preemption: Preemption) -> Self {
        self.preemption = preemption;
        self
    }

    /// Checks the values and names the first key that does not fit.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let range = |min: u32, max| Remedy::Write(format!("a number from {min} to {max}"));
        for (what, n) in [("tenant", self.weights.len()), ("limit", self.limits.len())] {
            if n > Self::KEYS_MAX {
                let reason = format!("there are {n}, and at most {} may be", Self::KEYS_MAX);
                return Err(ConfigError::new(what, reason, Remedy::Remove));
            }
        }
        for (key, weight) in &self.weights {
            check_key("tenant", key)?;
            if !(1..=Self::WEIGHT_MAX).contains(weight) {
                let (at, reason) = (format!("tenant.{key}.weight"), "it is out of range");
                return Err(ConfigError::new(at, reason, range(1, Self::WEIGHT_MAX)));
            }
        }
        for (key, limit) in &self.limits {
            check_key("limit", key)?;
            limit.check(key)?;
        }
        if self.age.is_zero() {
            let remedy = Remedy::Write("more than `0s`".to_owned());
            let reason = "a task cannot rise at once";
            return Err(ConfigError::new("scheduling.age", reason, remedy));
        }
        Ok(())
    }
}

/// Checks a fairness or limit key.
fn check_key(what: &str, key: &str) -> Result<(), ConfigError> {
    if (1..=Scheduling::KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let remedy = Remedy::Write("a key of 1 to 256 bytes".to_owned());
    let reason = format!("a key has {} bytes", key.len());
    Err(ConfigError::new(what, reason, remedy))
}

/// Which waiting tasks take an agent from another task: at its next step the less urgent one is
/// given back; what it recorded stays recorded, so nothing of it is done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Preemption {
    /// The least urgent priority that takes agents; `None` for none. Default: 0.
    pub from: Option<u8>,
    /// How much less urgent the other task must be. Default: 2.
    pub gap: u8,
}

impl Default for Preemption {
    fn default() -> Self {
        Self::new(Some(0), 2)
    }
}

impl Preemption {
    /// Lets tasks of priority `from` and more urgent ones take agents from tasks that are at
    /// least `gap` less urgent.
    #[must_use]
    pub const fn new(from: Option<u8>, gap: u8) -> Self {
        Self { from, gap }
    }

    /// Returns the most urgent priority that gives way to a waiting task.
    #[must_use]
    pub fn victim(&self, waiting: u8) -> Option<u8> {
        let takes = self.from.is_some_and(|from| waiting <= from);
        takes.then(|| waiting.saturating_add(self.gap.max(1)))
    }
}
