//! Delegation: tasks that tasks make, and what is done to a whole tree of them.

use agent_core::{ErrorKind, Failure, Retry, RunId, TaskId};
use serde_json::Value;

use crate::task::{NewTask, Status, Task};

/// Children to add to a task that is held.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spawn {
    /// The children in order.
    pub children: Vec<NewChild>,
    /// How many delegations a task may be away from its root.
    pub depth_max: u32,
    /// How many children one task may have, over all rounds.
    pub children_max: u32,
}

impl Spawn {
    /// How deep a delegation tree may be by default.
    pub const DEPTH_DEFAULT: u32 = 3;
    /// How many children a task may have by default.
    pub const CHILDREN_DEFAULT: u32 = 256;

    /// Adds children under the default limits: 3 deep, 256 a task.
    #[must_use]
    pub const fn new(children: Vec<NewChild>) -> Self {
        Self {
            children,
            depth_max: Self::DEPTH_DEFAULT,
            children_max: Self::CHILDREN_DEFAULT,
        }
    }
}

/// A child to add: its work, and which of the parent's steps makes it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewChild {
    /// The work; its key names it within the parent's round.
    pub task: NewTask,
    /// Which child of that key.
    pub ordinal: u32,
}

impl NewChild {
    /// Describes a child.
    #[must_use]
    pub const fn new(task: NewTask, ordinal: u32) -> Self {
        Self { task, ordinal }
    }

    /// The task under the key it has in the run: the same for every attempt of the parent's
    /// round, and for a fork of it.
    pub(crate) fn named(&self, parent: &Task) -> NewTask {
        let key = format!(
            "{}/{}.{}/{}#{}",
            parent.key, parent.round, parent.stage, self.task.key, self.ordinal
        );
        NewTask {
            key,
            fair_key: self
                .task
                .fair_key
                .clone()
                .or_else(|| Some(parent.fair_key.clone())),
            tree_budget: None,
            tree_retries: None,
            ..self.task.clone()
        }
    }
}

/// A child of a task: what to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Child {
    /// The child's task.
    pub id: TaskId,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChildEnd {
    /// The child's task.
    pub id: TaskId,
    /// The terminal state.
    pub status: Status,
    /// What it produced, if it completed.
    pub output: Option<Value>,
    /// Why it did not complete, or what it met on the way.
    pub failure: Option<Failure>,
}

impl ChildEnd {
    pub(crate) fn of(task: Task) -> Self {
        let completed = task.status == Status::Completed;
        Self {
            id: task.id,
            status: task.status,
            output: task.output.filter(|_| completed),
            failure: task.failure,
        }
    }

    /// Returns what the child produced.
    ///
    /// # Errors
    /// The child's failure, if it did not complete.
    pub fn into_output(self) -> Result<Value, Failure> {
        match (self.status, self.output) {
            (Status::Completed, output) => Ok(output.unwrap_or(Value::Null)),
            (status, _) => Err(self.failure.unwrap_or_else(|| {
                Failure::new(
                    ErrorKind::Canceled,
                    Retry::Never,
                    "orch.child_ended",
                    &format!("the child ended as {status}"),
                    "look at the child's records",
                )
            })),
        }
    }
}

/// What is paused, resumed or canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// All tasks of a run.
    Run(RunId),
    /// A task and what it delegated, save detached children: these stand on their own.
    Task(TaskId),
}

/// What is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Nothing of it is claimed, its timers do not start it, and whoever holds a task gives it
    /// back at its next step.
    Pause,
    /// It goes on where it was.
    Resume,
    /// It ends now: its holders can do nothing more, its questions are closed, its money is
    /// freed save that of effects nobody knows the outcome of.
    #[non_exhaustive]
    Cancel {
        /// Why, for the record.
        reason: String,
    },
}

impl Control {
    /// Cancels for a reason.
    #[must_use]
    pub fn cancel(reason: impl Into<String>) -> Self {
        Self::Cancel {
            reason: reason.into(),
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel { .. } => "cancel",
        }
    }
}

/// What was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Controlled {
    /// The tasks that changed; none if all had ended or stood so already.
    pub changed: Vec<TaskId>,
}

/// The code of tasks that somebody canceled.
pub(crate) const CANCELED: &str = "orch.canceled";

pub(crate) fn canceled(reason: &str) -> Failure {
    failure(CANCELED, reason)
}

pub(crate) fn parent_ended() -> Failure {
    failure(
        "orch.parent_ended",
        "the task that delegated it ended or began anew",
    )
}

fn failure(code: &'static str, message: &str) -> Failure {
    let fix = "submit it again if it is still wanted";
    Failure::new(ErrorKind::Canceled, Retry::Never, code, message, fix)
}
