//! Schedules: tasks that are submitted whenever a cron expression is due.
//!
//! ```toml
//! [schedule.nightly]
//! cron = "0 2 * * *"          # UTC
//! pool = "menders"
//! input = { scope = "all" }   # default: null
//! priority = 3                # default: 2
//! overlap = "skip"            # or "queue"
//! catch_up = "last"           # or "none", "all"
//! ```

use std::collections::BTreeMap;

use agent_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::{self, Checked};
use super::{ConfigError, Fleet, Remedy};
use crate::cron::Cron;
use crate::task::NewTask;

/// What happens when a schedule is due while the task of its last firing has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// The firing is left out.
    #[default]
    Skip,
    /// The firing adds its task behind the other.
    Queue,
}

/// What happens with firings that were due while no host ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CatchUp {
    /// They are left out.
    None,
    /// The last of them is made up for.
    #[default]
    Last,
    /// All of them are made up for, at most the last [`Schedule::CATCH_UP_MAX`].
    All,
}

/// A task that is submitted whenever a cron expression is due.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Schedule {
    /// When, in UTC.
    pub cron: Cron,
    /// The pool whose agents do it.
    pub pool: String,
    /// What is to be done. Default: null.
    #[serde(default)]
    pub input: Value,
    /// 0 is the most urgent, 4 the least. Default: 2.
    #[serde(default = "middle")]
    pub priority: u8,
    /// What happens while the last firing's task has not ended. Default: skip.
    #[serde(default)]
    pub overlap: Overlap,
    /// What happens with firings missed while no host ran. Default: last.
    #[serde(default)]
    pub catch_up: CatchUp,
}

const fn middle() -> u8 {
    2
}

impl Schedule {
    /// The most missed firings that are made up for: after a long stop the fleet must get to the
    /// present.
    pub const CATCH_UP_MAX: usize = 100;
    /// The most schedules of one run.
    pub const PER_RUN_MAX: usize = 1_000;
    /// How late a firing may be before it counts as missed: one step of a cron expression.
    pub const LATE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

    /// Describes a schedule with priority 2 that leaves out firings while the last one's task has
    /// not ended and makes up for the last missed one.
    #[must_use]
    pub fn new(cron: Cron, pool: impl Into<String>, input: Value) -> Self {
        Self {
            cron,
            pool: pool.into(),
            input,
            priority: middle(),
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
        }
    }

    /// Sets the priority. Default: 2.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets what happens while the last firing's task has not ended. Default: skip.
    #[must_use]
    pub const fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets what happens with missed firings. Default: last.
    #[must_use]
    pub const fn with_catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// Returns which moments fire at `now`, oldest first, if the next one was due at `next`; pure.
    #[must_use]
    pub fn firings(&self, next: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let n_max = match self.catch_up {
            CatchUp::All => Self::CATCH_UP_MAX,
            CatchUp::None | CatchUp::Last => 1,
        };
        let mut fires = Vec::new();
        let mut at = self.cron.last_at(now);
        while let Some(due) = at.filter(|due| *due >= next && fires.len() < n_max) {
            fires.push(due);
            at = self
                .cron
                .last_at(Timestamp::from_unix_ms(due.as_unix_ms() - 1));
        }
        if self.catch_up == CatchUp::None {
            fires.retain(|due| now.since(*due) < Self::LATE_MAX);
        }
        fires.reverse();
        fires
    }

    /// Returns the task of a firing: its key names the schedule and the moment, so that no two
    /// hosts and no restart submit it twice.
    #[must_use]
    pub fn task(&self, name: &str, due: Timestamp) -> NewTask {
        let key = format!("schedule/{name}/{due}");
        NewTask::new(key, self.pool.as_str(), self.input.clone()).with_priority(self.priority)
    }
}

/// Checks that a schedule fits the pools.
pub(crate) fn check_schedule(fleet: &Fleet, id: &str, schedule: &Schedule) -> Checked {
    let key = |field: &str| format!("schedule.{id}.{field}");
    check::name(&format!("schedule.{id}"), id)?;
    check::known(&key("pool"), "pool", &schedule.pool, fleet.pools.keys())?;
    let pool = fleet.pools.get(&schedule.pool);
    if pool.is_some_and(|pool| pool.verifier.is_none()) {
        let reason = format!("nobody verifies what `{}` does", schedule.pool);
        let remedy = Remedy::Add(format!("pool.{}.verifier", schedule.pool));
        return Err(ConfigError::new(key("pool"), reason, remedy));
    }
    if schedule.priority > NewTask::PRIORITY_MAX {
        let reason = format!("{} is out of range", schedule.priority);
        let remedy = Remedy::Write("a number from 0 to 4".to_owned());
        return Err(ConfigError::new(key("priority"), reason, remedy));
    }
    Ok(())
}

/// A change of a run's schedules.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScheduleChange {
    /// Adds or replaces one.
    Set(String, Schedule),
    /// Removes one.
    Remove(String),
    /// Makes those of the manifest these, and leaves those the host added.
    Manifest(BTreeMap<String, Schedule>),
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scheduled {
    /// Its name within the run.
    pub name: String,
    /// When and what.
    pub schedule: Schedule,
    /// Whether the manifest has it, or the host added it.
    pub is_of_manifest: bool,
    /// When it is due next.
    pub next: Timestamp,
    /// When it was last due and fired.
    pub last: Option<Timestamp>,
    /// How many tasks it submitted.
    pub n_fired: u64,
    /// How many firings were left out because the last one's task had not ended.
    pub n_skipped: u64,
}
