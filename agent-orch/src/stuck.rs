//! Tasks that should have moved and did not.

use agent_core::TaskId;
use serde::Serialize;

/// A task that nothing moves any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stuck {
    /// The task.
    pub task: TaskId,
    /// Why nothing moves it.
    pub why: Why,
}

impl Stuck {
    /// Names a task and why nothing moves it.
    #[must_use]
    pub const fn new(task: TaskId, why: Why) -> Self {
        Self { task, why }
    }
}

/// Why nothing moves a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// Its time is over and it has not ended.
    Overdue,
    /// Its moment has come and it is still delayed.
    NotPromoted,
    /// Its lease ended and was not taken back.
    LeaseLapsed,
    /// It is parked and there is nothing it waits for.
    WaitsForNothing,
    /// It ended, and a person is still asked about it.
    AsksAfterItsEnd,
}
