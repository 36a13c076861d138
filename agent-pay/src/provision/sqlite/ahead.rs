//! Databases under another name: until they are whole, and until somebody wants one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use super::Inner;
use super::file::{io, is_ours, make};
use crate::error::Result;
use crate::provision::ResourceName;

/// What the name of one ends with that was made ahead.
const AHEAD: &str = "ahead";
/// What keeps two from making databases ahead in one directory.
const AHEAD_LOCK: &str = "ahead.lock";
/// What keeps one from being looked at, which opens it, while it gets another name.
const CLAIM_LOCK: &str = "claim.lock";

/// Gives a database its name as well, unless another has it by now: that one may have data already, and
/// a rename would replace it.
fn name(making: &Path, path: &Path) -> Result<()> {
    match std::fs::hard_link(making, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == IoKind::AlreadyExists && is_ours(path)? => Ok(()),
        Err(error) => Err(io("name a database")(error)),
    }
}

impl Inner {
    /// Makes a database under another name first, so that under its own it is whole.
    pub(super) fn make(&self, of: &str, path: &Path) -> Result<()> {
        let slot = self.slot(of)?;
        make(&slot.making)?;
        name(&slot.making, path)?;
        slot.leave()
    }

    /// Lists the names of what is made ahead. No resource's name has a `-`.
    fn ahead(&self) -> Result<impl Iterator<Item = (String, PathBuf)>> {
        let dir = self.dir()?;
        Ok((0..self.n_warm).map(move |n| {
            let name = format!("warm-{n}");
            let path = dir.join(format!("{name}.{AHEAD}"));
            (name, path)
        }))
    }

    /// Takes a lock of the directory unless somebody else has it. Nobody waits for it: a process that is
    /// stopped may have it.
    fn lock(&self, name: &str) -> Result<Option<File>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(self.dir()?.join(name));
        let lock = lock.map_err(io("open a lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io("take a lock")(error)),
        }
    }

    pub(super) fn fill(&self) -> Result<usize> {
        let Some(_alone) = self.lock(AHEAD_LOCK)? else {
            return Ok(0);
        };
        let mut n_made = 0_usize;
        for (name, path) in self.ahead()? {
            let is_missing = match self.lock(CLAIM_LOCK)? {
                Some(_nobody_claims) => !is_ours(&path)?,
                None => false,
            };
            if is_missing {
                self.clear_slots(&name)?;
                self.make(&name, &path)?;
                n_made = n_made.saturating_add(1);
            }
        }
        Ok(n_made)
    }

    /// Gives a database that was made ahead another name and returns whether there was one: of two
    /// that take the same, one finds it gone.
    pub(super) fn claim(&self, of: &ResourceName, path: &Path) -> Result<bool> {
        if self.n_warm == 0 {
            return Ok(false);
        }
        let Some(_alone) = self.lock(CLAIM_LOCK)? else {
            return Ok(false);
        };
        let slot = self.slot(of.as_str())?;
        let mut is_claimed = false;
        for (_name, ahead) in self.ahead()? {
            if !is_ours(&ahead).unwrap_or(false) {
                continue;
            }
            // Only a rename takes it from the other; a second link would share it.
            match std::fs::rename(&ahead, &slot.making) {
                Ok(()) => {
                    name(&slot.making, path)?;
                    is_claimed = true;
                    break;
                }
                Err(error) if error.kind() == IoKind::NotFound => {}
                Err(error) => return Err(io("take a database")(error)),
            }
        }
        slot.leave()?;
        Ok(is_claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SqliteDatabases;
    use super::*;

    /// A creation that looked before another made the database and comes to its name after it.
    #[test]
    fn a_database_that_appeared_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let inner = SqliteDatabases::new(dir.path(), Vec::new()).with_n_warm(1);
        let (inner, of) = (inner.inner, ResourceName::new("notes").unwrap());
        let path = inner.create(&of).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE kept (n)").unwrap();
        drop(connection);
        inner.fill().unwrap();
        assert!(inner.claim(&of, &path).unwrap());
        inner.make("notes", &path).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        let kept = connection.execute_batch("INSERT INTO kept VALUES (1)");
        kept.unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap();
        let ends = names.filter_map(|file| file.unwrap().path().extension().map(ToOwned::to_owned));
        assert_eq!(ends.filter(|end| end == "making").count(), 0);
    }
}
