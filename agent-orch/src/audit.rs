//! The audit chain: every record carries the BLAKE3 hash of itself and its predecessor.
//!
//! Payloads lie apart under their hash, so that one can be erased without breaking the chain.

use agent_core::{Digest, Fence, Principal, RunId, TaskId, Timestamp};
use serde::Serialize;
use serde_json::Value;

/// Separates these hashes from all others.
const DOMAIN: &[u8] = b"agent-orch audit record v1";

/// One thing that happened, as the chain keeps it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Its place in the chain, counted from one without gaps.
    pub seq: u64,
    /// When, in the store's time.
    pub at: Timestamp,
    /// What, `subject.verb_in_the_past`.
    pub kind: String,
    /// What it is about: an effect's action, a pool, a target.
    pub subject: String,
    /// The code of the failure, if it is one.
    pub code: String,
    /// Who.
    pub actor: Principal,
    /// The run.
    pub run: Option<RunId>,
    /// The task; with the run the correlation of records.
    pub task: Option<TaskId>,
    /// The fence the actor held.
    pub fence: Option<Fence>,
    /// The record that led to this one.
    pub cause: Option<u64>,
    /// The hash of the payload.
    pub payload_hash: Digest,
    /// The payload, unless it was erased.
    pub payload: Option<Value>,
    /// The hash of this record and, through its predecessor's, of all before it.
    pub hash: Digest,
}

impl Record {
    /// Computes the hash from the predecessor's.
    pub(crate) fn chained(&self, previous: &Digest) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(bytes);
        };
        field(DOMAIN);
        field(previous.as_bytes());
        field(&self.seq.to_le_bytes());
        field(&self.at.as_unix_ms().to_le_bytes());
        field(self.kind.as_bytes());
        field(self.subject.as_bytes());
        field(self.code.as_bytes());
        field(self.actor.as_str().as_bytes());
        field(&self.run.map_or(0, RunId::to_bits).to_le_bytes());
        field(&self.task.map_or(0, TaskId::to_bits).to_le_bytes());
        field(&self.fence.map_or(0, |fence| fence.0).to_le_bytes());
        field(&self.cause.unwrap_or(0).to_le_bytes());
        field(self.payload_hash.as_bytes());
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// The hash before the first record.
pub(crate) fn genesis() -> Digest {
    Digest::of_bytes(DOMAIN)
}

/// A verified chain: how many records it has and the hash that stands for all of them. Keep it
/// elsewhere, or sign it, to notice a chain that was cut off and closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Audit {
    /// The number of records.
    pub records: u64,
    /// The hash of the last one.
    pub head: Digest,
}

impl Audit {
    /// Names a chain of `records` records ending in `head`.
    #[must_use]
    pub const fn new(records: u64, head: Digest) -> Self {
        Self { records, head }
    }
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventQuery {
    /// Only records after this one.
    pub after: u64,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this task.
    pub task: Option<TaskId>,
}

impl EventQuery {
    /// The most records of one answer; ask again with `after` for more.
    pub const PAGE_MAX: usize = 10_000;

    /// Asks for all records after one.
    #[must_use]
    pub fn after(seq: u64) -> Self {
        Self {
            after: seq,
            ..Self::default()
        }
    }

    /// Narrows to a run. Default: all.
    #[must_use]
    pub const fn with_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Narrows to a task. Default: all.
    #[must_use]
    pub const fn with_task(mut self, task: TaskId) -> Self {
        self.task = Some(task);
        self
    }
}
