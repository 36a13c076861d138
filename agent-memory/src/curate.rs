//! From claims to what is believed: decisions, and how they are applied to any store.

mod apply;
mod decide;
mod draft;
mod profile;
mod remember;

use std::fmt;
use std::sync::Arc;

use agent_core::{Embedder, Env, Timestamp};

use crate::extract::Extractor;
use crate::memory::MemoryId;
use crate::safety::Echo;

pub use apply::Applied;
pub use decide::{Belief, Neighbour, Snapshot, decide};
pub use profile::Entry;
pub use remember::{Outcome, Remembered};

/// Labels of curated records, beside [`label::SLOT`](crate::label::SLOT).
pub mod labels {
    /// Whose slot it is.
    pub const SUBJECT: &str = "memory.subject";
    /// Which attribute of theirs.
    pub const ATTRIBUTE: &str = "memory.attribute";
    /// When the value was last said again, in milliseconds since the epoch.
    pub const CONFIRMED_AT: &str = "memory.confirmed_at";
    /// The value as it was said.
    pub const VALUE: &str = "memory.value";
}

/// What is to be done with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A record is added beside all others.
    Add,
    /// A record replaces one that says the same, over that one's whole validity and its own.
    Update(MemoryId),
    /// A record ends the validity of one that says otherwise.
    Supersede(MemoryId),
    /// A record's validity ends without a successor.
    Retract(MemoryId),
    /// Nothing changes.
    Noop(Option<MemoryId>),
}

impl Action {
    /// Returns the stable name: `ADD`, `UPDATE`, `SUPERSEDE`, `RETRACT` or `NOOP`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Update(_) => "UPDATE",
            Self::Supersede(_) => "SUPERSEDE",
            Self::Retract(_) => "RETRACT",
            Self::Noop(_) => "NOOP",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing is known of it.
    New,
    /// It is believed at that time already.
    Known,
    /// The same is believed, from a later time on.
    KnownLater,
    /// Another record says the same in other words.
    NearDuplicate,
    /// Another record says the same and less.
    MoreDetail,
    /// The slot has another value at that time.
    Contradicts,
    /// It is older than what is believed, and held until that began or was said again.
    Late,
    /// The end of a belief was stated.
    Ended,
    /// The end of something was stated that is not believed.
    NotBelieved,
    /// It is less trusted than the belief it contradicts.
    LessTrusted,
    /// The claim names an old value that no slot has.
    UnknownOld,
    /// Its validity is empty.
    Empty,
}

impl Reason {
    /// Returns the reason as a clause.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "nothing was known of it",
            Self::Known => "it is believed already",
            Self::KnownLater => "it is believed, from a later time on",
            Self::NearDuplicate => "another record says the same",
            Self::MoreDetail => "it says the same as another record, and more",
            Self::Contradicts => "the slot had another value",
            Self::Late => "it is older than what is believed, and held until then",
            Self::Ended => "its end was stated",
            Self::NotBelieved => "what it ends is not believed",
            Self::LessTrusted => "it is less trusted than what it contradicts",
            Self::UnknownOld => "no slot has the value it replaces",
            Self::Empty => "it holds at no time",
        }
    }
}

/// What is to be done, when it holds, why, and by what evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// From when a new record holds, or at what moment one ends.
    pub from: Timestamp,
    /// Until when a new record holds.
    pub to: Option<Timestamp>,
    /// From when the belief that is superseded holds again: it was said again then.
    pub resumes_at: Option<Timestamp>,
    /// The events it rests on.
    pub evidence: Vec<MemoryId>,
}

impl fmt::Display for Decision {
    /// Writes action, reason and evidence, as the history of a record keeps them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action.as_str(), self.reason.as_str())?;
        for (n, event) in self.evidence.iter().take(8).enumerate() {
            let before = if n == 0 { "; evidence " } else { ", " };
            write!(f, "{before}{event}")?;
        }
        Ok(())
    }
}

/// Decides on claims and keeps what is believed, in any [`MemoryStore`](crate::MemoryStore).
///
/// Contradiction ends a record's validity and never deletes it. What was said earlier and arrives
/// later does not override what was said after it. Each decision is applied whole or not at all,
/// and decided again if another writer was faster, so that two agents that write the same fact at
/// once leave one record, whether they share this curator, the store, or only its file.
///
/// A retraction acts on what is known when it arrives; one that arrives before what it retracts
/// does nothing.
#[derive(Clone)]
pub struct Curator<S> {
    store: S,
    env: Env,
    extractor: Arc<dyn Extractor>,
    embedder: Option<Arc<dyn Embedder>>,
    echo: Arc<Echo>,
}

impl<S> fmt::Debug for Curator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Curator")
            .field("extractor", &self.extractor)
            .finish_non_exhaustive()
    }
}

impl<S> Curator<S> {
    /// Curates a store: near duplicates are told by their words alone.
    #[must_use]
    pub fn new(store: S, env: Env, extractor: Arc<dyn Extractor>) -> Self {
        Self {
            store,
            env,
            extractor,
            embedder: None,
            echo: Arc::default(),
        }
    }

    /// Tells near duplicates by their meaning, too. Default: by their words alone.
    #[must_use]
    pub fn with_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    /// Returns the store.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }
}
