//! Waiting that survives the process: timers, signals and awakeables, as one notion.
//!
//! A [`Wait`] is a step that ends when the first of its [`Source`]s happens. The journal keeps when
//! each source happened in the store's time, so that the winner is the same whoever looks and
//! whenever; once somebody has looked, the winner is recorded and a resumed attempt gets it again.

use std::fmt;
use std::time::Duration;

use agent_core::{
    Digest, ErrorKind, Failure, IdempotencyKey, Principal, Retry, RunId, TaskId, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::inbox::RequestId;
use crate::journal::StepKey;
use crate::task::{Lease, NewTask};

agent_core::define_id!(
    /// A wait; derived from the step it is, so that a resumed attempt finds it again.
    WaitId, "wait"
);

impl WaitId {
    /// Returns the id of the wait that a step of an attempt is.
    #[must_use]
    pub fn of(lease: &Lease, step: &StepKey) -> Self {
        let named = format!(
            "{}/{}/{}/{}/{}",
            lease.task, lease.round, lease.stage, step.name, step.ordinal
        );
        Self::from_bits(Digest::of_bytes(named.as_bytes()).to_bits())
    }
}

/// What a task that parked waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited {
    /// The answer of a person.
    Request(RequestId),
    /// A timer, a signal or an awakeable.
    Wait(WaitId),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(id) => write!(f, "the answer to {id}"),
            Self::Wait(id) => write!(f, "{id}"),
        }
    }
}

/// A moment in the store's time; the first look at a wait fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Due {
    /// This moment.
    At(Timestamp),
    /// This long after the first look.
    In(Duration),
}

impl Due {
    /// Returns the moment, for a first look at `now`.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(after) => now.after(after),
        }
    }
}

impl From<Timestamp> for Due {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

impl From<Duration> for Due {
    fn from(after: Duration) -> Self {
        Self::In(after)
    }
}

/// Something that can end a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A moment comes.
    Due(Due),
    /// A signal of this name comes.
    Signal(String),
    /// Somebody outside resolves or rejects this very wait: it is an awakeable.
    Answer,
    /// An awakeable of the same task is resolved, rejected or past its deadline.
    Awakeable(WaitId),
}

impl Source {
    /// A moment.
    #[must_use]
    pub fn due(due: impl Into<Due>) -> Self {
        Self::Due(due.into())
    }

    /// A signal.
    #[must_use]
    pub fn signal(name: impl Into<String>) -> Self {
        Self::Signal(name.into())
    }
}

/// What ended a wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Happened {
    /// The moment came; for an awakeable, its deadline passed.
    Due,
    /// A signal came.
    #[non_exhaustive]
    Signal {
        /// What it carried.
        payload: Value,
        /// Who sent it.
        by: Principal,
    },
    /// An awakeable was resolved.
    #[non_exhaustive]
    Resolved {
        /// With what.
        value: Value,
        /// By whom.
        by: Principal,
    },
    /// An awakeable was rejected.
    #[non_exhaustive]
    Rejected {
        /// How.
        failure: Failure,
        /// By whom.
        by: Principal,
    },
}

impl Happened {
    /// Returns what an awakeable came to.
    ///
    /// # Errors
    /// The failure it was rejected with, or `TimedOut` past its deadline.
    pub fn into_answer(self) -> Result<Value, Failure> {
        match self {
            Self::Signal { payload: value, .. } | Self::Resolved { value, .. } => Ok(value),
            Self::Rejected { failure, .. } => Err(failure),
            Self::Due => Err(Failure::new(
                ErrorKind::TimedOut,
                Retry::Never,
                "orch.wait_timed_out",
                "nobody answered before the deadline",
                "go on without the answer, or ask again with a later deadline",
            )),
        }
    }
}

/// The first of several sources that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct First {
    /// Its place among the sources, counted from zero.
    pub source: usize,
    /// What happened.
    pub happened: Happened,
}

/// A wait to look at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewWait {
    /// Which step waits.
    pub step: StepKey,
    /// What can end it; of two that happened in the same millisecond the one listed first wins.
    pub sources: Vec<Source>,
}

impl NewWait {
    /// The most sources of one wait.
    pub const SOURCES_MAX: usize = 16;

    /// Describes a wait.
    #[must_use]
    pub const fn new(step: StepKey, sources: Vec<Source>) -> Self {
        Self { step, sources }
    }

    /// Returns an error unless the wait can end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.sources.is_empty() || self.sources.len() > Self::SOURCES_MAX {
            return Err(Error::invalid("wait.sources", "a wait has 1 to 16 sources"));
        }
        self.sources.iter().try_for_each(|source| match source {
            Source::Signal(name) => check_name(name),
            _ => Ok(()),
        })
    }
}

/// A wait as it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wait {
    /// The wait.
    pub id: WaitId,
    /// The run.
    pub run: RunId,
    /// The task that waits.
    pub task: TaskId,
    /// Which step waits.
    pub step: StepKey,
    /// What can end it, with moments fixed.
    pub sources: Vec<Source>,
    /// What ended it, once somebody has looked.
    pub first: Option<First>,
}

impl Wait {
    /// The most waits of one answer.
    pub const PAGE_MAX: usize = 1_000;

    /// Returns the earliest moment that ends it.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.sources
            .iter()
            .filter_map(|source| match source {
                Source::Due(Due::At(at)) => Some(*at),
                _ => None,
            })
            .min()
    }

    /// Returns whether it ends by itself and nobody outside can end it earlier.
    #[must_use]
    pub fn is_timer(&self) -> bool {
        let is_due = |source: &Source| matches!(source, Source::Due(_));
        self.sources.iter().all(is_due)
    }
}

/// A message from outside to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signal {
    /// What the task waits for it as.
    pub name: String,
    /// What it carries; no secrets.
    pub payload: Value,
    /// Sending the same key to the same task again is the same signal.
    pub key: IdempotencyKey,
    /// Who sends it, if not the scope's actor.
    pub by: Option<Principal>,
}

impl Signal {
    /// The longest name in bytes.
    pub const NAME_BYTES_MAX: usize = 256;
    /// The largest payload in bytes; bulk data belongs in a file or blob the payload names.
    pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;
    /// The most signals of one name a task keeps unread: beyond that the sender must wait.
    pub const UNREAD_MAX: usize = 1_024;
    /// The most signals one task takes in its life: their keys are remembered until it ends.
    pub const PER_TASK_MAX: u64 = 100_000;

    /// Describes a signal from the scope's actor.
    #[must_use]
    pub fn new(name: impl Into<String>, payload: Value, key: IdempotencyKey) -> Self {
        Self {
            name: name.into(),
            payload,
            key,
            by: None,
        }
    }

    /// Names the sender. Default: the actor of the scope it is sent in.
    #[must_use]
    pub fn with_sender(mut self, by: Principal) -> Self {
        self.by = Some(by);
        self
    }

    /// Returns an error if a part is too large.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.payload.to_string().len() > Self::PAYLOAD_BYTES_MAX {
            return Err(Error::invalid(
                "signal.payload",
                "the payload is over 256 KiB; send where it lies",
            ));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > Signal::NAME_BYTES_MAX {
        return Err(Error::invalid("signal.name", "a name has 1 to 256 bytes"));
    }
    Ok(())
}

/// How somebody outside ends an awakeable.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resolution {
    /// The value, or the failure the agent sees.
    pub result: Result<Value, Failure>,
    /// Who says so.
    pub by: Principal,
}

impl Resolution {
    /// The largest value in bytes; bulk data belongs in a file or blob the value names.
    pub const VALUE_BYTES_MAX: usize = Signal::PAYLOAD_BYTES_MAX;

    /// Describes an answer.
    #[must_use]
    pub const fn new(result: Result<Value, Failure>, by: Principal) -> Self {
        Self { result, by }
    }
}

/// A task by its id or by its key within the run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskRef {
    /// By id.
    Id(TaskId),
    /// By key.
    Key(String),
}

impl TaskRef {
    /// Returns the id the task has in a run.
    #[must_use]
    pub fn id(&self, run: RunId) -> TaskId {
        match self {
            Self::Id(id) => *id,
            Self::Key(key) => NewTask::new(key.as_str(), "", Value::Null).id(run),
        }
    }
}

impl From<TaskId> for TaskRef {
    fn from(id: TaskId) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for TaskRef {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}
