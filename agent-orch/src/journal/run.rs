//! A run: what is opened for a subject, and how it stands.

use agent_core::{Digest, RunId, Timestamp};
use serde_json::Value;

/// A run to open: the same subject resumes its unfinished run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewRun {
    /// What the run works on; at most one unfinished run has it.
    pub subject: String,
    /// The hash of the fleet's configuration.
    pub spec: Digest,
    /// What a resumed run needs to know again, for example the commit it started from.
    pub meta: Value,
}

impl NewRun {
    /// Describes a run.
    #[must_use]
    pub fn new(subject: impl Into<String>, spec: Digest, meta: Value) -> Self {
        Self {
            subject: subject.into(),
            spec,
            meta,
        }
    }
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The run.
    pub id: RunId,
    /// What it works on.
    pub subject: String,
    /// The hash of the configuration it started with.
    pub spec: Digest,
    /// What it was opened with.
    pub meta: Value,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Whether opening it found it unfinished.
    pub is_resumed: bool,
    /// What acknowledged writes of this run survive.
    pub durability: String,
    /// The run it was forked from.
    pub forked_from: Option<RunId>,
    /// The audit record after which it was forked.
    pub forked_at: Option<u64>,
}
