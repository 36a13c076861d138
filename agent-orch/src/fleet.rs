//! The fleet as configuration: pools, supervision, recovery, escalation and merge lanes, from
//! `fleet.toml` or built in Rust from the same types.
//!
//! ```toml
//! [fleet]
//! name = "hygiene"
//! budget = "2.00 USD"
//!
//! [supervisor]
//! strategy = "one_for_one"
//! intensity = 20
//! period = "60s"
//!
//! [pool.menders]
//! agent = "mender"
//! size = 40
//! budget = "1.50 USD"
//! verifier = "verifiers"
//! lane = "hygiene"
//! grants = ["sandbox.exec:checks", "tool.call:*"]
//!
//! [pool.menders.limits]
//! delegation_depth = 3
//! wall = "2h"
//!
//! [pool.verifiers]
//! agent = "verifier"
//! size = 10
//! budget = "0.50 USD"
//!
//! [lane.hygiene]
//! agent = "lander"
//! target = "agents/hygiene"
//!
//! # What fails together restarts together; without a supervisor, a pool hangs under the root.
//! [supervisor.core]
//! strategy = "rest_for_one"
//! backoff = "1s..60s x2 jitter"
//! on_meltdown = "quarantine"
//! children = ["pool.verifiers", "pool.readers"]
//!
//! [pool.readers]
//! agent = "reader"
//! min = 1
//! max = 20
//! scale = { metric = "ready_tasks", target = 2, up_window = "0s", down_window = "300s" }
//! budget = "0.50 USD"
//! owner = "docs-team"
//! purpose = "reads what others wrote"
//!
//! [pool.readers.supervisor]
//! restart = "permanent"
//!
//! [pool.readers.probes]
//! startup = "30s"
//! liveness = "1m"
//! progress = { events = "5m", tokens = "2m" }
//!
//! [registry]
//! retire_idle = "30d"
//! retire_orphans = true
//!
//! [recovery]
//! transient = ["retry:5", "reassign:1", "fail"]
//!
//! [schedule.nightly]
//! cron = "0 2 * * *"
//! pool = "menders"
//! input = { scope = "all" }
//! ```

mod breaker;
mod check;
mod config_error;
mod grant;
mod lane;
mod limit;
mod limits;
mod place;
mod pool;
mod probes;
mod recovery;
mod registry;
mod scale;
mod schedule;
mod scheduling;
mod supervision;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Amount, Digest};
use serde::Serialize;

pub use breaker::BreakerPolicy;
pub use config_error::{ConfigError, Remedy};
pub(crate) use grant::GrantText;
pub use lane::Lane;
pub use limit::{Limit, Rate};
pub use limits::Limits;
pub use pool::Pool;
pub use probes::Probes;
pub use recovery::{Fallback, PoolRecovery, UndoWhen};
pub use registry::Retirement;
pub use scale::{Scale, Scaler};
pub(crate) use schedule::check_schedule;
pub use schedule::{CatchUp, Overlap, Schedule, ScheduleChange, Scheduled};
pub use scheduling::{Preemption, Scheduling};
pub use supervision::{Branch, Supervision};
pub(crate) use text::duration;

use crate::error::{Error, Result};
use crate::recovery::{Backoff, RecoveryTable};
use crate::restart::OnMeltdown;

/// A whole fleet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fleet {
    /// Its name: the root of its budgets and memory scopes. Letters, digits, `-`, `_`.
    pub name: String,
    /// The most the whole fleet may spend.
    pub budget: Amount,
    /// How the root treats its children, and how the agents of pools are supervised that do not
    /// say otherwise.
    pub supervisor: Supervision,
    /// The supervisors under the root by name.
    pub supervisors: BTreeMap<String, Branch>,
    /// The pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// The merge lanes by name.
    pub lanes: BTreeMap<String, Lane>,
    /// What is done about each class of failure.
    pub recovery: RecoveryTable,
    /// The waits between retries.
    pub backoff: Backoff,
    /// When agents stop asking a side that does not answer.
    pub breaker: BreakerPolicy,
    /// Who is asked.
    pub escalation: Escalation,
    /// Who is served when there is more work than agents.
    pub scheduling: Scheduling,
    /// Which agents are retired.
    pub registry: Retirement,
    /// The tasks that are submitted by the clock, by name.
    pub schedules: BTreeMap<String, Schedule>,
}

/// Who is asked when no rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Escalation {
    /// Who. Default: `owner`.
    pub route: String,
    /// How long the question waits before its default applies. Default: 24 h.
    pub deadline: Duration,
}

impl Default for Escalation {
    fn default() -> Self {
        Self {
            route: "owner".to_owned(),
            deadline: Duration::from_secs(86_400),
        }
    }
}

impl Fleet {
    /// Describes a fleet without pools; recovery, waits and escalation as their defaults say.
    #[must_use]
    pub fn new(name: impl Into<String>, budget: Amount) -> Self {
        Self {
            name: name.into(),
            budget,
            supervisor: Supervision::default(),
            supervisors: BTreeMap::new(),
            pools: BTreeMap::new(),
            lanes: BTreeMap::new(),
            recovery: RecoveryTable::default(),
            backoff: Backoff::default(),
            breaker: BreakerPolicy::default(),
            escalation: Escalation::default(),
            scheduling: Scheduling::default(),
            registry: Retirement::new(),
            schedules: BTreeMap::new(),
        }
    }

    /// Sets who is served when there is more work than agents. Default: by priority, equal
    /// turns, and age, without limits.
    #[must_use]
    pub fn with_scheduling(mut self, scheduling: Scheduling) -> Self {
        self.scheduling = scheduling;
        self
    }

    /// Adds a pool.
    #[must_use]
    pub fn with_pool(mut self, name: impl Into<String>, pool: Pool) -> Self {
        self.pools.insert(name.into(), pool);
        self
    }

    /// Adds a lane.
    #[must_use]
    pub fn with_lane(mut self, name: impl Into<String>, lane: Lane) -> Self {
        self.lanes.insert(name.into(), lane);
        self
    }

    /// Adds a supervisor over pools, lanes and other supervisors.
    #[must_use]
    pub fn with_supervisor(mut self, name: impl Into<String>, branch: Branch) -> Self {
        self.supervisors.insert(name.into(), branch);
        self
    }

    /// Returns the supervisor that a child, such as `pool.menders`, is under; none for the root.
    #[must_use]
    pub fn supervisor_of(&self, child: &str) -> Option<&str> {
        let mut branches = self.supervisors.iter();
        let found = branches.find(|(_, branch)| branch.children.iter().any(|c| c == child));
        found.map(|(name, _)| name.as_str())
    }

    /// Returns how the agents of a pool or lane, such as `pool.menders`, are supervised.
    #[must_use]
    pub fn supervision_of(&self, place: &str) -> Supervision {
        let pool = place
            .strip_prefix("pool.")
            .and_then(|name| self.pools.get(name));
        pool.and_then(|pool| pool.supervision)
            .unwrap_or_else(|| self.supervision_by_default(place))
    }

    /// As the root says; but where a supervisor was put above a pool, it is to see a meltdown.
    fn supervision_by_default(&self, place: &str) -> Supervision {
        match self.supervisor_of(place) {
            Some(_) => self.supervisor.with_on_meltdown(OnMeltdown::Escalate),
            None => self.supervisor.with_on_meltdown(OnMeltdown::Quarantine),
        }
    }

    /// Adds a schedule. Default: none.
    #[must_use]
    pub fn with_schedule(mut self, name: impl Into<String>, schedule: Schedule) -> Self {
        self.schedules.insert(name.into(), schedule);
        self
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the line, the key and the remedy.
    pub fn from_toml(text: &str) -> Result<Self> {
        Ok(text::parse(text).map_err(Box::new)?)
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key and the remedy.
    pub fn check(&self) -> Result<()> {
        Ok(check::check(self).map_err(Box::new)?)
    }

    /// Returns how many agents a pool or lane has at least.
    pub(crate) fn size_of(&self, place: &str) -> u32 {
        let pool = self.pools.get(place).map(|pool| pool.size);
        pool.or_else(|| self.lanes.get(place).map(|lane| lane.size))
            .unwrap_or(0)
    }

    /// Returns the hash of what a pool or lane is configured with, if it is there.
    pub(crate) fn spec_of(&self, place: &str) -> Result<Option<Digest>> {
        let pool = self.pools.get(place).map(|pool| format!("{pool:?}"));
        let lane = || self.lanes.get(place).map(|lane| format!("{lane:?}"));
        let spec = pool.or_else(lane).map(|spec| hashed(&spec));
        spec.transpose()
    }

    /// Returns the version of the agents of a pool or lane: the hash of what each of them is
    /// configured with, whatever their number and supervision.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if a value has no canonical form.
    pub fn version_of(&self, place: &str) -> Result<Digest> {
        if let Some(pool) = self.pools.get(place) {
            let mut each = pool.clone();
            (each.size, each.scale, each.supervision) = (0, None, None);
            return hashed(&format!("{each:?}"));
        }
        let lane = self.lanes.get(place);
        let mut each = lane
            .ok_or_else(|| Error::not_found("pool or lane", place))?
            .clone();
        each.size = 0;
        hashed(&format!("{each:?}"))
    }

    /// Returns the hash of the whole configuration; a run records it, so that drift is seen.
    ///
    /// # Errors
    /// `Invalid` if a value has no canonical form.
    pub fn digest(&self) -> Result<Digest> {
        // The debug form names every field of every part in a fixed order.
        hashed(&format!("{self:?}"))
    }
}

fn hashed(spec: &str) -> Result<Digest> {
    #[derive(Serialize)]
    struct Hashed<'a> {
        v: u32,
        fleet: &'a str,
    }
    Ok(Digest::of_json(&Hashed { v: 1, fleet: spec })?)
}
