//! Recovery as a table: the class of an error chooses a ladder of actions, the count of such
//! errors chooses the rung.
//!
//! | class | default ladder |
//! |---|---|
//! | transient | retry ×5, reassign ×1, fail |
//! | rate_limited | retry ×8, escalate |
//! | timeout | retry ×2, reassign ×1, fail |
//! | invalid_input | repair ×2, fail |
//! | permission_denied | escalate |
//! | budget_exceeded | escalate |
//! | conflict | repair ×5, escalate |
//! | in_doubt | escalate |
//! | stuck | reassign ×1, escalate |
//! | bug | reassign ×2, fail |

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use agent_core::{ErrorKind, Failure, Retry};
use backon::BackoffBuilder;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What kind of trouble an attempt ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Class {
    /// The other side was away; it may come back.
    Transient,
    /// The other side asked to wait.
    RateLimited,
    /// The deadline passed.
    Timeout,
    /// The input is wrong; the same input fails again.
    InvalidInput,
    /// A gate or grant refused the effect.
    PermissionDenied,
    /// A budget refused the reservation.
    BudgetExceeded,
    /// Somebody else's change came first.
    Conflict,
    /// Nobody knows whether the effect happened.
    InDoubt,
    /// No progress, or the same call over and over.
    Stuck,
    /// A panic or a broken promise of our own code.
    Bug,
}

impl Class {
    /// All classes, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Transient,
        Self::RateLimited,
        Self::Timeout,
        Self::InvalidInput,
        Self::PermissionDenied,
        Self::BudgetExceeded,
        Self::Conflict,
        Self::InDoubt,
        Self::Stuck,
        Self::Bug,
    ];

    /// The code of a failure that says an agent makes no progress.
    pub const STUCK_CODE: &'static str = "orch.stuck";

    /// Returns the class of a failure: the one place where error kinds meet the recovery table.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        match failure.code.as_str() {
            "orch.in_doubt" => return Self::InDoubt,
            Self::STUCK_CODE => return Self::Stuck,
            code if code.starts_with("pay.") && failure.kind == ErrorKind::Exhausted => {
                return Self::BudgetExceeded;
            }
            _ => {}
        }
        match failure.kind {
            ErrorKind::Unavailable | ErrorKind::Exhausted if failure.retry_after_ms.is_some() => {
                Self::RateLimited
            }
            ErrorKind::Unavailable | ErrorKind::Canceled => Self::Transient,
            ErrorKind::Exhausted if failure.retry == Retry::Never => Self::Stuck,
            ErrorKind::Exhausted => Self::Transient,
            ErrorKind::TimedOut => Self::Timeout,
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Unsupported => Self::InvalidInput,
            ErrorKind::Denied => Self::PermissionDenied,
            ErrorKind::Conflict => Self::Conflict,
            _ => Self::Bug,
        }
    }

    /// Returns the name used in manifests and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::InvalidInput => "invalid_input",
            Self::PermissionDenied => "permission_denied",
            Self::BudgetExceeded => "budget_exceeded",
            Self::Conflict => "conflict",
            Self::InDoubt => "in_doubt",
            Self::Stuck => "stuck",
            Self::Bug => "bug",
        }
    }
}

impl FromStr for Class {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|class| class.name() == name)
            .ok_or_else(|| Error::invalid(format!("recovery.{name}"), "no such error class"))
    }
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// The same stage again after a growing wait; finished steps are not repeated.
    Retry,
    /// A new round in which the agent is given the error.
    Repair,
    /// A new round with a clean context by another agent.
    Reassign,
    /// A person decides; the task waits without a lease.
    Escalate,
    /// The task ends as failed.
    Fail,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Repair => "repair",
            Self::Reassign => "reassign",
            Self::Escalate => "escalate",
            Self::Fail => "fail",
        }
    }
}

/// One rung of a ladder: an action and how often it is tried. Written `retry:5`; `fail` and
/// `escalate` stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub struct Rung {
    /// What is done.
    pub action: Action,
    /// How many failures of the class this rung answers.
    pub times: u32,
}

impl Rung {
    /// The most tries of one rung: beyond that a task only burns its budget.
    pub const TIMES_MAX: u32 = 1_000;

    /// Creates a rung.
    #[must_use]
    pub const fn new(action: Action, times: u32) -> Self {
        Self { action, times }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Fail | Action::Escalate => f.write_str(self.action.name()),
            action => write!(f, "{}:{}", action.name(), self.times),
        }
    }
}

impl FromStr for Rung {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "expected `retry:N`, `repair:N`, `reassign:N`, `escalate` or `fail`";
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let action = [
            Action::Retry,
            Action::Repair,
            Action::Reassign,
            Action::Escalate,
            Action::Fail,
        ]
        .into_iter()
        .find(|action| action.name() == name)
        .ok_or_else(|| Error::invalid(format!("recovery action `{text}`"), expected))?;
        let times = times
            .parse()
            .ok()
            .filter(|n| (1..=Self::TIMES_MAX).contains(n))
            .ok_or_else(|| Error::invalid(format!("recovery action `{text}`"), expected))?;
        Ok(Self { action, times })
    }
}

impl TryFrom<String> for Rung {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Rung> for String {
    fn from(rung: Rung) -> Self {
        rung.to_string()
    }
}

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
        use Action::{Escalate, Fail, Reassign, Repair, Retry};
        let ladder = |class| -> Vec<Rung> {
            let rungs: &[(Action, u32)] = match class {
                Class::Transient => &[(Retry, 5), (Reassign, 1), (Fail, 1)],
                Class::RateLimited => &[(Retry, 8), (Escalate, 1)],
                Class::Timeout => &[(Retry, 2), (Reassign, 1), (Fail, 1)],
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
    /// Replaces the ladder of one class. Default: the table in this module's documentation.
    ///
    /// # Errors
    /// `Invalid` if the ladder is empty or does not end in `escalate` or `fail`, since a task must
    /// reach an end.
    pub fn with(mut self, class: Class, ladder: Vec<Rung>) -> Result<Self> {
        match ladder.last().map(|rung| rung.action) {
            Some(Action::Escalate | Action::Fail) => {
                self.0.insert(class, ladder);
                Ok(self)
            }
            _ => Err(Error::invalid(
                format!("recovery.{}", class.name()),
                "the last action must be `escalate` or `fail`",
            )),
        }
    }

    /// Returns what to do about failure number `n` of a class, counted from one. The last rung
    /// answers all further failures.
    #[must_use]
    pub fn action(&self, class: Class, n: u32) -> Action {
        let mut left = n.max(1);
        let mut last = Action::Fail;
        for rung in self.0.get(&class).into_iter().flatten() {
            if left <= rung.times {
                return rung.action;
            }
            left -= rung.times;
            last = rung.action;
        }
        last
    }
}
