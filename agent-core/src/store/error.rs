//! What can go wrong with the store, as decisions rather than SQLite codes.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;

use crate::error::{BoxError, Classify, ErrorKind, Retry};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another handle of this one, has the store open.
    #[error("the store {} is already in use", path.display())]
    #[non_exhaustive]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file cannot be opened or created.
    #[error("cannot open the store {}", path.display())]
    #[non_exhaustive]
    Open {
        /// The store's file.
        path: PathBuf,
        /// What a caller can decide on.
        kind: ErrorKind,
        /// The cause.
        source: BoxError,
    },
    /// Another connection held the lock for longer than the time limit.
    #[error("the store was busy: failed to {operation}")]
    #[non_exhaustive]
    Busy {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// The disk, or the quota on it, is full.
    #[error("the disk is full: failed to {operation}")]
    #[non_exhaustive]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// The file is damaged or is not a store.
    #[error("the store is damaged: {found}")]
    #[non_exhaustive]
    Corrupt {
        /// What was found.
        found: String,
    },
    /// A unique or check constraint refused the change.
    #[error("a constraint refused to {operation}")]
    #[non_exhaustive]
    Constraint {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// The operating system failed to read or write; the change may or may not be on disk.
    #[error("input or output failed: could not {operation}")]
    #[non_exhaustive]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// The file was written by a later version of a layer.
    #[error("layer {layer} is at version {found} in the file, this program knows {known}")]
    #[non_exhaustive]
    TooNew {
        /// The layer.
        layer: String,
        /// The version in the file.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// A statement or a write function is wrong: a bug in the layer.
    #[error("failed to {operation}")]
    #[non_exhaustive]
    Internal {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: BoxError,
    },
}

/// Names the operation that failed: `.map_err(sql("insert the task"))`.
pub fn sql(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| Error::from_sqlite(operation, source)
}

impl Error {
    pub(super) const fn closed() -> Self {
        Self::Closed
    }

    /// Says that stored data is damaged, for layers that read what no longer parses.
    #[must_use]
    pub const fn corrupt(found: String) -> Self {
        Self::damaged(found)
    }

    pub(super) const fn damaged(found: String) -> Self {
        Self::Corrupt { found }
    }

    pub(super) fn open(path: &Path, source: impl Into<BoxError>) -> Self {
        Self::Open {
            path: path.to_owned(),
            kind: ErrorKind::Unavailable,
            source: source.into(),
        }
    }

    /// Like [`Self::open`], with the kind the operating system's error tells.
    pub(super) fn open_io(path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Denied
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Self::Open {
            path: path.to_owned(),
            kind,
            source: source.into(),
        }
    }

    pub(super) fn internal(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Internal {
            operation,
            source: source.into(),
        }
    }

    pub(super) fn undone() -> Self {
        let source = "a failing statement ended the transaction".into();
        Self::Busy {
            operation: "keep a batch of writes",
            source,
        }
    }

    /// Describes the error that undid a batch to one of its `n_writes` writes.
    pub(super) fn for_write_of(&self, n_writes: usize) -> Self {
        let source = || BoxError::from(format!("the commit failed: {}", chain(self)));
        match self {
            Self::Busy { operation, .. } => Self::Busy {
                operation,
                source: source(),
            },
            Self::DiskFull { operation, .. } => Self::DiskFull {
                operation,
                source: source(),
            },
            Self::Io { operation, .. } => Self::Io {
                operation,
                source: source(),
            },
            Self::Corrupt { found } => Self::Corrupt {
                found: found.clone(),
            },
            // A deferred constraint is only checked by the commit, which does not tell whose it
            // is. Nothing was kept, so the others may repeat; the guilty write learns it once it
            // is alone.
            Self::Constraint { operation, .. } if n_writes > 1 => Self::Busy {
                operation,
                source: source(),
            },
            Self::Constraint { operation, .. } => Self::Constraint {
                operation,
                source: source(),
            },
            _ => Self::Internal {
                operation: "commit",
                source: source(),
            },
        }
    }

    fn from_sqlite(operation: &'static str, error: rusqlite::Error) -> Self {
        let source: BoxError = match &error {
            rusqlite::Error::SqliteFailure(code, _message) => match code.code {
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                    return Self::Corrupt {
                        found: format!("cannot {operation}: {error}"),
                    };
                }
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                    return Self::Busy {
                        operation,
                        source: error.into(),
                    };
                }
                ErrorCode::DiskFull => {
                    return Self::DiskFull {
                        operation,
                        source: error.into(),
                    };
                }
                ErrorCode::ConstraintViolation => {
                    return Self::Constraint {
                        operation,
                        source: error.into(),
                    };
                }
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied => {
                    return Self::Io {
                        operation,
                        source: error.into(),
                    };
                }
                _ => error.into(),
            },
            // What was read is not what the layer wrote: the file was changed by somebody else.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => {
                return Self::Corrupt {
                    found: format!("cannot {operation}: {error}"),
                };
            }
            _ => error.into(),
        };
        Self::Internal { operation, source }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } | Self::Constraint { .. } => ErrorKind::Conflict,
            Self::Open { kind, .. } => *kind,
            Self::Busy { .. } | Self::Io { .. } => ErrorKind::Unavailable,
            Self::DiskFull { .. } => ErrorKind::Exhausted,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::TooNew { .. } => ErrorKind::Unsupported,
            Self::Closed => ErrorKind::Canceled,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. } | Self::DiskFull { .. } | Self::InUse { .. } => Retry::Safe,
            Self::Io { .. } => Retry::Unknown,
            _ => Retry::Never,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "store.in_use",
            Self::Open { .. } => "store.open",
            Self::Busy { .. } => "store.busy",
            Self::DiskFull { .. } => "store.disk_full",
            Self::Corrupt { .. } => "store.corrupt",
            Self::Constraint { .. } => "store.constraint",
            Self::Io { .. } => "store.io",
            Self::TooNew { .. } => "store.too_new",
            Self::Closed => "store.closed",
            Self::Internal { .. } => "store.internal",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::InUse { .. } => {
                "close the other handle or process, or choose another data directory"
            }
            Self::Open { .. } => "check that the directory exists and may be written",
            Self::Busy { .. } => "repeat the call; nothing was changed",
            Self::DiskFull { .. } => "free space on the disk and repeat; nothing was changed",
            Self::Corrupt { .. } => "move the data directory aside and restore a backup of it",
            Self::Constraint { .. } => "read the current state and decide again",
            Self::Io { .. } => "check the disk and its permissions, then read before repeating",
            Self::TooNew { .. } => "open the data directory with the program version that wrote it",
            Self::Closed => "open the store again",
            Self::Internal { .. } => "report this as a bug, with its chain of causes",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
