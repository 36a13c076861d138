//! What the outside tells tasks: signals and the answers to awakeables.

use agent_core::{Failure, Principal};
use serde_json::Value;

use super::RunHandle;
use crate::error::Result;
use crate::wait::{Resolution, Signal, TaskRef, Wait, WaitId};

impl RunHandle {
    /// Sends a signal to a task and returns whether it was not there yet.
    ///
    /// # Errors
    /// As [`crate::Journal::signal`].
    ///
    /// # Cancel safety
    /// Atomic; send it again with the same key if the answer was lost.
    pub async fn signal(&self, task: impl Into<TaskRef> + Send, signal: Signal) -> Result<bool> {
        let task = task.into().id(self.run.id);
        let scope = self.host.clone().with_run(self.run.id);
        let is_new = self.shared.journal.signal(&scope, task, signal).await?;
        self.shared.ring_all();
        Ok(is_new)
    }

    /// Answers an awakeable with a value.
    ///
    /// # Errors
    /// As [`crate::Journal::resolve`].
    ///
    /// # Cancel safety
    /// Atomic; the same answer may be given again.
    pub async fn resolve(&self, id: WaitId, value: Value, by: Principal) -> Result<()> {
        self.end_wait(id, Resolution::new(Ok(value), by)).await
    }

    /// Answers an awakeable with a failure, which its agent sees as a value.
    ///
    /// # Errors
    /// As [`crate::Journal::resolve`].
    ///
    /// # Cancel safety
    /// Atomic; the same answer may be given again.
    pub async fn reject(&self, id: WaitId, failure: Failure, by: Principal) -> Result<()> {
        self.end_wait(id, Resolution::new(Err(failure), by)).await
    }

    /// Returns the waits nothing has ended yet, those due next first, at most
    /// [`Wait::PAGE_MAX`].
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_waits(&self) -> Result<Vec<Wait>> {
        self.shared.journal.open_waits(self.run.id).await
    }

    async fn end_wait(&self, id: WaitId, resolution: Resolution) -> Result<()> {
        let scope = self.host.clone().with_run(self.run.id);
        self.shared.journal.resolve(&scope, id, resolution).await?;
        self.shared.ring_all();
        Ok(())
    }
}
