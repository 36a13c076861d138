//! Databases under another name: until they are whole, and until somebody wants one.

use std::fs::{OpenOptions, TryLockError};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use super::file::{io, is_ours, make, remove};
use super::{Inner, MAKING};
use crate::error::Result;
use crate::provision::ResourceName;

/// What the name of one ends with that was made ahead.
const AHEAD: &str = "ahead";
/// What keeps two from making databases ahead in one directory.
const AHEAD_LOCK: &str = "ahead.lock";

/// Gives a database its name unless another has it by now: that one may have data already, and a
/// rename would replace it.
fn name(making: &Path, path: &Path) -> Result<()> {
    match std::fs::hard_link(making, path) {
        Ok(()) => remove(making),
        Err(error) if error.kind() == IoKind::AlreadyExists && is_ours(path)? => remove(making),
        Err(error) => Err(io("name a database")(error)),
    }
}

impl Inner {
    fn making(&self, name: &str) -> Result<PathBuf> {
        Ok(self.dir()?.join(format!("{name}.{MAKING}")))
    }

    /// Makes a database under another name first, so that under its own it is whole.
    pub(super) fn make(&self, of: &str, path: &Path) -> Result<()> {
        let making = self.making(of)?;
        // What a creation that was cut off left.
        remove(&making)?;
        make(&making)?;
        name(&making, path)
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

    pub(super) fn fill(&self) -> Result<usize> {
        let lock = self.dir()?.join(AHEAD_LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(lock).map_err(io("open a lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(0),
            Err(TryLockError::Error(error)) => return Err(io("take a lock")(error)),
        }
        let mut n_made = 0_usize;
        for (name, path) in self.ahead()? {
            if !is_ours(&path)? {
                self.make(&name, &path)?;
                n_made = n_made.saturating_add(1);
            }
        }
        Ok(n_made)
    }

    /// Gives a database that was made ahead another name and returns whether there was one: of two
    /// that take the same, one finds it gone.
    pub(super) fn claim(&self, of: &ResourceName, path: &Path) -> Result<bool> {
        let making = self.making(of.as_str())?;
        for (_name, ahead) in self.ahead()? {
            if !is_ours(&ahead).unwrap_or(false) {
                continue;
            }
            // Only a rename takes it from the other; a second link would share it.
            match std::fs::rename(&ahead, &making) {
                Ok(()) => return name(&making, path).map(|()| true),
                Err(error) if error.kind() == IoKind::NotFound => {}
                Err(error) => return Err(io("take a database")(error)),
            }
        }
        Ok(false)
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
        assert!(!inner.making("notes").unwrap().exists());
    }
}
