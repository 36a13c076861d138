//! How a run stands: its progress, and what supervision gave up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_core::{ClockExt, Event, Failure, Timestamp};
use parking_lot::Mutex;
use serde_json::json;

use super::{RunHandle, SWEEP, record, tree};
use crate::door::BreakerState;
use crate::error::{Error, Result};
use crate::journal::Counts;
use crate::task::Status;
use crate::wait::Wait;

/// What supervision did so far in this process.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) restarts: AtomicU64,
    pub(super) quarantined: Mutex<BTreeMap<String, Failure>>,
}

/// The state of a run at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Its tasks by stage and status.
    pub counts: Counts,
    /// How many agents were restarted in this process.
    pub restarts: u64,
    /// The pools and lanes that were given up, with the failure that was one too many.
    pub quarantined: BTreeMap<String, Failure>,
    /// The circuit breakers that do not let every call through, by `tenant/action/target`.
    pub breakers: BTreeMap<String, BreakerState>,
    /// When this was read.
    pub at: Timestamp,
}

impl RunHandle {
    /// Returns the state of the run.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn progress(&self) -> Result<Progress> {
        Ok(Progress {
            counts: self.shared.journal.counts(self.run.id).await?,
            restarts: self.health.restarts.load(Ordering::Relaxed),
            quarantined: self.health.quarantined.lock().clone(),
            breakers: self.shared.door.tripped(),
            at: self.shared.env.clock.now(),
        })
    }

    /// Waits until every task has ended or waits for the outside, a person or a signal, or nobody is
    /// left to do the rest. A task that waits for a moment alone goes on by itself and is waited for.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn settled(&self) -> Result<Progress> {
        loop {
            let moved = self.shared.moved.notified();
            let progress = self.progress().await?;
            let is_still = progress.counts.moving() == 0 && !self.is_asleep(&progress).await?;
            if is_still || !progress.quarantined.is_empty() {
                return Ok(progress);
            }
            tokio::select! {
                () = moved => {}
                () = self.shared.env.clock.sleep(SWEEP) => {}
            }
        }
    }

    /// Returns whether a parked task goes on by itself when its moment comes.
    async fn is_asleep(&self, progress: &Progress) -> Result<bool> {
        if progress.counts.of(Status::Parked) == 0 {
            return Ok(false);
        }
        let waits = self.shared.journal.open_waits(self.run.id).await?;
        Ok(waits.iter().any(Wait::is_timer))
    }

    /// Runs a quarantined pool, lane or supervisor again, with what is quarantined under it, and
    /// records that. Supervisors are named as in the tree: `supervisor.NAME`.
    ///
    /// # Errors
    /// `NotFound` if nothing of that name is quarantined; the store's.
    ///
    /// # Cancel safety
    /// Atomic, but for the record.
    pub async fn release(&self, name: &str) -> Result<()> {
        let fleet = self.shared.fleet();
        let is_place = fleet.pools.contains_key(name) || fleet.lanes.contains_key(name);
        let node = if is_place {
            tree::node_of(&fleet, name)
        } else {
            name.to_owned()
        };
        if !self.tree.release(&node).await {
            return Err(Error::not_found("quarantined pool", name));
        }
        self.forget_recovered().await?;
        let payload = json!({ "pool": name, "pools": tree::places_under(&fleet, &node) });
        let scope = self.host.clone().with_run(self.run.id);
        let event = Event::new(
            &scope,
            self.shared.env.clock.now(),
            "pool.released",
            payload,
        );
        self.shared.journal.note(event).await?;
        Ok(())
    }

    /// Forgets what is quarantined no longer.
    pub(super) async fn forget_recovered(&self) -> Result<()> {
        let left = self.tree.quarantined().await?;
        let is_left = |name: &str| left.iter().any(|node| record::place(node) == name);
        self.health
            .quarantined
            .lock()
            .retain(|name, _| is_left(name));
        Ok(())
    }
}
