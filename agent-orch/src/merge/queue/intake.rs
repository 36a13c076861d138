//! Handing changes to a queue.

use std::sync::Arc;

use agent_core::{AgentId, TaskId};

use super::Shared;
use crate::merge::error::{Error, Result};
use crate::merge::lane::Change;
use crate::merge::object::ObjectId;
use crate::merge::plan::Snapshot;
use crate::merge::status::Status;

/// A change handed to the queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Submission {
    /// The task the change settles; it names the change.
    pub task: TaskId,
    /// The agent that made it.
    pub agent: AgentId,
    /// Its commit.
    pub head: ObjectId,
    /// 0 is the most urgent, 4 the least.
    pub priority: u8,
    /// The tasks whose changes must land first.
    pub after: Vec<TaskId>,
}

impl Submission {
    /// Hands in a commit: priority 2, after nothing.
    #[must_use]
    pub const fn new(task: TaskId, agent: AgentId, head: ObjectId) -> Self {
        Self {
            task,
            agent,
            head,
            priority: 2,
            after: Vec::new(),
        }
    }

    /// Sets the priority. Default: 2.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the tasks whose changes must land first. Default: none.
    #[must_use]
    pub fn with_after(mut self, after: Vec<TaskId>) -> Self {
        self.after = after;
        self
    }
}

/// Hands changes to a queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    pub(super) shared: Arc<Shared>,
}

impl Intake {
    /// Hands in a change and returns where it stands: `Waiting`, or the final status its commit or,
    /// if the task's change landed, its task already has.
    ///
    /// # Errors
    /// `NotFound` if the commit does not exist or shares no history with the target; `Invalid` for a
    /// path no checkout can hold; `TooLarge` if the queue is full.
    ///
    /// # Cancel safety
    /// Atomic and idempotent.
    pub async fn enqueue(&self, submission: Submission) -> Result<Status> {
        let Submission {
            task,
            agent,
            head,
            priority,
            after,
        } = submission;
        let (repo, target) = (&self.shared.repo, &self.shared.target);
        if let Some(commit) = repo.landed(target, task).await? {
            return Ok(Status::Landed { commit });
        }
        let paths = repo.touched(target, head).await?;
        let change = Change::new(task, agent, head, paths)
            .with_priority(priority)
            .with_after(after);
        let status = self.shared.state.lock().admit(change);
        let full = || Error::limit("the queue's changes", Snapshot::WAITING_MAX, usize::MAX);
        let Some(status) = status else {
            return full().map(|()| Status::Waiting);
        };
        self.shared.arrived.notify_one();
        Ok(status)
    }

    /// Returns where a task's change stands.
    #[must_use]
    pub fn status(&self, task: TaskId) -> Option<Status> {
        self.shared.state.lock().status(task)
    }

    /// Returns what the queue knows, to be kept and handed to
    /// [`QueueConfig::with_snapshot`](super::QueueConfig::with_snapshot).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.state.lock().clone()
    }
}
