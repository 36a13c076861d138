//! Who may act on a task, and until when.

use agent_core::{AgentId, AttemptId, Fence, TaskId, Timestamp};

use super::Task;
use super::stage::Stage;

/// The right to act on a task until a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// Rises with every lease of the task; each write is checked against it.
    pub fence: Fence,
    /// Who holds it.
    pub owner: AgentId,
    /// The attempt it makes possible.
    pub attempt: AttemptId,
    /// The stage it was taken in.
    pub stage: Stage,
    /// The round it was taken in.
    pub round: u32,
    /// When it ends unless it is renewed, in the store's time.
    pub until: Timestamp,
    /// How often the task had been woken when the lease was taken; what wakes it
    /// afterwards keeps it from parking.
    pub wakes: u64,
}

impl Lease {
    /// Describes a lease on a task as it stands, for backends that hand it out.
    #[must_use]
    pub const fn new(
        task: &Task,
        fence: Fence,
        owner: AgentId,
        attempt: AttemptId,
        until: Timestamp,
    ) -> Self {
        Self {
            task: task.id,
            fence,
            owner,
            attempt,
            stage: task.stage,
            round: task.round,
            until,
            wakes: 0,
        }
    }
}

/// A task and the lease on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The task as it stood when it was claimed.
    pub task: Task,
    /// The lease.
    pub lease: Lease,
}

impl Claim {
    /// Joins a task and the lease on it.
    #[must_use]
    pub const fn new(task: Task, lease: Lease) -> Self {
        Self { task, lease }
    }
}
