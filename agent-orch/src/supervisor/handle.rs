//! The handle a host drives a run with.

use std::collections::BTreeMap;

use agent_core::{AgentId, RunId};

use super::{RunHandle, signed};
use crate::error::{Error, Result};
use crate::inbox::{Answer, Request, RequestId};
use crate::journal::Run;
use crate::registry::AgentRecord;
use crate::task::NewTask;

impl RunHandle {
    /// Returns the run.
    #[must_use]
    pub const fn run(&self) -> &Run {
        &self.run
    }

    /// Returns the id of the run.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.run.id
    }

    /// Returns the agents that run by id, with their budget paths as names.
    #[must_use]
    pub fn agents(&self) -> BTreeMap<AgentId, String> {
        self.crew.ids()
    }

    /// Retires an agent: it finishes its attempt and does not work again. Another one takes its
    /// place. See [`Stack::retire`](crate::Stack::retire).
    ///
    /// # Errors
    /// As [`Stack::retire`](crate::Stack::retire).
    ///
    /// # Cancel safety
    /// As [`Stack::retire`](crate::Stack::retire).
    pub async fn retire(&self, id: AgentId, reason: &str) -> Result<AgentRecord> {
        let _changing = self.crew.changing.lock().await;
        let (fleet, place) = (self.shared.fleet(), self.crew.dismiss(id).await);
        let record = self.crew.stack.retire(id, &fleet, reason).await?;
        if let Some(place) = place {
            self.crew
                .grow(&fleet, &place, fleet.size_of(&place))
                .await?;
        }
        Ok(record)
    }

    /// Adds tasks and returns how many were not there yet.
    ///
    /// # Errors
    /// `Invalid` for a task without a known pool, an oversized key or input; the store's.
    ///
    /// # Cancel safety
    /// Atomic: all or none.
    pub async fn submit(&self, mut tasks: Vec<NewTask>) -> Result<u64> {
        let fleet = self.shared.fleet();
        for task in &mut tasks {
            let pool = fleet.pools.get(&task.pool);
            let pool = pool.ok_or_else(|| Error::not_found("pool", task.pool.as_str()))?;
            pool.limits.bound(task, self.shared.env.clock.now());
        }
        let added = self
            .shared
            .journal
            .submit(&self.host, self.run.id, tasks)
            .await?;
        self.shared.ring_all();
        self.shared.submitted.notify_one();
        Ok(added)
    }

    /// Returns the questions that wait for an answer.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_requests(&self) -> Result<Vec<Request>> {
        self.shared.journal.open_requests(self.run.id).await
    }

    /// Answers a question; its task goes on.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Conflict` as [`crate::Journal::answer`] says.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn answer(&self, id: RequestId, answer: Answer) -> Result<Request> {
        let request = self.shared.journal.answer(&self.host, id, answer).await?;
        self.shared.ring_all();
        self.shared.mail.notify_one();
        Ok(request)
    }

    /// Stops all agents, waits for them and signs the audit chain. Their tasks are released;
    /// opening the run again resumes them.
    ///
    /// # Cancel safety
    /// Cancel safe: the agents stop whether or not this is awaited to its end.
    pub async fn stop(&self) {
        self.halt().await;
        signed(self.sealer.seal().await);
    }

    async fn halt(&self) {
        self.cancel.cancel();
        self.tracker.wait().await;
    }

    /// Stops all agents, ends the run, so that the next one of the subject starts afresh, and signs
    /// the audit chain.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// As [`RunHandle::stop`].
    pub async fn end(&self) -> Result<()> {
        self.halt().await;
        self.shared.journal.end_run(&self.host, self.run.id).await?;
        self.sealer.seal().await?;
        Ok(())
    }
}
