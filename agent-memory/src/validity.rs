//! The rules of how a record's validity ends, shared by the backends.

use agent_core::Timestamp;

use crate::error::{Error, Result};
use crate::memory::{Kind, MemoryId, Verb};

/// What the rules look at.
pub(crate) struct Record {
    pub(crate) id: MemoryId,
    pub(crate) kind: Kind,
    pub(crate) valid_from: Timestamp,
    pub(crate) valid_to: Option<Timestamp>,
    pub(crate) is_superseded: bool,
}

/// Returns when the record's validity ends, if it may end at `valid_to`.
pub(crate) fn end(record: &Record, verb: Verb, valid_to: Timestamp) -> Result<Timestamp> {
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
    if record.is_superseded || record.valid_to.is_some_and(|end| end <= valid_to) {
        return Err(Error::Retired { id: record.id });
    }
    Ok(valid_to)
}
