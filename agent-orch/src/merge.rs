//! Bringing many agents' changes together.
//!
//! ```text
//! Draft ── propose ──► refs/heads/agents/changes/<task> ── enqueue ──► MergeQueue
//!                                                                        │ plan (pure)
//!   author ◄── conflict, new base ── three-way merge of trees ◄── batch ─┤
//!                                    check of exactly that tree ─────────┤
//!                                    compare-and-swap of the target ◄────┘
//! ```
//!
//! Nothing here has a work tree, and the `git` program is not needed. References are the truth:
//! a change that waits is a branch, a change that landed is a merge commit on the target's
//! first-parent line with a `Task` trailer. A [`Snapshot`] is worth keeping, because it saves
//! repeated checks, but losing it loses nothing.
//!
//! What lands is what was tested: a check sees a tree, and the target moves to a commit with exactly
//! that tree or not at all. In a batch the check sees the tree of the last merge; the merges before
//! it in the batch are not checked one by one.

mod check;
mod conflict;
mod error;
#[cfg(feature = "git")]
pub mod git;
mod lane;
mod limits;
mod object;
pub mod plan;
#[cfg(feature = "git")]
mod queue;
mod status;

pub use check::{Candidate, Check, Verdict};
pub use conflict::{Conflict, ConflictKind};
pub use error::{Error, Result};
pub use lane::{Change, lanes};
pub use limits::Limits;
pub use object::{Entry, EntryKind, ObjectId, RepoPath, is_lfs_pointer};
pub use plan::Snapshot;
#[cfg(feature = "git")]
#[expect(clippy::module_name_repetitions, reason = "the field's name for it")]
pub use queue::MergeQueue;
#[cfg(feature = "git")]
pub use queue::{Intake, Progress, QueueConfig, Submission};
pub use status::{Rejection, Resolution, Settled, Status};
