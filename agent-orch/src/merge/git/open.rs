//! Opening repositories, and what libgit2's errors mean.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent_core::ErrorKind;
use git2::{Config, ErrorClass, ErrorCode, Oid, Repository};

use super::Inner;
use crate::merge::error::{Error, Result};
use crate::merge::object::ObjectId;

/// The file whose lock says that a process works on the clone.
const LOCK_FILE: &str = "agents.lock";

/// Opens a repository that belongs to somebody else.
pub(super) fn foreign(path: &Path) -> Result<Repository> {
    let repo = Repository::open(path).map_err(|e| open_error(path, e))?;
    match repo.head().and_then(|head| head.peel_to_commit()) {
        Ok(_) => {}
        Err(e) if e.code() == ErrorCode::UnbornBranch => {
            return Err(Error::Empty {
                path: path.to_owned(),
            });
        }
        Err(e) => return Err(corrupt("HEAD", e)),
    }
    Ok(repo)
}

/// Opens a clone of ours and keeps every other process out of it.
pub(super) fn own(path: &Path) -> Result<Inner> {
    let repo = isolated(path)?;
    let lock = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(repo.path().join(LOCK_FILE))
        .map_err(io_failed("create its lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            return Err(Error::InUse {
                path: path.to_owned(),
            });
        }
        Err(fs::TryLockError::Error(e)) => return Err(io_failed("take its lock")(e)),
    }
    remove_stale_locks(&repo.path().join("refs"), 0)?;
    Ok(Inner {
        repo,
        lines: BTreeMap::new(),
        _lock: Some(lock),
    })
}

/// Opens a clone of ours with its own configuration alone: the user's and the system's would let
/// the environment change what a merge does.
pub(super) fn isolated(path: &Path) -> Result<Repository> {
    let repo = Repository::open_bare(path).map_err(|e| open_error(path, e))?;
    let config = Config::open(&repo.path().join("config")).map_err(|e| corrupt("config", e))?;
    repo.set_config(&config)
        .map_err(failed("isolate its configuration"))?;
    Ok(repo)
}

/// Removes `*.lock` below the references. A process killed while it moved a reference leaves one,
/// and with our lock held no process of ours is moving any.
fn remove_stale_locks(directory: &Path, depth: usize) -> Result<()> {
    /// Deeper than any reference the fleet makes.
    const DEPTH_MAX: usize = 16;
    let entries = match fs::read_dir(directory) {
        Ok(entries) if depth < DEPTH_MAX => entries,
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_failed("list its references")(e)),
    };
    for entry in entries {
        let entry = entry.map_err(io_failed("list its references"))?;
        let kind = entry
            .file_type()
            .map_err(io_failed("list its references"))?;
        if kind.is_dir() {
            remove_stale_locks(&entry.path(), depth.saturating_add(1))?;
        } else if entry.path().extension().is_some_and(|e| e == "lock") {
            fs::remove_file(entry.path()).map_err(io_failed("remove a stale lock"))?;
        }
    }
    Ok(())
}

/// Returns the commit a revision names.
pub(super) fn resolve(repo: &Repository, revision: &str) -> Result<Oid> {
    let object = repo
        .revparse_single(revision)
        .and_then(|object| object.peel_to_commit());
    match object {
        Ok(commit) => Ok(commit.id()),
        Err(e) if matches!(e.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => {
            Err(Error::NotFound {
                what: "revision",
                name: revision.to_owned(),
            })
        }
        Err(e) => Err(failed("resolve a revision")(e)),
    }
}

fn open_error(path: &Path, error: git2::Error) -> Error {
    let path = path.to_owned();
    match (error.code(), error.class()) {
        (ErrorCode::Owner, _) => Error::NotOwned { path },
        (_, ErrorClass::Repository) if error.message().starts_with("unsupported") => {
            Error::Unsupported {
                path,
                feature: error.message().to_owned(),
            }
        }
        (ErrorCode::NotFound, _) => Error::NotARepository { path },
        (_, ErrorClass::Os) => failed("open the repository")(error),
        _ => corrupt("the repository's files", error),
    }
}

fn corrupt(what: &str, error: git2::Error) -> Error {
    Error::Corrupt {
        what: what.to_owned(),
        source: Some(error.into()),
    }
}

/// Classifies a failed look-up: absent is not damaged.
pub(super) fn missing(what: &'static str, id: ObjectId) -> impl FnOnce(git2::Error) -> Error {
    move |error| match error.code() {
        ErrorCode::NotFound => Error::NotFound {
            what,
            name: id.to_string(),
        },
        ErrorCode::InvalidSpec | ErrorCode::Peel => Error::NotFound {
            what,
            name: id.to_string(),
        },
        _ => corrupt(&format!("{what} {id}"), error),
    }
}

/// Classifies a failure of libgit2.
pub(super) fn failed(operation: &'static str) -> impl FnOnce(git2::Error) -> Error {
    move |error| {
        let kind = match (error.code(), error.class()) {
            (ErrorCode::Locked, _) | (_, ErrorClass::Os) => ErrorKind::Unavailable,
            (ErrorCode::NotFound | ErrorCode::HashsumMismatch, _)
            | (_, ErrorClass::Odb | ErrorClass::Zlib) => {
                return corrupt(operation, error);
            }
            _ => ErrorKind::Internal,
        };
        Error::Backend {
            operation,
            kind,
            source: error.into(),
        }
    }
}

/// Classifies a failure of the file system.
pub(super) fn io_failed(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::Exhausted
            }
            _ => ErrorKind::Unavailable,
        };
        Error::Backend {
            operation,
            kind,
            source: error.into(),
        }
    }
}
