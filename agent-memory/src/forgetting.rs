//! Forgetting as policy: what goes, when and why, told before it goes.
//!
//! A plan is a pure function of a namespace and a moment; applying it does what it says or nothing.

mod plan;
mod run;
mod summary;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::Timestamp;

use crate::error::{Error, Result};
use crate::memory::{Kind, MemoryId};
use crate::namespace::Namespace;

pub use run::{Forgetter, Report};

/// Labels that forgetting reads and writes, beside [`label::PIN`](crate::label::PIN) and
/// [`label::HOLD`](crate::label::HOLD).
pub mod labels {
    /// How often the memory was used.
    pub const USES: &str = "memory.uses";
    /// When it was last used, in milliseconds since the epoch.
    pub const USED_AT: &str = "memory.used_at";
    /// How much it matters, 0 to 100; 50 where it is absent.
    pub const IMPORTANCE: &str = "memory.importance";
    /// That a record is a summary of the episodes it is derived from.
    pub const SUMMARY: &str = "memory.summary";
}

/// What is forgotten. By default nothing is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    ttl: BTreeMap<Kind, Duration>,
    half_life: BTreeMap<Kind, Duration>,
    strength_min: f64,
    capacity: Option<usize>,
    consolidate_after: Option<Duration>,
    episodes_min: usize,
}

impl Policy {
    /// The fewest episodes of a thread that make a summary.
    pub const EPISODES_MIN: usize = 3;

    /// Forgets nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            strength_min: 0.05,
            episodes_min: Self::EPISODES_MIN,
            ..Self::default()
        }
    }

    /// Lets a kind go when it is older than this, whatever it is worth, with all that is derived
    /// from it. Default: never.
    #[must_use]
    pub fn with_ttl(mut self, kind: Kind, ttl: Duration) -> Self {
        self.ttl.insert(kind, ttl);
        self
    }

    /// Lets a kind fade: its strength halves in this time without use, which each use makes
    /// longer. Default: it does not fade.
    #[must_use]
    pub fn with_half_life(mut self, kind: Kind, half_life: Duration) -> Self {
        self.half_life.insert(kind, half_life);
        self
    }

    /// Lets go what is weaker than this; a memory of importance 50 begins at 1. Default: 0.05.
    #[must_use]
    pub const fn with_strength_min(mut self, strength: f64) -> Self {
        self.strength_min = strength;
        self
    }

    /// Keeps at most this many memories in a namespace, archived ones not counted; the weakest go.
    /// Default: any number.
    #[must_use]
    pub const fn with_capacity(mut self, n: usize) -> Self {
        self.capacity = Some(n);
        self
    }

    /// Puts episodes of a thread older than this together into a summary that links back to them,
    /// and archives them: they are found only if asked for. Default: never.
    #[must_use]
    pub const fn with_consolidation(mut self, after: Duration) -> Self {
        self.consolidate_after = Some(after);
        self
    }

    fn check(&self) -> Result<()> {
        let is_strength = self.strength_min.is_finite() && self.strength_min >= 0.0;
        if !is_strength || self.half_life.values().any(Duration::is_zero) {
            return Err(Error::invalid(
                "policy",
                "half-lives above 0, and a strength of at least 0",
            ));
        }
        Ok(())
    }
}

/// Why a memory goes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// It is older than its kind may be.
    Expired,
    /// It has faded to this strength.
    Faded(f64),
    /// There are too many, and it is among the weakest, with this strength.
    Crowded(f64),
    /// It is derived from one that goes.
    DerivedFrom(MemoryId),
}

/// A memory that goes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Doomed {
    /// The memory.
    pub id: MemoryId,
    /// Why.
    pub cause: Cause,
    /// How often it had been used.
    pub uses: i64,
}

/// Why a memory stays that would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// It is under legal hold.
    Held,
    /// It is pinned.
    Pinned,
    /// A memory that stays is derived from it.
    Supports(MemoryId),
}

/// A memory that stays, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spared {
    /// The memory.
    pub id: MemoryId,
    /// What keeps it.
    pub by: Protection,
}

/// Episodes that become a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consolidation {
    /// Their thread.
    pub thread: String,
    /// The episodes, in the order they happened.
    pub episodes: Vec<MemoryId>,
    /// The summary: sentences of theirs.
    pub text: String,
    /// When the first of them happened.
    pub from: Timestamp,
}

/// What would go, and why: the dry run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ForgetPlan {
    /// The namespace.
    pub namespace: Namespace,
    /// The moment it was made for.
    pub made_at: Timestamp,
    /// What goes, in the order of the ids.
    pub doomed: Vec<Doomed>,
    /// What would go and is protected, in the order of the ids.
    pub spared: Vec<Spared>,
    /// Which episodes become summaries, by thread.
    pub consolidations: Vec<Consolidation>,
}
