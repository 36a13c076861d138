//! What can go wrong with a memory, as decisions of the caller.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::{Classify, ErrorKind, Retry};

use crate::memory::MemoryId;
use crate::safety::SecretKind;

/// An error of a memory store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is not of the required form or exceeds a limit.
    #[error("invalid {what}: {reason}")]
    #[non_exhaustive]
    Invalid {
        /// What was refused, for example `namespace`.
        what: &'static str,
        /// Which rule it breaks.
        reason: Cow<'static, str>,
    },
    /// The namespace holds no such memory.
    #[error("there is no memory {id} in this namespace")]
    #[non_exhaustive]
    NotFound {
        /// The id asked for.
        id: MemoryId,
    },
    /// The idempotency key was used for other content.
    #[error("the idempotency key of {id} was used with other content")]
    #[non_exhaustive]
    KeyReused {
        /// The memory the key belongs to.
        id: MemoryId,
    },
    /// The idempotency key belongs to an erased memory, which a repeated call must not bring back.
    #[error("the idempotency key belongs to {id}, which was erased")]
    #[non_exhaustive]
    Erased {
        /// The erased memory.
        id: MemoryId,
    },
    /// The record has been retired or superseded before.
    #[error("{id} is retired already")]
    #[non_exhaustive]
    Retired {
        /// The record.
        id: MemoryId,
    },
    /// The labels of the record to be replaced are not those the draft names.
    #[error("the labels of {id} were changed")]
    #[non_exhaustive]
    Relabeled {
        /// The record.
        id: MemoryId,
    },
    /// A memory under legal hold cannot be erased.
    #[error("{id} is under legal hold")]
    #[non_exhaustive]
    Held {
        /// The memory.
        id: MemoryId,
    },
    /// The text holds a secret, which is not kept.
    #[error("the text holds a secret: {}", kind.as_str())]
    #[non_exhaustive]
    Secret {
        /// What kind.
        kind: SecretKind,
    },
    /// A memory of a plan to forget is not as the plan saw it.
    #[error("{id} was pinned or used since the plan was made")]
    #[non_exhaustive]
    StalePlan {
        /// The memory.
        id: MemoryId,
    },
    /// The language model failed.
    #[error("failed to ask the model")]
    #[non_exhaustive]
    Model {
        /// The cause.
        source: agent_core::Error,
    },
    /// Other writers of a slot were faster every time.
    #[error("other writers of the slot {slot} were faster every time")]
    #[non_exhaustive]
    Contended {
        /// The slot's key.
        slot: String,
    },
    /// Another namespace of the store has a memory with this id.
    #[error("{id} belongs to another namespace")]
    #[non_exhaustive]
    IdTaken {
        /// The id.
        id: MemoryId,
    },
    /// A line of an import could not be taken.
    #[error("line {line} of the import was refused")]
    #[non_exhaustive]
    Import {
        /// The line, from 1. Where a store refuses a batch, its first line; of another system's
        /// file, the entry.
        line: u64,
        /// The cause.
        source: Box<Self>,
    },
    /// The embedder broke its contract.
    #[error("the embedder of space {space} returned {found}")]
    #[non_exhaustive]
    BadVector {
        /// The embedder's space.
        space: String,
        /// What it returned.
        found: &'static str,
    },
    /// The embedder failed.
    #[error("failed to embed")]
    #[non_exhaustive]
    Embed {
        /// The cause.
        source: agent_core::Error,
    },
    /// The scope was canceled or its deadline passed.
    #[error("the call was stopped")]
    #[non_exhaustive]
    Stopped {
        /// The cause.
        source: agent_core::Error,
    },
    /// The embedded store failed.
    #[cfg(feature = "sqlite")]
    #[error("the store failed")]
    #[non_exhaustive]
    Store {
        /// The cause.
        source: agent_core::store::Error,
    },
    /// The PostgreSQL server refused, failed, or could not be reached.
    #[cfg(feature = "postgres")]
    #[error("the database failed to {operation}")]
    #[non_exhaustive]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What a caller can decide on.
        kind: ErrorKind,
        /// What is known about the effect.
        retry: Retry,
        /// The cause.
        source: agent_core::BoxError,
    },
    /// The file of an index could not be written or removed; the memories are not touched by it.
    #[cfg(feature = "sqlite")]
    #[error("the file of an index could not be written or removed")]
    #[non_exhaustive]
    IndexFile {
        /// The cause.
        source: std::io::Error,
    },
    /// A file of an embedder's model cannot be used.
    #[cfg(feature = "candle-embedder")]
    #[error("the model's file {file} cannot be used")]
    #[non_exhaustive]
    ModelFile {
        /// The file, relative to the model's folder.
        file: &'static str,
        /// What a caller can decide on: `NotFound`, `Unavailable` where it cannot be read,
        /// `Invalid` for a model of another kind or beyond a limit, `Corrupt`.
        kind: ErrorKind,
        /// The cause.
        source: agent_core::BoxError,
    },
    /// Stored or bundled data does not have the form it was written in.
    #[error("damaged data: {found}")]
    #[non_exhaustive]
    Corrupt {
        /// What was found.
        found: &'static str,
    },
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(what: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid {
            what,
            reason: reason.into(),
        }
    }

    pub(crate) const fn corrupt(found: &'static str) -> Self {
        Self::Corrupt { found }
    }

    pub(crate) const fn stopped(source: agent_core::Error) -> Self {
        Self::Stopped { source }
    }
}

#[cfg(feature = "sqlite")]
impl From<agent_core::store::Error> for Error {
    fn from(source: agent_core::store::Error) -> Self {
        Self::Store { source }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::KeyReused { .. } | Self::Erased { .. } | Self::Retired { .. } => {
                ErrorKind::Conflict
            }
            Self::Held { .. } | Self::Secret { .. } => ErrorKind::Denied,
            Self::Contended { .. }
            | Self::IdTaken { .. }
            | Self::StalePlan { .. }
            | Self::Relabeled { .. } => ErrorKind::Conflict,
            Self::Import { source, .. } => source.kind(),
            Self::BadVector { .. } => ErrorKind::Internal,
            Self::Embed { source } | Self::Model { source } | Self::Stopped { source } => {
                source.kind()
            }
            #[cfg(feature = "sqlite")]
            Self::Store { source } => source.kind(),
            #[cfg(feature = "postgres")]
            Self::Database { kind, .. } => *kind,
            #[cfg(feature = "sqlite")]
            Self::IndexFile { .. } => ErrorKind::Unavailable,
            #[cfg(feature = "candle-embedder")]
            Self::ModelFile { kind, .. } => *kind,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            // Embedding comes before the transaction, so nothing has been changed.
            Self::Embed { source } | Self::Model { source } if source.retry() != Retry::Never => {
                Retry::Safe
            }
            Self::Stopped { .. } | Self::Contended { .. } => Retry::Safe,
            #[cfg(feature = "sqlite")]
            Self::IndexFile { .. } => Retry::Safe,
            Self::Import { source, .. } => source.retry(),
            #[cfg(feature = "sqlite")]
            Self::Store { source } => source.retry(),
            #[cfg(feature = "postgres")]
            Self::Database { retry, .. } => *retry,
            _ => Retry::Never,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "memory.invalid",
            Self::NotFound { .. } => "memory.not_found",
            Self::KeyReused { .. } => "memory.key_reused",
            Self::Erased { .. } => "memory.erased",
            Self::Retired { .. } => "memory.retired",
            Self::Held { .. } => "memory.held",
            Self::Relabeled { .. } => "memory.relabeled",
            Self::Secret { .. } => "memory.secret",
            Self::Contended { .. } => "memory.contended",
            Self::IdTaken { .. } => "memory.id_taken",
            Self::Import { .. } => "memory.import",
            Self::StalePlan { .. } => "memory.stale_plan",
            Self::Model { .. } => "memory.model",
            Self::BadVector { .. } => "memory.bad_vector",
            Self::Embed { .. } => "memory.embed",
            Self::Stopped { .. } => "memory.stopped",
            #[cfg(feature = "sqlite")]
            Self::Store { source } => source.code(),
            #[cfg(feature = "postgres")]
            Self::Database { .. } => "memory.database",
            #[cfg(feature = "sqlite")]
            Self::IndexFile { .. } => "memory.index_file",
            #[cfg(feature = "candle-embedder")]
            Self::ModelFile { .. } => "memory.model_file",
            Self::Corrupt { .. } => "memory.corrupt",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Invalid { .. } => "correct the value the message names",
            Self::NotFound { .. } => "search the namespace for the memory that is meant",
            Self::KeyReused { .. } => "use another key for other content",
            Self::Erased { .. } => "add it under another key if it is meant to be kept after all",
            Self::Retired { .. } => "read the record's history and act on its successor",
            Self::Secret { .. } => "put it into the vault and remember where it is",
            Self::Contended { .. } => "repeat the call",
            Self::StalePlan { .. } => "make the plan again",
            Self::Model { .. } => "see the cause; no claim was taken",
            Self::Relabeled { .. } => "read the record again and decide by its labels",
            Self::Held { .. } => "lift the hold by its label first, if the law allows it",
            Self::IdTaken { .. } => "import into the namespace that has it, or into another store",
            Self::Import { .. } => "see the cause; correct the line and import the whole again",
            Self::BadVector { .. } => "use an embedder that keeps its contract",
            Self::Embed { .. } => "see the cause; nothing was changed",
            Self::Stopped { .. } => "start the call again if it is still wanted",
            #[cfg(feature = "sqlite")]
            Self::Store { source } => return source.fix(),
            #[cfg(feature = "postgres")]
            Self::Database { retry, .. } => match retry {
                Retry::Safe => "repeat the call; nothing was changed",
                Retry::Unknown => "repeat the call with the same idempotency keys",
                _ => "see the cause; it is for the operator of the database",
            },
            #[cfg(feature = "sqlite")]
            Self::IndexFile { .. } => "check the disk and the folder's permissions, then repeat",
            #[cfg(feature = "candle-embedder")]
            Self::ModelFile { .. } => "name the folder of a model of BERT's form, complete",
            Self::Corrupt { .. } => "restore a backup of the data directory",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Embed { source } | Self::Model { source } => source.retry_after(),
            #[cfg(feature = "sqlite")]
            Self::Store { source } => source.retry_after(),
            _ => None,
        }
    }
}
