//! Memories of other systems, as drafts: exports of Mem0 (and its `history.db`, as items with their
//! history), agent files of Letta, items of a
//! `LangGraph` store such as `LangMem` keeps.
//!
//! A file is read whole, at most [`BYTES_MAX`]; reading it changes nothing. What comes of it is
//! added by [`MemoryStore::add`](crate::MemoryStore::add), and adding it again adds nothing: every
//! draft has a key made of the other system's id and the text. Labels have the other system's name
//! before theirs, so that none of them means anything to this crate. Times of an entry that cannot
//! be read are left to the store. Errors are [`Error::Import`] with the
//! number of the entry, from 1, and nothing of the file is returned.

mod langgraph;
mod letta;
mod mem0;
#[cfg(feature = "sqlite")]
mod mem0_history;
mod time;

use agent_core::{Digest, IdempotencyKey, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::memory::{Draft, Kind};
use crate::metadata::Value;
use crate::namespace::Namespace;

pub use langgraph::langgraph;
pub use letta::letta;
pub use mem0::mem0;
#[cfg(feature = "sqlite")]
pub use mem0_history::mem0_history;

/// The largest file.
pub const BYTES_MAX: usize = 256 * 1_024 * 1_024;
/// The most labels taken from an entry; with those of this module they stay within a memory's.
const LABELS_MAX: usize = 24;

/// A memory of another system.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Foreign {
    /// Whose it is there: user, agent and run, or the path of its namespace.
    pub owner: Vec<String>,
    /// The memory.
    pub draft: Draft,
}

impl Foreign {
    /// Returns the place for it below a namespace: one segment more for each part of the owner.
    /// Two owners never share a place; what a segment may not hold is written as `_` and two
    /// hexadecimal digits a byte.
    ///
    /// # Errors
    /// `Invalid` if the path is too deep or a part of it too long.
    pub fn place_below(&self, root: &Namespace) -> Result<Namespace> {
        let mut path = root.as_str().to_owned();
        for part in &self.owner {
            path.push('/');
            path.push_str(&segment(part));
        }
        Namespace::new(&path)
    }
}

/// A part of an owner as a segment; different parts give different segments.
fn segment(part: &str) -> String {
    let is_dots = part.bytes().all(|byte| byte == b'.');
    let mut segment = String::with_capacity(part.len());
    for byte in part.bytes() {
        let is_plain =
            byte.is_ascii_alphanumeric() || b"-:@".contains(&byte) || (byte == b'.' && !is_dots);
        if is_plain {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("_{byte:02x}"));
        }
    }
    if segment.is_empty() {
        segment.push('_');
    }
    segment
}

/// Reads a file's JSON.
fn parsed<T: DeserializeOwned>(json: &[u8], what: &'static str) -> Result<T> {
    if json.len() > BYTES_MAX {
        return Err(Error::invalid(what, "at most 268,435,456 bytes"));
    }
    serde_json::from_slice(json).map_err(|e| {
        let place = format!("it is not of the form, at line {}", e.line());
        Error::invalid(what, place)
    })
}

fn at_entry(n: usize, source: Error) -> Error {
    Error::Import {
        line: u64::try_from(n).unwrap_or(u64::MAX),
        source: Box::new(source),
    }
}

/// What a draft is made of.
struct Entry<'a> {
    system: &'static str,
    id: &'a str,
    kind: Kind,
    text: &'a str,
    at: Option<Timestamp>,
}

impl Entry<'_> {
    fn draft(&self) -> Result<Draft> {
        let id = Digest::of_bytes(format!("{}\0{}", self.id, self.text).as_bytes());
        let key = IdempotencyKey::new(format!("{}:{id}", self.system))
            .map_err(|e| Error::invalid("id", e.to_string()))?;
        let mut draft = Draft::new(self.kind, self.text)
            .with_key(key)
            .via(self.system)
            .because(format!("imported from {}", self.system));
        if let Some(at) = self.at {
            draft = draft.occurred_at(at);
        }
        draft.check()?;
        Ok(draft)
    }
}

/// Adds a label for each member of `labels` that a label can hold: texts, flags and whole numbers
/// as they are, all else as its JSON. What is too long for a label, or one too many, is left out.
fn labeled(mut draft: Draft, system: &str, labels: &serde_json::Map<String, Json>) -> Draft {
    for (name, value) in labels.iter().take(LABELS_MAX) {
        let name = format!("{system}.{name}");
        let value = match value {
            Json::Null => continue,
            Json::Bool(flag) => Value::Flag(*flag),
            Json::String(text) => Value::Text(text.clone()),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Text(number.to_string()),
            },
            other => Value::Text(other.to_string()),
        };
        let fits = crate::metadata::check_name(&name).is_ok()
            && crate::metadata::check_value(&value).is_ok();
        if fits {
            draft = draft.with_label(name, value);
        }
    }
    draft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_never_share_a_place_or_leave_the_root() {
        let root = Namespace::new("import").unwrap();
        let place = |owner: &[&str]| {
            let foreign = Foreign {
                owner: owner.iter().map(|part| (*part).to_owned()).collect(),
                draft: Draft::event("x"),
            };
            foreign.place_below(&root).map(|at| at.as_str().to_owned())
        };
        let is = |owner: &[&str], expected: &str| {
            assert_eq!(place(owner).ok().as_deref(), Some(expected));
        };
        is(&["ana"], "import/ana");
        is(&[".."], "import/_2e_2e");
        is(&["a/b"], "import/a_2fb");
        is(&["a_2fb"], "import/a_5f2fb");
        is(&["a.b", ""], "import/a.b/_");
        is(&["\u{e9}"], "import/_c3_a9");
        assert!(place(&["x"; 8]).is_err());
        assert!(place(&["x".repeat(129).as_str()]).is_err());
    }
}
