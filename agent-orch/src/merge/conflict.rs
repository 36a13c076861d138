//! Where two changes do not fit together.

use serde::{Deserialize, Serialize};

use super::object::RepoPath;

/// One path that two changes cannot share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conflict {
    /// The path.
    pub path: RepoPath,
    /// Why.
    pub kind: ConflictKind,
}

/// Why a path is in conflict. "Ours" is the target, "theirs" the change that would land.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConflictKind {
    /// Both changed the same lines, or a binary file.
    Content,
    /// Both added it, differently.
    BothAdded,
    /// The target deleted or renamed what the change modified.
    DeletedByUs,
    /// The change deleted or renamed what the target modified.
    DeletedByThem,
    /// A rename, or a file where the other side has a directory.
    Structure,
}
