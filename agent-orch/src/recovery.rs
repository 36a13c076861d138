//! Recovery as a table: the class of an error chooses a ladder of actions, the count of such
//! errors chooses the rung.
//!
//! | class | default ladder |
//! |---|---|
//! | `transient` | retry ×5, fallback ×2, reassign ×1, fail |
//! | `rate_limited` | retry ×8, fallback ×2, escalate |
//! | `timeout` | retry ×2, fallback ×2, reassign ×1, fail |
//! | `invalid_input` | repair ×2, fail |
//! | `permission_denied` | escalate |
//! | `budget_exceeded` | escalate |
//! | `conflict` | repair ×5, escalate |
//! | `in_doubt` | escalate |
//! | `stuck` | reassign ×1, escalate |
//! | `bug` | reassign ×2, fail |
//!
//! A pool may replace ladders for its own tasks. A `fallback` rung counts only as far as the pool
//! has something to fall back on. Beside the rungs of a class, the failures of all classes together
//! are counted: a task that has used up its retries is answered by the last rung at once, so that
//! classes that take turns end too. A task that fails, by a ladder or otherwise, first undoes the
//! steps it declared an undo action for.

mod table;

use std::fmt;
use std::str::FromStr;

use agent_core::{ErrorKind, Failure, Retry};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use table::{Backoff, RecoveryTable};
pub(crate) use table::{climb, last};

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
    /// The same again with the pool's next model or tool, and after the last of them a new round
    /// by the agents of another pool.
    Fallback,
    /// A new round in which the agent is given the error.
    Repair,
    /// A new round with a clean context by another agent.
    Reassign,
    /// The task waits, without a lease, until somebody says that it may go on or the deadline of
    /// escalation passes; then the same stage again.
    Park,
    /// A person decides; the task waits without a lease.
    Escalate,
    /// The steps that have an undo action are undone, the latest first; then the task ends as
    /// failed.
    Compensate,
    /// The task ends as failed, undoing its steps first unless the pool undoes only when a ladder
    /// says `compensate`.
    Fail,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 8] = [
        Self::Retry,
        Self::Fallback,
        Self::Repair,
        Self::Reassign,
        Self::Park,
        Self::Escalate,
        Self::Compensate,
        Self::Fail,
    ];

    /// Returns the name used in manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Fallback => "fallback",
            Self::Repair => "repair",
            Self::Reassign => "reassign",
            Self::Park => "park",
            Self::Escalate => "escalate",
            Self::Compensate => "compensate",
            Self::Fail => "fail",
        }
    }

    /// Returns whether a ladder may end in it: no further failure follows by itself.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Escalate | Self::Compensate | Self::Fail)
    }
}

/// One rung of a ladder: an action and how often it is tried. Written `retry:5`; `escalate`,
/// `compensate` and `fail` stand alone.
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
        let name = self.action.name();
        if self.action.is_last() {
            f.write_str(name)
        } else {
            write!(f, "{name}:{}", self.times)
        }
    }
}

impl FromStr for Rung {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "expected `retry:N`, `fallback:N`, `repair:N`, `reassign:N`, `park:N`, \
                        `escalate`, `compensate` or `fail`";
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let action = Action::ALL
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
