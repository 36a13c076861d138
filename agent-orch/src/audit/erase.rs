//! Erasing what was said while keeping that it happened.

use agent_core::{RunId, TaskId};
use serde::{Deserialize, Serialize};

use super::{Record, Root};

/// Whose text is to be erased.
///
/// | | of a record | of a task | of a run |
/// |---|---|---|---|
/// | payloads of its audit records | that one | all | all |
/// | input, output, feedback and failure of the task | | yes | of all its tasks |
/// | recorded results of steps | | yes | of all its tasks |
/// | questions to people, waits and signals, with what answered them | | yes | of all its tasks |
/// | undo actions | | yes | of all its tasks |
///
/// What stays: the records with their kinds, subjects, codes, actors, times and hashes; keys of
/// tasks and names of steps; usage and money in the ledger; messages until they are delivered; and
/// the records of erasures and of signed roots, which are never erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErasePayloads {
    /// Everything about a task that has ended.
    Task(TaskId),
    /// Everything about a run whose tasks have all ended.
    Run(RunId),
    /// The payload of one audit record.
    Record(u64),
}

impl ErasePayloads {
    /// The kind of the record that takes note of an erasure.
    pub const KIND: &'static str = "audit.erased";

    /// Returns whether payloads of this kind of record are never erased.
    pub(crate) fn is_kept(kind: &str) -> bool {
        kind == Self::KIND || kind == Root::KIND
    }

    /// Returns whether the payload of a record is among what is erased.
    pub(crate) fn covers(&self, record: &Missing) -> bool {
        match self {
            Self::Task(task) => record.task == Some(*task),
            Self::Run(run) => record.run == Some(*run),
            Self::Record(seq) => record.seq == *seq,
        }
    }
}

/// A record whose payload is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    pub(crate) seq: u64,
    task: Option<TaskId>,
    run: Option<RunId>,
}

impl Missing {
    pub(crate) const fn of(record: &Record) -> Self {
        Self {
            seq: record.seq,
            task: record.task,
            run: record.run,
        }
    }
}

/// What an erasure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erased {
    /// The audit record of the erasure.
    pub record: u64,
    /// How many payloads of audit records were erased by it.
    pub payloads: u64,
    /// Whether the text is gone from the store's files too. If not, a reader was still looking at
    /// it: erase again, or it goes when the store is closed.
    pub is_scrubbed: bool,
}

impl Erased {
    /// Describes an erasure whose traces in the files are not cleaned up yet.
    #[must_use]
    pub const fn new(record: u64, payloads: u64) -> Self {
        Self {
            record,
            payloads,
            is_scrubbed: false,
        }
    }

    /// Sets whether the files hold nothing of it. Default: they may.
    #[must_use]
    pub const fn with_scrubbed(mut self, is_scrubbed: bool) -> Self {
        self.is_scrubbed = is_scrubbed;
        self
    }
}
