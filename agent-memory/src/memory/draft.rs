//! A memory before it is one.

use agent_core::{IdempotencyKey, Timestamp};

use super::{Kind, MemoryId, Trust};
use crate::metadata::{Metadata, Value};

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
