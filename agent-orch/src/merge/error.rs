//! What merging can fail with.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::{BoxError, Classify, ErrorKind, Retry};

use super::object::{ObjectId, RepoPath};

/// Why a call of the merge layer failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No repository lies at the path.
    #[error("no git repository at {}", path.display())]
    #[non_exhaustive]
    NotARepository {
        /// The path that was given.
        path: PathBuf,
    },
    /// The repository has no commit to work on.
    #[error("the repository at {} has no commit", path.display())]
    #[non_exhaustive]
    Empty {
        /// The path that was given.
        path: PathBuf,
    },
    /// Another user owns the repository, so that its configuration is not trusted.
    #[error("another user owns the repository at {}", path.display())]
    #[non_exhaustive]
    NotOwned {
        /// The path that was given.
        path: PathBuf,
    },
    /// The repository uses a feature this library does not have.
    #[error("cannot read the repository at {}: {feature}", path.display())]
    #[non_exhaustive]
    Unsupported {
        /// The path that was given.
        path: PathBuf,
        /// What is missing.
        feature: String,
    },
    /// Another process works on the clone.
    #[error("another process works on {}", path.display())]
    #[non_exhaustive]
    InUse {
        /// The clone's path.
        path: PathBuf,
    },
    /// An object is missing or damaged.
    #[error("damaged repository: {what}")]
    #[non_exhaustive]
    Corrupt {
        /// What was read.
        what: String,
        /// The cause, if a library reported it.
        source: Option<BoxError>,
    },
    /// The named object, reference or file does not exist.
    #[error("no {what} {name}")]
    #[non_exhaustive]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An argument is wrong.
    #[error("invalid {what}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Which rule it breaks.
        reason: String,
    },
    /// An edit names something that is not a regular file, or lies below one.
    #[error("{path} is not a regular file")]
    #[non_exhaustive]
    NotAFile {
        /// The path of the edit.
        path: RepoPath,
    },
    /// The edits leave the tree as it is.
    #[error("the edits change nothing")]
    NothingChanged,
    /// Something exceeds its limit.
    #[error("{what} of {actual} exceeds the limit of {limit}")]
    #[non_exhaustive]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was found.
        actual: u64,
    },
    /// A reference is not where the caller expected it.
    #[error("{reference} moved away from {expected}")]
    #[non_exhaustive]
    Moved {
        /// The reference.
        reference: String,
        /// Where it was expected.
        expected: ObjectId,
    },
    /// The tree about to land is not the one the check saw.
    #[error("tree {landing} was to land, but {tested} was tested")]
    #[non_exhaustive]
    Untested {
        /// The tree of the commit.
        landing: ObjectId,
        /// The tree the check saw.
        tested: ObjectId,
    },
    /// The check could not be run; no change is to blame.
    #[error("the check could not run")]
    #[non_exhaustive]
    CheckUnavailable {
        /// The check's error.
        source: BoxError,
    },
    /// The signer of a change failed.
    #[error("the change was not signed")]
    #[non_exhaustive]
    Unsigned {
        /// The signer's error.
        source: BoxError,
    },
    /// The repository's thread has ended.
    #[error("the repository's thread has ended")]
    Stopped,
    /// libgit2 or the file system failed.
    #[error("git failed to {operation}")]
    #[non_exhaustive]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// What a caller can decide on.
        kind: ErrorKind,
        /// The cause.
        source: BoxError,
    },
}

/// The result of the merge layer's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an [`Error::Invalid`].
    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }

    /// Refuses what exceeds its limit.
    pub(crate) fn limit(what: &'static str, limit: usize, actual: usize) -> Result<()> {
        if actual <= limit {
            return Ok(());
        }
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Err(Self::TooLarge {
            what,
            limit: wide(limit),
            actual: wide(actual),
        })
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotARepository { .. } | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Empty { .. }
            | Self::Invalid { .. }
            | Self::NotAFile { .. }
            | Self::NothingChanged => ErrorKind::Invalid,
            Self::NotOwned { .. } => ErrorKind::Denied,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::InUse { .. } | Self::Moved { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } => ErrorKind::Exhausted,
            Self::Untested { .. } => ErrorKind::Internal,
            Self::CheckUnavailable { .. } | Self::Unsigned { .. } | Self::Stopped => {
                ErrorKind::Unavailable
            }
            Self::Backend { kind, .. } => *kind,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::InUse { .. } | Self::Moved { .. } | Self::CheckUnavailable { .. } => Retry::Safe,
            // Every write is idempotent, so repeating is harmless; whether it happened is unknown.
            Self::Stopped | Self::Unsigned { .. } | Self::Backend { .. } => Retry::Unknown,
            _ => Retry::Never,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotARepository { .. } => "merge.not_a_repository",
            Self::Empty { .. } => "merge.empty",
            Self::NotOwned { .. } => "merge.not_owned",
            Self::Unsupported { .. } => "merge.unsupported",
            Self::InUse { .. } => "merge.in_use",
            Self::Corrupt { .. } => "merge.corrupt",
            Self::NotFound { .. } => "merge.not_found",
            Self::Invalid { .. } => "merge.invalid",
            Self::NotAFile { .. } => "merge.not_a_file",
            Self::NothingChanged => "merge.nothing_changed",
            Self::TooLarge { .. } => "merge.too_large",
            Self::Moved { .. } => "merge.moved",
            Self::Untested { .. } => "merge.untested",
            Self::CheckUnavailable { .. } => "merge.check_unavailable",
            Self::Unsigned { .. } => "merge.unsigned",
            Self::Stopped => "merge.stopped",
            Self::Backend { .. } => "merge.backend",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::NotARepository { .. } => "give the root of a work tree or a bare repository",
            Self::Empty { .. } => "commit something first",
            Self::NotOwned { path } => {
                return Cow::Owned(format!(
                    "run `git config --global --add safe.directory '{}'` if you trust it, or run as its owner",
                    path.display()
                ));
            }
            Self::Unsupported { .. } => "use a full SHA-1 clone with the files reference backend",
            Self::InUse { .. } => "stop the other process, or use another directory",
            Self::Corrupt { .. } => "run `git fsck` on the source and clone again",
            Self::NotFound { .. } => "check the name",
            Self::Invalid { .. } => "correct the value the message names",
            Self::NotAFile { .. } => {
                "edit regular files alone; links and submodules are left as they are"
            }
            Self::NothingChanged => "finish the task without a change",
            Self::TooLarge { .. } => "split the change",
            Self::Moved { .. } => "read the reference again and plan anew",
            Self::Untested { .. } => "report this as a bug; nothing has landed",
            Self::CheckUnavailable { .. } => {
                "repair what runs the check; the changes are still queued"
            }
            Self::Unsigned { .. } => "see the cause; propose again with the same inputs",
            Self::Stopped => "open the repository again",
            Self::Backend { .. } => "see the cause; repeating is harmless",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
