//! What an agent proposes before it is a commit: edits, a title, trailers.

use std::collections::BTreeMap;

use agent_core::{AgentId, TaskId, Timestamp};

use crate::merge::error::{Error, Result};
use crate::merge::object::{ObjectId, RepoPath};

/// What happens to one file.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// The file has these bytes. A file that exists keeps its executable bit.
    Put(Vec<u8>),
    /// The file is gone.
    Delete,
}

impl std::fmt::Debug for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(bytes) => write!(f, "Put({} bytes)", bytes.len()),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

/// A change before it is signed: who makes it, on what, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Draft {
    /// The commit the edits are made to.
    pub base: ObjectId,
    /// The task the change settles; it names the change.
    pub task: TaskId,
    /// The agent that made it.
    pub agent: AgentId,
    /// When it was made. The caller's time, so that the same draft makes the same commit.
    pub at: Timestamp,
    /// The message: a subject line and, after an empty line, a body.
    pub message: String,
    /// The edits, by path.
    pub edits: BTreeMap<RepoPath, Edit>,
    /// Further trailers, written between `Task` and `Signature`.
    pub trailers: Vec<(String, String)>,
}

impl Draft {
    /// The most edits in one change. A review of more is no review.
    pub const EDITS_MAX: usize = 10_000;
    /// The most bytes all edits of one change put: what fits memory beside fifty agents.
    pub const BYTES_MAX: usize = 64 << 20;
    /// The longest message in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
    /// The most further trailers.
    pub const TRAILERS_MAX: usize = 32;
    /// The longest trailer value in bytes, a signature included.
    pub const TRAILER_BYTES_MAX: usize = 8 << 10;

    /// Creates a draft without edits.
    #[must_use]
    pub fn new(
        base: ObjectId,
        task: TaskId,
        agent: AgentId,
        at: Timestamp,
        message: impl Into<String>,
    ) -> Self {
        let (message, edits, trailers) = (message.into(), BTreeMap::new(), Vec::new());
        Self {
            base,
            task,
            agent,
            at,
            message,
            edits,
            trailers,
        }
    }

    /// Puts a file. Default: the file stays as it is.
    #[must_use]
    pub fn with_put(mut self, path: RepoPath, bytes: impl Into<Vec<u8>>) -> Self {
        self.edits.insert(path, Edit::Put(bytes.into()));
        self
    }

    /// Deletes a file. Default: the file stays as it is.
    #[must_use]
    pub fn with_delete(mut self, path: RepoPath) -> Self {
        self.edits.insert(path, Edit::Delete);
        self
    }

    /// Adds a trailer. Default: none beside `Agent`, `Task` and `Signature`.
    #[must_use]
    pub fn with_trailer(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.trailers.push((key.into(), value.into()));
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        Error::limit("a change's edits", Self::EDITS_MAX, self.edits.len())?;
        Error::limit(
            "a message's bytes",
            Self::MESSAGE_BYTES_MAX,
            self.message.len(),
        )?;
        Error::limit(
            "a change's trailers",
            Self::TRAILERS_MAX,
            self.trailers.len(),
        )?;
        let bytes = self.edits.values().map(|edit| match edit {
            Edit::Put(bytes) => bytes.len(),
            Edit::Delete => 0,
        });
        Error::limit("a change's bytes", Self::BYTES_MAX, bytes.sum())?;
        if self.message.trim().is_empty() || self.message.contains('\0') {
            return Err(Error::invalid(
                "message",
                "a message has a subject and no NUL",
            ));
        }
        self.trailers
            .iter()
            .try_for_each(|(key, value)| check_trailer(key, value))
    }
}

fn check_trailer(key: &str, value: &str) -> Result<()> {
    const OURS: [&str; 3] = ["agent", "task", "signature"];
    Error::limit("a trailer's bytes", Draft::TRAILER_BYTES_MAX, value.len())?;
    let word = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !word || OURS.contains(&key.to_ascii_lowercase().as_str()) {
        return Err(Error::invalid(
            "trailer",
            "a key is a word other than the three this writes",
        ));
    }
    check_trailer_value(value)
}

pub(super) fn check_trailer_value(value: &str) -> Result<()> {
    Error::limit("a trailer's bytes", Draft::TRAILER_BYTES_MAX, value.len())?;
    if value.trim().is_empty() || value.chars().any(char::is_control) {
        return Err(Error::invalid(
            "trailer",
            "a value is one line and not empty",
        ));
    }
    Ok(())
}
