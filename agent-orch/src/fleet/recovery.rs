//! How a pool recovers where it differs from its fleet, as configuration.
//!
//! ```toml
//! [pool.menders]
//! retries_max = 32
//! undo = "on_failure"
//! identical_calls_max = 3
//! fallback = { pool = "seniors", choices = { model = ["fast", "careful"] } }
//!
//! [pool.menders.recovery]
//! transient = ["retry:3", "fallback:2", "park:1", "compensate"]
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::check::{Checked, known};
use super::{ConfigError, Fleet, Pool, Remedy};
use crate::recovery::{Class, RecoveryTable, Rung};

/// How the tasks of a pool recover.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolRecovery {
    /// The ladders that differ from the fleet's. Default: none.
    pub ladders: RecoveryTable,
    /// How many failures of a task, of all classes together, are answered by anything but the last
    /// rung. Default: [`Self::RETRIES_MAX`].
    pub retries_max: u32,
    /// What is tried when the first choice keeps failing. Default: nothing.
    pub fallback: Fallback,
    /// When a task that ends without success undoes its steps. Default: always.
    pub undo: UndoWhen,
    /// How often one attempt may make the identical call before it counts as stuck. Default: no
    /// limit, since asking again may be what the work is.
    pub identical_calls_max: Option<u32>,
}

impl PoolRecovery {
    /// The default of `retries_max`: more than any one default ladder needs, less than all of them
    /// together.
    pub const RETRIES_MAX: u32 = 24;
}

impl Default for PoolRecovery {
    fn default() -> Self {
        Self {
            ladders: RecoveryTable::empty(),
            retries_max: Self::RETRIES_MAX,
            fallback: Fallback::default(),
            undo: UndoWhen::default(),
            identical_calls_max: None,
        }
    }
}

/// When the steps of a task are undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UndoWhen {
    /// Whenever the task fails, is canceled or is rejected.
    #[default]
    OnFailure,
    /// Only when a ladder says `compensate`.
    ByTable,
}

/// What a pool falls back on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fallback {
    /// By what is chosen, for example `model`, the names to choose from; [`crate::Ctx::choice`] gives
    /// the first until a fallback moves on to the next. Lists of different lengths stay at their
    /// last name. Default: none.
    pub choices: BTreeMap<String, Vec<String>>,
    /// The pool whose agents take the task over in a new round after the last choice. Default:
    /// none.
    pub pool: Option<String>,
}

impl Fallback {
    /// The most alternatives of one choice.
    pub const CHOICES_MAX: usize = 16;

    /// Adds a choice between names, the preferred first. Default: none.
    #[must_use]
    pub fn with_choice(mut self, what: impl Into<String>, names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.choices.insert(what.into(), names);
        self
    }

    /// Sets the pool that takes over after the last choice. Default: none.
    #[must_use]
    pub fn with_pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Returns how many times the pool can fall back.
    #[must_use]
    pub fn n_alternatives(&self) -> u32 {
        let longest = self.choices.values().map(Vec::len).max().unwrap_or(0);
        let choices = u32::try_from(longest.saturating_sub(1)).unwrap_or(u32::MAX);
        choices.saturating_add(u32::from(self.pool.is_some()))
    }

    /// Returns the choices a task begins with.
    #[must_use]
    pub fn first(&self) -> BTreeMap<String, String> {
        let first = |names: &Vec<String>| names.first().cloned().unwrap_or_default();
        self.choices
            .iter()
            .map(|(what, names)| (what.clone(), first(names)))
            .collect()
    }

    /// Returns the choices after those of `made`, or nothing if all are at their last.
    #[must_use]
    pub fn next(&self, made: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
        let mut moved = false;
        let mut next = BTreeMap::new();
        for (what, names) in &self.choices {
            let at = names.iter().position(|name| made.get(what) == Some(name));
            let at = at.unwrap_or(0);
            let name = names.get(at.saturating_add(1)).or_else(|| names.get(at));
            moved |= names.len() > at.saturating_add(1);
            next.insert(what.clone(), name.cloned().unwrap_or_default());
        }
        moved.then_some(next)
    }
}

/// The text form of [`Fallback`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FallbackText {
    pool: Option<String>,
    #[serde(default)]
    choices: BTreeMap<String, Vec<String>>,
}

/// The parts of a pool's text that concern recovery.
#[derive(Debug, Default)]
pub(super) struct PoolRecoveryText {
    pub(super) recovery: BTreeMap<Class, Vec<Rung>>,
    pub(super) retries_max: Option<u32>,
    pub(super) fallback: FallbackText,
    pub(super) undo: UndoWhen,
    pub(super) identical_calls_max: Option<u32>,
}

impl PoolRecoveryText {
    pub(super) fn read(self, pool: &str) -> Result<PoolRecovery, ConfigError> {
        let mut ladders = RecoveryTable::empty();
        for (class, ladder) in self.recovery {
            ladders = ladders.with(class, ladder).map_err(|error| {
                let key = format!("pool.{pool}.recovery.{}", class.name());
                let remedy = "rungs such as `retry:3`, and at the end `escalate` or `fail`";
                ConfigError::new(key, error.to_string(), Remedy::Write(remedy.to_owned()))
            })?;
        }
        Ok(PoolRecovery {
            ladders,
            retries_max: self.retries_max.unwrap_or(PoolRecovery::RETRIES_MAX),
            fallback: Fallback {
                choices: self.fallback.choices,
                pool: self.fallback.pool,
            },
            undo: self.undo,
            identical_calls_max: self.identical_calls_max,
        })
    }
}

/// Checks that what a pool falls back on is there and leads somewhere.
pub(super) fn check(fleet: &Fleet, id: &str, pool: &Pool) -> Checked {
    let wrong = |field: &str, reason: String, remedy: &str| {
        let key = format!("pool.{id}.{field}");
        Err(ConfigError::new(
            key,
            reason,
            Remedy::Write(remedy.to_owned()),
        ))
    };
    for (what, names) in &pool.recovery.fallback.choices {
        let distinct: BTreeSet<_> = names.iter().collect();
        if names.is_empty() || names.len() > Fallback::CHOICES_MAX || distinct.len() < names.len() {
            let field = format!("fallback.choices.{what}");
            let reason = "there are none, too many, or the same twice".to_owned();
            return wrong(&field, reason, "1 to 16 different names");
        }
    }
    if pool.recovery.identical_calls_max == Some(0) {
        let reason = "an attempt that may make no call can do nothing".to_owned();
        return wrong(
            "identical_calls_max",
            reason,
            "1 or more, or nothing for no limit",
        );
    }
    let key = format!("pool.{id}.fallback.pool");
    let (mut seen, mut at) = (BTreeSet::from([id]), pool);
    while let Some(next) = &at.recovery.fallback.pool {
        known(&key, "pool", next, fleet.pools.keys())?;
        let Some(found) = fleet.pools.get(next) else {
            return Ok(());
        };
        if found.verifier.is_none() && pool.verifier.is_some() {
            let reason = format!("nobody verifies the work of pool `{next}`");
            return wrong("fallback.pool", reason, "a pool that has a verifier");
        }
        if !seen.insert(next) {
            let reason = format!("falling back on `{next}` leads in a circle");
            return wrong(
                "fallback.pool",
                reason,
                "a pool that does not fall back on this one",
            );
        }
        at = found;
    }
    Ok(())
}
