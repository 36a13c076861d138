//! The rules of how a record's validity ends, shared by the backends.

use agent_core::Timestamp;

use crate::error::{Error, Result};
use crate::memory::{Change, Kind, Memory, MemoryId, Verb};
use crate::metadata::Metadata;

/// What the rules look at.
pub(crate) struct Record {
    pub(crate) id: MemoryId,
    pub(crate) kind: Kind,
    pub(crate) valid_from: Timestamp,
    pub(crate) valid_to: Option<Timestamp>,
    pub(crate) is_superseded: bool,
    pub(crate) labels: Metadata,
}

/// What a validity's end is asked with.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: Verb,
    pub(crate) valid_to: Timestamp,
    /// Until when a successor holds itself.
    pub(crate) successor_to: Option<Timestamp>,
    /// The labels the record must have, if the successor was decided on by them.
    pub(crate) labels: Option<&'a Metadata>,
}

/// Returns when the record's validity ends, if it may end at `asked.valid_to`.
///
/// A record ends once, with one exception: what becomes known late and held only until a superseded
/// record's end comes between the record and its successor.
pub(crate) fn end(record: &Record, asked: Asked<'_>) -> Result<Timestamp> {
    let Asked { verb, valid_to, .. } = asked;
    if !record.kind.is_record() {
        return Err(Error::invalid("record", "an event is immutable"));
    }
    // A successor that holds from before the record did leaves the record no time at all.
    let valid_to = if verb == Verb::Superseded {
        valid_to.max(record.valid_from)
    } else {
        valid_to
    };
    if valid_to < record.valid_from {
        return Err(Error::invalid("validity", "it ends after it begins"));
    }
    let is_between = verb == Verb::Superseded
        && asked
            .successor_to
            .is_some_and(|to| record.valid_to.is_some_and(|end| to <= end));
    // Its end may be found to lie earlier, by a retraction that arrives late.
    let is_earlier = verb == Verb::Retired;
    if record.is_superseded && !is_between && !is_earlier
        || record.valid_to.is_some_and(|end| end <= valid_to)
    {
        return Err(Error::Retired { id: record.id });
    }
    if asked.labels.is_some_and(|labels| *labels != record.labels) {
        return Err(Error::Relabeled { id: record.id });
    }
    Ok(valid_to)
}

/// The memory as it was known at a time: none if the store had not taken it yet. `changes` are all
/// of the memory's, oldest first.
pub(crate) fn as_known(
    mut memory: Memory,
    changes: &[Change],
    known: Option<Timestamp>,
) -> Option<Memory> {
    let Some(known) = known else {
        return Some(memory);
    };
    let by_then = |change: &&Change| change.at <= known && change.verb != Verb::Labeled;
    let last = changes.iter().rfind(by_then)?;
    memory.valid_to = last.valid_to;
    // A retraction that moves an end to an earlier moment leaves the successor.
    let by_then = changes.iter().filter(by_then);
    memory.superseded_by = by_then.filter_map(|change| change.successor).next_back();
    Some(memory)
}
