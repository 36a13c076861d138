//! Labels on memories, for filters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The value of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A memory's labels, by name.
pub type Metadata = BTreeMap<String, Value>;

/// Labels the crate itself reads.
pub mod label {
    use super::{Metadata, Value};

    /// While it is there and not `false`, the memory cannot be erased: a legal hold. Its value says
    /// why.
    pub const HOLD: &str = "memory.hold";
    /// While it is there and not `false`, no policy lets the memory go.
    pub const PIN: &str = "memory.pin";
    /// While it is there and not `false`, searches and listings leave the memory out unless asked.
    /// Its value says why.
    pub const QUARANTINE: &str = "memory.quarantine";
    /// While it is there and not `false`, searches and listings leave the memory out unless
    /// quarantined ones are asked for, too. Its value names the summary that stands for it.
    pub const ARCHIVED: &str = "memory.archived";
    /// The slot a record fills, for example `user/home`; at most one record of a slot with a single
    /// value holds at a time.
    pub const SLOT: &str = "memory.slot";

    /// Returns whether the labels leave a memory out of searches and listings.
    #[must_use]
    pub fn is_hidden(labels: &Metadata) -> bool {
        is_set(labels, QUARANTINE) || is_set(labels, ARCHIVED)
    }

    /// Returns whether a label is there and not `false`.
    #[must_use]
    pub fn is_set(labels: &Metadata, name: &str) -> bool {
        labels
            .get(name)
            .is_some_and(|value| *value != Value::Flag(false))
    }
}

/// A change of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relabel {
    /// Gives it this value.
    Set(Value),
    /// Adds to its number; a label that is absent or no number counts as 0. The sum saturates.
    Count(i64),
    /// Makes its number this one if it is less; a label that is absent or no number is less.
    Raise(i64),
    /// Removes it.
    Remove,
}

/// Applies changes of labels.
pub(crate) fn relabel(labels: &mut Metadata, changes: &[(String, Relabel)]) -> Result<()> {
    for (name, change) in changes {
        match change {
            Relabel::Set(value) => {
                labels.insert(name.clone(), value.clone());
            }
            Relabel::Count(n) => {
                let old = match labels.get(name) {
                    Some(Value::Integer(old)) => *old,
                    _ => 0,
                };
                labels.insert(name.clone(), Value::Integer(old.saturating_add(*n)));
            }
            Relabel::Raise(n) => {
                let old = match labels.get(name) {
                    Some(Value::Integer(old)) => *old,
                    _ => i64::MIN,
                };
                labels.insert(name.clone(), Value::Integer(old.max(*n)));
            }
            Relabel::Remove => {
                labels.remove(name);
            }
        }
    }
    check(labels)
}

/// The most labels of a memory: filters look at a few, and every row keeps them in main memory.
const LABELS_MAX: usize = 32;
/// The longest name of a label in bytes.
const LABEL_BYTES_MAX: usize = 64;
/// The longest text value of a label in bytes; longer ones belong into the memory's text.
const VALUE_BYTES_MAX: usize = 1_024;

pub(crate) fn check_name(name: &str) -> Result<()> {
    if (1..=LABEL_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Error::invalid("label", "a name has 1 to 64 bytes"))
    }
}

pub(crate) fn check_value(value: &Value) -> Result<()> {
    match value {
        Value::Text(text) if text.len() > VALUE_BYTES_MAX => {
            Err(Error::invalid("label", "a text has at most 1,024 bytes"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn check(metadata: &Metadata) -> Result<()> {
    if metadata.len() > LABELS_MAX {
        return Err(Error::invalid("metadata", "at most 32 labels"));
    }
    metadata.iter().try_for_each(|(name, value)| {
        check_name(name)?;
        check_value(value)
    })
}
