//! The audit chain: every record carries the BLAKE3 hash of itself and its predecessor, and from
//! time to time the host signs the hash of the last one.
//!
//! Payloads lie apart under their hash, so that one can be erased without breaking the chain.

mod chain;
mod erase;
mod export;
mod root;
mod sealer;

use std::fmt;

use agent_core::{Digest, Fence, Principal, RunId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use chain::Verification;
pub use erase::{ErasePayloads, Erased};
pub use export::{Export, verify_export};
pub use root::Root;
pub use sealer::Sealer;

pub(crate) use chain::{Checker, broken};

/// The form of the hash of records written by this version.
pub(crate) const RECORD_VERSION: u8 = 2;
/// Separates these hashes from all others, by the form of the hash.
const DOMAIN_V1: &[u8] = b"agent-orch audit record v1";
const DOMAIN_V2: &[u8] = b"agent-orch audit record v2";

/// What holds records together that belong to one piece of work: the root of the tree of
/// delegations a task belongs to, or the run where there is no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Correlation {
    /// The task all work below was delegated from; itself, where nothing was delegated.
    Task(TaskId),
    /// The run.
    Run(RunId),
}

impl Correlation {
    pub(crate) const fn to_bits(self) -> u128 {
        match self {
            Self::Task(task) => task.to_bits(),
            Self::Run(run) => run.to_bits(),
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Task(_) => 1,
            Self::Run(_) => 2,
        }
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => fmt::Display::fmt(task, f),
            Self::Run(run) => fmt::Display::fmt(run, f),
        }
    }
}

/// One thing that happened, as the chain keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Record {
    /// The form of its hash: 1 for records written before there was a correlation, else 2.
    pub version: u8,
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
    /// The task.
    pub task: Option<TaskId>,
    /// What it belongs to; records of version 1 have none.
    pub correlation: Option<Correlation>,
    /// The fence the actor held.
    pub fence: Option<Fence>,
    /// The record that led to this one.
    pub cause: Option<u64>,
    /// The hash of the payload's text.
    pub payload_hash: Digest,
    /// The payload, unless it was erased.
    #[serde(skip)]
    pub payload: Option<Value>,
    /// The payload's text, whose hash is `payload_hash`, unless it was erased.
    pub body: Option<String>,
    /// The hash of the record before this one.
    pub previous: Digest,
    /// The hash of this record and, through its predecessor's, of all before it.
    pub hash: Digest,
}

impl Record {
    /// Computes the hash from the predecessor's; `None` for a form this version does not know.
    pub(crate) fn chained(&self, previous: &Digest) -> Option<Digest> {
        match self.version {
            1 => Some(self.chained_v1(previous)),
            2 => Some(self.chained_v2(previous)),
            _ => None,
        }
    }

    fn chained_v2(&self, previous: &Digest) -> Digest {
        let mut fields = Fields::new(DOMAIN_V2, previous);
        self.common(&mut fields);
        fields.bits(self.run.map(RunId::to_bits));
        fields.bits(self.task.map(TaskId::to_bits));
        fields.add(&self.correlation.map_or([0; 1], |root| [root.tag()]));
        fields.bits(self.correlation.map(Correlation::to_bits));
        fields.count(self.fence.map(|fence| fence.0));
        fields.count(self.cause);
        fields.add(self.payload_hash.as_bytes());
        fields.finish()
    }

    fn chained_v1(&self, previous: &Digest) -> Digest {
        let mut fields = Fields::new(DOMAIN_V1, previous);
        self.common(&mut fields);
        fields.add(&self.run.map_or(0, RunId::to_bits).to_le_bytes());
        fields.add(&self.task.map_or(0, TaskId::to_bits).to_le_bytes());
        fields.add(&self.fence.map_or(0, |fence| fence.0).to_le_bytes());
        fields.add(&self.cause.unwrap_or(0).to_le_bytes());
        fields.add(self.payload_hash.as_bytes());
        fields.finish()
    }

    fn common(&self, fields: &mut Fields) {
        fields.add(&self.seq.to_le_bytes());
        fields.add(&self.at.as_unix_ms().to_le_bytes());
        fields.add(self.kind.as_bytes());
        fields.add(self.subject.as_bytes());
        fields.add(self.code.as_bytes());
        fields.add(self.actor.as_str().as_bytes());
    }
}

/// Hashes fields so that no two lists of fields look the same: each with its length before it.
struct Fields(blake3::Hasher);

impl Fields {
    fn new(domain: &[u8], previous: &Digest) -> Self {
        let mut fields = Self(blake3::Hasher::new());
        fields.add(domain);
        fields.add(previous.as_bytes());
        fields
    }

    fn add(&mut self, bytes: &[u8]) {
        let n_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(&n_bytes.to_le_bytes());
        self.0.update(bytes);
    }

    fn bits(&mut self, bits: Option<u128>) {
        match bits {
            Some(bits) => self.add(&bits.to_le_bytes()),
            None => self.add(&[]),
        }
    }

    fn count(&mut self, n: Option<u64>) {
        match n {
            Some(n) => self.add(&n.to_le_bytes()),
            None => self.add(&[]),
        }
    }

    fn finish(&self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }
}

/// The hash before the first record.
pub(crate) fn genesis() -> Digest {
    Digest::of_bytes(DOMAIN_V1)
}

/// A chain that was verified: how many records it has and the hash that stands for all of them.
/// Keep it elsewhere, or sign it, to notice a chain that was cut off and closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Audit {
    /// The number of records.
    pub records: u64,
    /// The hash of the last one.
    pub head: Digest,
    /// How many signed roots were checked.
    pub roots: u64,
    /// The last record a signed root stands for; zero without a root.
    pub signed: u64,
}

impl Audit {
    /// Names a chain of `records` records ending in `head`, without signed roots.
    #[must_use]
    pub const fn new(records: u64, head: Digest) -> Self {
        Self {
            records,
            head,
            roots: 0,
            signed: 0,
        }
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
