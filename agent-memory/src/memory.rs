//! What is remembered: events, records derived from them, and where they come from.

use agent_core::{IdempotencyKey, Principal, Timestamp};

use crate::error::{Error, Result};
use crate::metadata::{Metadata, Value};
use crate::namespace::Namespace;
use crate::relation::check_name;

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

/// A memory to be added.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Draft {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) metadata: Metadata,
    pub(crate) thread: Option<String>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) valid_from: Option<Timestamp>,
    pub(crate) valid_to: Option<Timestamp>,
    pub(crate) sources: Vec<MemoryId>,
    pub(crate) supersedes: Option<MemoryId>,
    pub(crate) supersedes_labeled: Option<Metadata>,
    pub(crate) channel: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) reason: Option<String>,
}

impl Draft {
    /// The most drafts in one call: one transaction of some tens of milliseconds.
    pub const BATCH_MAX: usize = 1_000;
    /// The longest text in bytes: a long mail or a page; longer documents belong into pieces.
    pub const TEXT_BYTES_MAX: usize = 64 * 1_024;
    /// The most sources of a record.
    pub const SOURCES_MAX: usize = 64;
    /// The longest name of a thread or channel in bytes.
    pub const NAME_BYTES_MAX: usize = 256;
    /// The longest reason in bytes.
    pub const REASON_BYTES_MAX: usize = 1_024;

    /// Describes an event: something said or observed, kept verbatim.
    #[must_use]
    pub fn event(text: impl Into<String>) -> Self {
        Self::new(Kind::Event, text)
    }

    /// Describes a fact.
    #[must_use]
    pub fn fact(text: impl Into<String>) -> Self {
        Self::new(Kind::Fact, text)
    }

    /// Describes a memory: no key, labels, thread, sources; it happened and is valid from the
    /// moment it is added, without an end; trust `Normal`.
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            key: None,
            metadata: Metadata::new(),
            thread: None,
            occurred_at: None,
            valid_from: None,
            valid_to: None,
            sources: Vec::new(),
            supersedes: None,
            supersedes_labeled: None,
            channel: None,
            trust: Trust::default(),
            reason: None,
        }
    }

    /// Makes repeating the call harmless. Default: the scope's key followed by the draft's place
    /// in the call, if the scope has one.
    #[must_use]
    pub fn with_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a label. Default: none.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Names the conversation or document it belongs to; what is added to a thread follows what
    /// was added before, and search uses that context. Default: none.
    #[must_use]
    pub fn in_thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// Sets when it happened. Default: when it is added.
    #[must_use]
    pub const fn occurred_at(mut self, at: Timestamp) -> Self {
        self.occurred_at = Some(at);
        self
    }

    /// Sets from when to when it holds in the world. Default: from when it happened, without end.
    #[must_use]
    pub const fn valid(mut self, from: Timestamp, to: Option<Timestamp>) -> Self {
        self.valid_from = Some(from);
        self.valid_to = to;
        self
    }

    /// Adds a memory of the same namespace it is derived from. Default: none.
    #[must_use]
    pub fn derived_from(mut self, source: MemoryId) -> Self {
        self.sources.push(source);
        self
    }

    /// Names the record of the same namespace that it replaces: that record's validity ends where
    /// this one's begins. Default: none.
    #[must_use]
    pub const fn superseding(mut self, record: MemoryId) -> Self {
        self.supersedes = Some(record);
        self
    }

    /// Replaces that record only while it has exactly these labels: whoever read it decides on what
    /// nobody changed since. Otherwise adding fails with `Relabeled`. Default: whatever its labels
    /// are.
    #[must_use]
    pub fn if_labeled(mut self, labels: Metadata) -> Self {
        self.supersedes_labeled = Some(labels);
        self
    }

    /// Sets where it came in, for example `mail`. Default: none.
    #[must_use]
    pub fn via(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// Sets how far its origin is trusted. Default: `Normal`.
    #[must_use]
    pub const fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets why it is added, for the history. Default: none.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
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
