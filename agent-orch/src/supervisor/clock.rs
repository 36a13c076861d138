//! What happens by the clock: schedules, and messages on their way out.

use std::sync::Arc;

use super::RunHandle;
use crate::error::Result;
use crate::fleet::{Schedule, ScheduleChange, Scheduled, check_schedule};
use crate::outbox::{Handlers, dispatch};

impl RunHandle {
    /// Brings the manifest's schedules up to date and starts the dispatcher.
    pub(super) async fn start_by_the_clock(&self, outbox: Handlers) -> Result<()> {
        let schedules = self.shared.fleet().schedules.clone();
        self.change(ScheduleChange::Manifest(schedules)).await?;
        let (shared, cancel) = (Arc::clone(&self.shared), self.cancel.clone());
        let host = self.host.clone().with_run(self.run.id);
        self.tracker.spawn(dispatch(shared, outbox, host, cancel));
        Ok(())
    }

    /// Adds or replaces a schedule of the run; opening the run again keeps it. One of the manifest
    /// by the same name is replaced until the manifest is read again.
    ///
    /// # Errors
    /// `Invalid` if the name or the pool does not fit; `Exhausted` beyond
    /// [`Schedule::PER_RUN_MAX`]; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn schedule(&self, name: impl Into<String> + Send, schedule: Schedule) -> Result<()> {
        let name = name.into();
        check_schedule(&self.shared.fleet(), &name, &schedule).map_err(Box::new)?;
        let due = schedule.cron.next_after(self.shared.env.clock.now());
        self.change(ScheduleChange::Set(name, schedule)).await?;
        if let Some(due) = due {
            self.shared.alarm.set(due);
        }
        Ok(())
    }

    /// Removes a schedule of the run; tasks it submitted go on.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn unschedule(&self, name: &str) -> Result<()> {
        self.change(ScheduleChange::Remove(name.to_owned())).await
    }

    /// Returns the schedules of the run by name.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn schedules(&self) -> Result<Vec<Scheduled>> {
        self.shared.journal.schedules(self.run.id).await
    }

    pub(super) async fn change(&self, change: ScheduleChange) -> Result<()> {
        let scope = self.host.clone().with_run(self.run.id);
        let journal = &self.shared.journal;
        journal.change_schedules(&scope, self.run.id, change).await
    }
}
