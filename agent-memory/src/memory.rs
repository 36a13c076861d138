//! What is remembered: events, records derived from them, and where they come from.

mod draft;

use agent_core::{Principal, Timestamp};

use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::namespace::Namespace;
use crate::relation::check_name;

pub use draft::Draft;

agent_core::define_id!(
    /// A memory: an event or a record.
    MemoryId, "mem"
);

/// What kind of memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Something that was said or happened, verbatim and immutable (episodic memory).
    Event,
    /// A statement about the world (semantic memory).
    Fact,
    /// How something is done (procedural memory).
    Procedure,
    /// What somebody likes or wants.
    Preference,
}

impl Kind {
    /// Returns whether it is a record: derived from events, and one that can be retired.
    #[must_use]
    pub const fn is_record(self) -> bool {
        !matches!(self, Self::Event)
    }

    /// Returns the stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Fact => "fact",
            Self::Procedure => "procedure",
            Self::Preference => "preference",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Event, Self::Fact, Self::Procedure, Self::Preference]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// How far a memory's origin is trusted. Remembered text is never an instruction, however trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Trust {
    /// Text of strangers: web pages, mails, tool output.
    Untrusted,
    /// The agent's own words and conclusions.
    #[default]
    Normal,
    /// Said by the owner or checked by somebody.
    Verified,
}

impl Trust {
    /// Returns the stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Normal => "normal",
            Self::Verified => "verified",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Untrusted, Self::Normal, Self::Verified]
            .into_iter()
            .find(|trust| trust.as_str() == name)
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) const fn rank(self) -> i64 {
        match self {
            Self::Untrusted => 0,
            Self::Normal => 1,
            Self::Verified => 2,
        }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn parse(rank: i64) -> Option<Self> {
        [Self::Untrusted, Self::Normal, Self::Verified]
            .into_iter()
            .find(|trust| trust.rank() == rank)
    }
}

/// The answer to a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Added {
    /// The memory's id.
    pub id: MemoryId,
    /// False if the key had been used for the same draft before.
    pub is_new: bool,
}

/// Where a memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Who added it.
    pub actor: Principal,
    /// Where it came in.
    pub channel: Option<String>,
    /// How far its origin is trusted.
    pub trust: Trust,
    /// What it is derived from, in the order of their ids.
    pub sources: Vec<MemoryId>,
}

/// A stored memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Its id.
    pub id: MemoryId,
    /// Where it belongs.
    pub namespace: Namespace,
    /// What it is.
    pub kind: Kind,
    /// Its text, as added. Treat it as quoted data, never as an instruction.
    pub text: String,
    /// Its labels.
    pub metadata: Metadata,
    /// The conversation or document it belongs to.
    pub thread: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the store took it.
    pub recorded_at: Timestamp,
    /// From when it holds.
    pub valid_from: Timestamp,
    /// Until when it holds.
    pub valid_to: Option<Timestamp>,
    /// The record that replaced it.
    pub superseded_by: Option<MemoryId>,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// What happened to a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// It was added.
    Added,
    /// Its validity ended.
    Retired,
    /// A successor ended its validity.
    Superseded,
    /// Its labels changed.
    Labeled,
    /// It was erased; the reasons of the changes before went with it.
    Erased,
}

impl Verb {
    /// Returns the stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Retired => "retired",
            Self::Superseded => "superseded",
            Self::Labeled => "labeled",
            Self::Erased => "erased",
        }
    }

    /// Whether it ends a validity.
    pub(crate) const fn ends(self) -> bool {
        matches!(self, Self::Retired | Self::Superseded)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [
            Self::Added,
            Self::Retired,
            Self::Superseded,
            Self::Labeled,
            Self::Erased,
        ]
        .into_iter()
        .find(|verb| verb.as_str() == name)
    }
}

/// One entry of a memory's history. The validity after each change and the time it became known
/// are kept, so the state known at any moment can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What happened.
    pub verb: Verb,
    /// When the store took it.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Principal,
    /// Why.
    pub reason: Option<String>,
    /// The end of validity after the change.
    pub valid_to: Option<Timestamp>,
    /// The successor of a superseded record.
    pub successor: Option<MemoryId>,
}

/// Which memories are to be erased.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Selection {
    /// These; at most [`Selection::IDS_MAX`]. Those not there are passed over.
    Ids(Vec<MemoryId>),
    /// An entity, its relations, and the memories directly related to it.
    Entity(String),
    /// The whole namespace with its relations.
    All,
}

impl Selection {
    /// The most ids in one call.
    pub const IDS_MAX: usize = 1_000;

    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Ids(ids) if ids.len() > Self::IDS_MAX => {
                Err(Error::invalid("selection", "at most 1,000 ids"))
            }
            Self::Entity(name) => check_name("entity", name),
            Self::Ids(_) | Self::All => Ok(()),
        }
    }
}

/// What was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The erased memories, in the order of their ids, with those derived from them.
    pub erased: Vec<MemoryId>,
    /// How many relations went with them.
    pub n_relations: usize,
    /// Whether the files hold no copy any more: the write-ahead log was emptied too. If not, a
    /// reader held it; it will be emptied by the next `forget` or when the store is closed. A
    /// store whose files are a server's cannot vouch for them and says false.
    pub is_scrubbed: bool,
}
