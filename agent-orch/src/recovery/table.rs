//! The ladders by class, and the waits between tries.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::BackoffBuilder;
use serde::{Deserialize, Serialize};

use super::{Action, Class, Rung};
use crate::error::{Error, Result};

/// How long to wait between retries: exponential with a factor of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Default for Backoff {
    /// One second, doubling up to a minute.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }
}

impl Backoff {
    /// Creates a backoff.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// Returns the wait after failure number `n`, counted from one, with up to as much jitter
    /// again, drawn from `seed`.
    #[must_use]
    pub fn wait(&self, n: u32, seed: u64) -> Duration {
        backon::ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.cap)
            .with_max_times(64)
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
            .nth(usize::try_from(n.clamp(1, 64) - 1).unwrap_or(0))
            .unwrap_or(self.cap)
    }
}

/// The ladders by class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecoveryTable(BTreeMap<Class, Vec<Rung>>);

impl Default for RecoveryTable {
    fn default() -> Self {
        use Action::{Escalate, Fail, Fallback, Reassign, Repair, Retry};
        let ladder = |class| -> Vec<Rung> {
            let rungs: &[(Action, u32)] = match class {
                Class::Transient => &[(Retry, 5), (Fallback, 2), (Reassign, 1), (Fail, 1)],
                Class::RateLimited => &[(Retry, 8), (Fallback, 2), (Escalate, 1)],
                Class::Timeout => &[(Retry, 2), (Fallback, 2), (Reassign, 1), (Fail, 1)],
                Class::InvalidInput => &[(Repair, 2), (Fail, 1)],
                Class::PermissionDenied | Class::BudgetExceeded | Class::InDoubt => {
                    &[(Escalate, 1)]
                }
                Class::Conflict => &[(Repair, 5), (Escalate, 1)],
                Class::Stuck => &[(Reassign, 1), (Escalate, 1)],
                Class::Bug => &[(Reassign, 2), (Fail, 1)],
            };
            rungs
                .iter()
                .map(|&(action, times)| Rung::new(action, times))
                .collect()
        };
        Self(
            Class::ALL
                .into_iter()
                .map(|class| (class, ladder(class)))
                .collect(),
        )
    }
}

impl RecoveryTable {
    /// A table without ladders, to hold those of a pool that differ from its fleet's.
    #[must_use]
    pub const fn empty() -> Self {
        Self(BTreeMap::new())
    }

    /// Replaces the ladder of one class. Default: the table in this module's documentation.
    ///
    /// # Errors
    /// `Invalid` if the ladder does not end in `escalate`, `compensate` or `fail`, or has one of
    /// them before its end, since a task must reach an end and nothing follows one.
    pub fn with(mut self, class: Class, ladder: Vec<Rung>) -> Result<Self> {
        let wrong =
            |reason: &str| Err(Error::invalid(format!("recovery.{}", class.name()), reason));
        match ladder.split_last() {
            Some((last, _)) if !last.action.is_last() => {
                wrong("the last action must be `escalate`, `compensate` or `fail`")
            }
            None => wrong("a ladder has at least `fail`"),
            Some((_, before)) if before.iter().any(|rung| rung.action.is_last()) => {
                wrong("nothing follows `escalate`, `compensate` or `fail`")
            }
            Some(_) => {
                self.0.insert(class, ladder);
                Ok(self)
            }
        }
    }

    /// Returns the ladder of a class; empty if the table has none.
    #[must_use]
    pub fn ladder(&self, class: Class) -> &[Rung] {
        self.0.get(&class).map_or(&[], Vec::as_slice)
    }

    /// Returns the classes that have a ladder.
    pub fn classes(&self) -> impl Iterator<Item = Class> + '_ {
        self.0.keys().copied()
    }

    /// Returns what to do about failure number `n` of a class, counted from one, where nothing can
    /// be fallen back on. The last rung answers all further failures.
    #[must_use]
    pub fn action(&self, class: Class, n: u32) -> Action {
        climb(self.ladder(class), n, 0)
    }
}

/// Returns the action for failure number `n`, counted from one, where `n_fallbacks` alternatives
/// can be tried one after the other. The last rung answers all further failures.
pub(crate) fn climb(ladder: &[Rung], n: u32, n_fallbacks: u32) -> Action {
    let mut left = n.max(1);
    let mut fallbacks = n_fallbacks;
    for rung in ladder {
        let times = if rung.action == Action::Fallback {
            let times = rung.times.min(fallbacks);
            fallbacks = fallbacks.saturating_sub(times);
            times
        } else {
            rung.times
        };
        if left <= times {
            return rung.action;
        }
        left = left.saturating_sub(times);
    }
    last(ladder)
}

/// Returns the end of a ladder.
pub(crate) fn last(ladder: &[Rung]) -> Action {
    ladder.last().map_or(Action::Fail, |rung| rung.action)
}
