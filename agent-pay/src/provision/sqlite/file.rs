//! A database as a file: made, recognised, opened, put to sleep, removed.

use std::fs::OpenOptions;
use std::io::ErrorKind as IoKind;
use std::path::Path;

use agent_core::{ErrorKind, Retry};
use rusqlite::{Connection, OpenFlags};

use super::NAME;
use crate::error::{Error, Result};
use crate::provision::{Blocker, BlockerCode, ResourceName};

/// Marks a file as one of this provisioner (`AgDp`), so that another is never taken for it.
const APPLICATION_ID: i32 = 0x4167_4470;

/// Folds the log into the file and renames it while nobody else has it open.
pub(super) fn fall_asleep(name: &ResourceName, path: &Path, asleep: &Path) -> Result<()> {
    let in_use = |_busy| Error::ResourceInUse { name: name.clone() };
    let connection = open(path)?;
    connection
        .busy_timeout(std::time::Duration::ZERO)
        .map_err(failed("set the time limit for locks"))?;
    // Leaving the log needs the file for oneself: SQLite refuses it while others are connected.
    let mode: String = connection
        .query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))
        .map_err(in_use)?;
    if mode != "delete" {
        return Err(Error::ResourceInUse { name: name.clone() });
    }
    connection
        .execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE")
        .map_err(in_use)?;
    std::fs::rename(path, asleep).map_err(io("put a database to sleep"))
}

/// Returns whether a database of this provisioner is there. SQLite opens it: who closes a file that
/// SQLite has open in the same process takes its locks away.
pub(super) fn is_ours(path: &Path) -> Result<bool> {
    if !is_there(path)? {
        return Ok(false);
    }
    let id = connect(path).and_then(|connection| {
        connection.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0))
    });
    match id {
        Ok(APPLICATION_ID) => Ok(true),
        Ok(_) => Err(taken("another program's file has its name")),
        // Another process gave it another name in the middle.
        Err(_gone) if !is_there(path)? => Ok(false),
        Err(error) if is_passing(&error) => Err(failed("look at a database")(error)),
        Err(_other) => Err(taken("something that is no database has its name")),
    }
}

fn is_there(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => Ok(true),
        Ok(_) => Err(taken("something that is no file has its name")),
        Err(error) if error.kind() == IoKind::NotFound => Ok(false),
        Err(error) => Err(io("look at a file")(error)),
    }
}

/// Whether an error says nothing of the file: others use it, or the disk failed.
fn is_passing(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, SystemIoFailure};
    let code = error.sqlite_error_code();
    matches!(code, Some(DatabaseBusy | DatabaseLocked | SystemIoFailure))
}

fn taken(found: &'static str) -> Error {
    Error::blocked(vec![Blocker::new(
        BlockerCode::NameTaken,
        found,
        "choose another name",
    )])
}

/// Makes a database that is durable when this returns: its bytes wait for the disk once, not with
/// each of SQLite's steps.
pub(super) fn make(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(io("create a file"))?;
    let connection = open(path)?;
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; PRAGMA application_id={APPLICATION_ID}"
        ))
        .map_err(failed("make a database"))?;
    // Moves the log into the file.
    drop(connection);
    file.sync_all().map_err(io("make a database durable"))
}

/// Removes a database and what SQLite keeps beside it, which it would take for another's of that name.
pub(super) fn remove_database(path: &Path) -> Result<()> {
    for beside in ["-wal", "-shm", "-journal", ""] {
        let mut file = path.to_owned().into_os_string();
        file.push(beside);
        remove(Path::new(&file))?;
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != IoKind::NotFound => Err(io("remove a file")(error)),
        _ => Ok(()),
    }
}

pub(super) fn open(path: &Path) -> Result<Connection> {
    connect(path).map_err(failed("open a database"))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}

pub(super) fn pragma<T: rusqlite::types::FromSql>(
    connection: &Connection,
    name: &str,
) -> Result<T> {
    connection
        .pragma_query_value(None, name, |row| row.get(0))
        .map_err(failed("read a setting"))
}

pub(super) fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| Error::backend(NAME, operation, ErrorKind::Unavailable, Retry::Safe, error)
}

pub(super) fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| {
        let kind = match error.kind() {
            IoKind::NotFound => ErrorKind::NotFound,
            IoKind::PermissionDenied => ErrorKind::Denied,
            IoKind::StorageFull | IoKind::QuotaExceeded => ErrorKind::Exhausted,
            _ => ErrorKind::Unavailable,
        };
        Error::backend(NAME, operation, kind, Retry::Safe, error)
    }
}
