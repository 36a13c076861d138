//! What all agents of a run share.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{Env, RunId, Timestamp};
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::alarm::Alarm;
use crate::attempts::Attempts;
use crate::bell::Bell;
use crate::door::Door;
use crate::drift::Migrate;
use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::undo::Unwinder;

/// What all agents of a run share.
pub(crate) struct Shared {
    /// The configuration that holds.
    pub(crate) current: RwLock<Arc<Fleet>>,
    pub(crate) run: RunId,
    /// When the run started: limits within its grants count from there.
    pub(crate) started: Timestamp,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) door: Arc<Door>,
    pub(crate) env: Env,
    pub(crate) attempts: Attempts,
    /// Undoes what tasks did that end without success.
    pub(crate) unwinder: Box<Unwinder>,
    /// When the run is to be swept next.
    pub(crate) alarm: Arc<Alarm>,
    /// Decides about steps that drifted.
    pub(crate) migrate: Option<Migrate>,
    /// Announces messages to the dispatcher.
    pub(crate) mail: Arc<Notify>,
    /// Announces work, by pool or lane.
    pub(crate) bells: RwLock<BTreeMap<String, Arc<Bell>>>,
    /// Announces that a task moved, to whoever waits for the run.
    pub(crate) moved: Notify,
    /// Announces that there are more tasks, to whoever scales pools.
    pub(crate) submitted: Notify,
}

impl Shared {
    /// Returns the configuration that holds.
    pub(crate) fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.current.read())
    }

    /// Changes the configuration.
    pub(crate) fn set_fleet(&self, fleet: Fleet) {
        let mut bells = self.bells.write();
        bells.retain(|place, _| fleet.pools.contains_key(place) || fleet.lanes.contains_key(place));
        for place in fleet.pools.keys().chain(fleet.lanes.keys()) {
            bells.entry(place.clone()).or_default();
        }
        *self.current.write() = Arc::new(fleet);
    }

    /// Returns what announces work of a pool or lane.
    pub(crate) fn bell(&self, place: &str) -> Option<Arc<Bell>> {
        self.bells.read().get(place).cloned()
    }

    /// Announces one task of a pool or lane.
    pub(crate) fn ring(&self, pool: &str) {
        if let Some(bell) = self.bell(pool) {
            bell.ring(1);
        }
        self.moved.notify_waiters();
    }

    /// Has the sweeper look at once which pools have work, and announce it.
    pub(crate) fn ring_all(&self) {
        self.alarm.set(self.env.clock.now());
        self.moved.notify_waiters();
    }

    /// Announces what the end of a lease may have let through: tasks that waited for its limits.
    pub(super) fn freed(&self) {
        let fleet = self.fleet();
        let limits = &fleet.scheduling.limits;
        if limits.values().any(|limit| limit.concurrency.is_some()) {
            self.ring_all();
        }
    }
}
