//! What judges a tree before it lands.

use std::fmt;

use agent_core::{BoxError, TaskId};
use async_trait::async_trait;

use super::error::Result;
use super::object::ObjectId;

/// A tree that would land.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The tree to judge: exactly this one lands.
    pub tree: ObjectId,
    /// The commit that has it.
    pub commit: ObjectId,
    /// The target's commit the changes were merged on.
    pub onto: ObjectId,
    /// The tasks whose changes it adds to the target.
    pub tasks: Vec<TaskId>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The tree may land.
    Passed,
    /// It may not.
    #[non_exhaustive]
    Failed {
        /// Why, for the author.
        summary: String,
    },
}

impl Verdict {
    /// The longest summary that is kept, in bytes.
    pub const SUMMARY_BYTES_MAX: usize = 4_096;

    /// Says that a tree may not land. A summary past the limit is cut.
    #[must_use]
    pub fn failed(summary: impl Into<String>) -> Self {
        let mut summary = summary.into();
        let mut end = summary.len().min(Self::SUMMARY_BYTES_MAX);
        while !summary.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        summary.truncate(end);
        Self::Failed { summary }
    }
}

/// Judges trees: builds them, runs their tests.
///
/// This is the contract for _implementors_. Read the tree through
/// [`Repository::files`](super::git::Repository::files) and
/// [`Repository::read_blob`](super::git::Repository::read_blob).
#[async_trait]
pub trait Check: fmt::Debug + Send + Sync + 'static {
    /// Judges the candidate's tree and nothing else.
    ///
    /// # Errors
    /// Any error says that the check could not run. No change is blamed for it.
    ///
    /// # Cancel safety
    /// Must be cancel safe: the future is dropped when an earlier candidate fails.
    async fn check(&self, candidate: &Candidate) -> Result<Verdict, BoxError>;
}
