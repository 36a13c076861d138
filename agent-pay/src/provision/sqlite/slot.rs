//! Places where databases are made before they have their names, each of one process at a time.
//!
//! A place has two files: `NAME-N.making`, the database, and `NAME-N.lock`, which is locked by whoever
//! makes it and by nobody once that process is dead. What is found in a place that is not locked was
//! left behind by one that was killed.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use agent_core::{ErrorKind, Retry};

use super::file::{io, remove, remove_database};
use super::{Inner, NAME};
use crate::error::{Error, Result};

/// How many may make a database of one name at the same time: two processes that were given the same
/// order, and those that repeat it.
const N_MAX: usize = 8;

/// A place that is ours.
#[derive(Debug)]
pub(super) struct Slot {
    /// Where the database is made. Nothing is there at first.
    pub(super) making: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl Slot {
    /// Takes a place unless somebody else has it.
    fn take(dir: &Path, of: &str, n: usize) -> Result<Option<Self>> {
        let lock_path = dir.join(format!("{of}-{n}.lock"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(&lock_path).map_err(io("open a lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(io("take a lock")(error)),
        }
        // Whoever had it may have removed its name between the two: then it keeps nobody out.
        if !is_at(&lock, &lock_path) {
            return Ok(None);
        }
        let making = dir.join(format!("{of}-{n}.making"));
        remove_database(&making)?;
        Ok(Some(Self {
            making,
            lock_path,
            lock,
        }))
    }

    /// Leaves it, with nothing in it.
    pub(super) fn leave(self) -> Result<()> {
        remove_database(&self.making)?;
        remove(&self.lock_path)?;
        drop(self.lock);
        Ok(())
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |about: std::fs::Metadata| (about.dev(), about.ino());
    let found = std::fs::symlink_metadata(path).map(of);
    matches!((file.metadata().map(of), found), (Ok(file), Ok(found)) if file == found)
}

#[cfg(not(unix))]
const fn is_at(_file: &File, _path: &Path) -> bool {
    // A file that is open keeps its name there.
    true
}

impl Inner {
    /// Takes a place to make a database in.
    pub(super) fn slot(&self, of: &str) -> Result<Slot> {
        let dir = self.dir()?;
        for n in 0..N_MAX {
            if let Some(slot) = Slot::take(&dir, of, n)? {
                return Ok(slot);
            }
        }
        let (kind, retry) = (ErrorKind::Unavailable, Retry::Safe);
        let why = "too many make it at the same time";
        Err(Error::backend(NAME, "make a database", kind, retry, why))
    }

    /// Removes what processes that were killed left of a database in the making. What another is at work
    /// with stays.
    pub(super) fn clear_slots(&self, of: &str) -> Result<()> {
        let dir = self.dir()?;
        // Where an earlier version made it.
        remove_database(&dir.join(format!("{of}.making")))?;
        for n in 0..N_MAX {
            let is_there = |end| dir.join(format!("{of}-{n}.{end}")).exists();
            if (is_there("making") || is_there("lock"))
                && let Some(slot) = Slot::take(&dir, of, n)?
            {
                slot.leave()?;
            }
        }
        Ok(())
    }
}
