//! Where a change stands.

use agent_core::TaskId;
use serde::{Deserialize, Serialize};

use super::conflict::Conflict;
use super::object::ObjectId;

/// Who resolves a conflict next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resolution {
    /// The author makes the change again on the commit named beside it.
    Author,
    /// A resolver agent, one at a time per lane.
    Resolver,
    /// A person.
    Human,
}

/// Why a change will not land as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejection {
    /// It failed its check alone.
    #[non_exhaustive]
    CheckFailed {
        /// What the check said.
        summary: String,
    },
    /// It must land after a change that was rejected.
    #[non_exhaustive]
    DependencyRejected {
        /// That change.
        task: TaskId,
    },
    /// The queue was closed while it waited.
    Closed,
}

/// Where a change stands. All but `Waiting` are final for its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// In the queue.
    Waiting,
    /// Landed.
    #[non_exhaustive]
    Landed {
        /// The merge commit.
        commit: ObjectId,
    },
    /// Will not land.
    #[non_exhaustive]
    Rejected {
        /// Why.
        rejection: Rejection,
    },
    /// Does not fit the target. The task may propose another commit.
    #[non_exhaustive]
    Conflicted {
        /// Where; empty if it shares no history with the target.
        conflicts: Vec<Conflict>,
        /// The commit it was tried on, and should be made again on.
        onto: ObjectId,
        /// Who acts next.
        resolution: Resolution,
    },
}

/// A change that reached a final status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settled {
    /// The task.
    pub task: TaskId,
    /// The change's commit.
    pub head: ObjectId,
    /// Where it stands.
    pub status: Status,
}
