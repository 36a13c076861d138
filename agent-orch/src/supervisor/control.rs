//! Pausing, resuming, canceling and forking a run that works.

use agent_core::{Scope, TaskId};

use super::RunHandle;
use crate::error::Result;
use crate::journal::Run;
use crate::runner::{Shared, check_leases};
use crate::task::Task;
use crate::tree::{Control, Controlled, Target};

impl RunHandle {
    /// Pauses tasks with what they delegated: nothing of it is claimed, its timers do not start
    /// it, and attempts under way give their task back at their next step.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic; attempts of this process are told before it returns, others see it at their next
    /// step.
    pub async fn pause(&self, target: Target) -> Result<Controlled> {
        let done = self.control(target, Control::Pause).await?;
        for task in &done.changed {
            self.shared.attempts.ask_to_yield(*task);
        }
        self.shared.moved.notify_waiters();
        Ok(done)
    }

    /// Lets paused tasks go on where they were.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn resume(&self, target: Target) -> Result<Controlled> {
        let done = self.control(target, Control::Resume).await?;
        self.shared.ring_all();
        Ok(done)
    }

    /// Cancels tasks with what they delegated. Their holders can write nothing any more; attempts
    /// of this process are stopped at once with whatever they run, others when they next write or
    /// renew their lease.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic; if dropped between commit and stopping, attempts stop when they renew their lease.
    pub async fn cancel(&self, target: Target, reason: &str) -> Result<Controlled> {
        let done = self.control(target, Control::cancel(reason)).await?;
        let leases = self.shared.attempts.leases();
        check_leases(&self.shared, leases).await;
        self.shared.ring_all();
        Ok(done)
    }

    async fn control(&self, target: Target, control: Control) -> Result<Controlled> {
        let journal = &self.shared.journal;
        journal.control(&self.host, target, control).await
    }

    /// Starts a run under another subject from what this one was after an audit record, to be
    /// given to another [`crate::Supervisor`].
    ///
    /// # Errors
    /// As [`crate::Journal::fork`].
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn fork(&self, at: u64, subject: &str) -> Result<Run> {
        let (journal, run) = (&self.shared.journal, self.run.id);
        journal.fork(&self.host, run, at, subject.to_owned()).await
    }

    /// Returns a task as it stood after an audit record; the run goes on meanwhile.
    ///
    /// # Errors
    /// As [`crate::Journal::task_at`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn task_at(&self, task: TaskId, at: u64) -> Result<Task> {
        self.shared.journal.task_at(task, at).await
    }
}

/// Puts tasks that wait for a pool nobody runs to a person.
pub(super) async fn find_orphans(shared: &Shared, host: &Scope) -> Result<()> {
    let (journal, run) = (&shared.journal, shared.run);
    for queue in journal.queues(run).await? {
        if shared.bell(&queue.pool).is_none() {
            let until = shared
                .env
                .clock
                .now()
                .after(shared.fleet().escalation.deadline);
            journal.orphan(host, run, queue.pool, until).await?;
        }
    }
    Ok(())
}
