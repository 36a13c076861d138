//! Files that hold the index of a large namespace, so that a store opens without building it anew.
//!
//! A file is a copy of what the tables give, never the truth: it says whose index it is and which
//! change it has seen last, and one that is damaged, of another store, of other settings or of an
//! earlier form is passed over. It is written beside its place and renamed into it, so a crash
//! leaves the old one or the new one. It holds words of the texts; erasing removes it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use agent_core::Digest;
use agent_core::store::{Tx, sql};
use parking_lot::Mutex;
use rusqlite::params;

use crate::error::{Error, Result};
use crate::index::{Blocks, Partition, Unblocks};

/// The first words of a file; the number is the form of what follows.
const FORM: &str = "agent-memory index 3";
/// How many of the last entries a file is recognized by.
const RECOGNIZED_BY: i64 = 64;

/// The files of one store.
pub(super) struct Snapshots {
    /// The store's own file.
    store: PathBuf,
    /// The names of the space and the settings the indexes are for.
    space: String,
    /// One file is written or removed at a time: none appears once erasing has removed it.
    files: Mutex<()>,
}

impl Snapshots {
    pub(super) fn new(store: &Path, space: &str) -> Self {
        Self {
            store: store.to_owned(),
            space: space.to_owned(),
            files: Mutex::default(),
        }
    }

    fn prefix(&self) -> OsString {
        let mut name = self.store.file_name().unwrap_or_default().to_owned();
        name.push("-memory-index-");
        name
    }

    fn path(&self, partition: i64) -> PathBuf {
        let mut name = self.prefix();
        name.push(partition.to_string());
        self.store.with_file_name(name)
    }

    /// Reads a namespace's index into an empty one; false if there is none that can be used, and
    /// then the index must be thrown away.
    pub(super) fn load(&self, tx: &Tx<'_>, partition: i64, into: &mut Partition) -> Result<bool> {
        if !into.can_be_saved() {
            return Ok(false);
        }
        let Ok(file) = File::open(self.path(partition)) else {
            return Ok(false);
        };
        let mut from = Unblocks::new(BufReader::new(file));
        let Some((last_seq, stamp)) = self.head(&mut from) else {
            return Ok(false);
        };
        if stamp != stamp_of(tx, partition, last_seq)? {
            return Ok(false);
        }
        Ok(into.load(from) && into.last_seq() == last_seq)
    }

    /// Reads which change a file has seen last, and the stamp that its entries had.
    fn head(&self, from: &mut Unblocks<BufReader<File>>) -> Option<(i64, String)> {
        let (form, space) = (from.text()?, from.text()?);
        let is_ours = form == FORM && space == self.space;
        let (last_seq, stamp) = (from.long()?, from.text()?);
        is_ours.then_some((last_seq, stamp))
    }

    /// Writes a namespace's index in place of the file there is, and returns whether there was
    /// anything to write. `with_index` runs its argument on the index.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be written; the store's.
    pub(super) fn save(
        &self,
        tx: &Tx<'_>,
        partition: i64,
        with_index: impl FnOnce(&mut dyn FnMut(&Partition) -> Result<()>) -> Result<()>,
    ) -> Result<bool> {
        let _one_at_a_time = self.files.lock();
        let place = self.path(partition);
        let mut temporary = place.clone().into_os_string();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let mut written = None;
        let saved = with_index(&mut |index| {
            if index.can_be_saved() && !index.is_empty() {
                let stamp = stamp_of(tx, partition, index.last_seq())?;
                written = Some(self.write(&temporary, &stamp, index).map_err(failed)?);
            }
            Ok(())
        });
        let published = saved.and_then(|()| match &written {
            Some(file) => publish(file, &temporary, &place).map_err(failed),
            None => Ok(()),
        });
        if published.is_err() {
            // What cannot be published is of no use; that it cannot be removed changes nothing.
            let _left = fs::remove_file(&temporary);
        }
        published.map(|()| written.is_some())
    }

    fn write(&self, to: &Path, stamp: &str, index: &Partition) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(to)?;
        let mut blocks = Blocks::new(BufWriter::new(file));
        blocks.text(FORM)?;
        blocks.text(&self.space)?;
        blocks.long(index.last_seq())?;
        blocks.text(stamp)?;
        index.save(&mut blocks)?;
        let file = blocks.finish()?;
        file.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// Removes files that were written before something in their namespace was erased, and those
    /// that cannot be read, the unfinished ones of a crash among them.
    pub(super) fn remove_outdated(&self, tx: &Tx<'_>) -> Result<()> {
        let _one_at_a_time = self.files.lock();
        let prefix = self.prefix();
        let folder = self.store.parent().filter(|p| !p.as_os_str().is_empty());
        let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(rest) = name
                .as_encoded_bytes()
                .strip_prefix(prefix.as_encoded_bytes())
            else {
                continue;
            };
            let partition = std::str::from_utf8(rest).ok();
            let partition = partition.and_then(|rest| rest.parse::<i64>().ok());
            if !self.is_current(tx, &entry.path(), partition)? {
                match fs::remove_file(entry.path()) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn is_current(&self, tx: &Tx<'_>, path: &Path, partition: Option<i64>) -> Result<bool> {
        let (Some(partition), Ok(file)) = (partition, File::open(path)) else {
            return Ok(false);
        };
        let Some((last_seq, _)) = self.head(&mut Unblocks::new(BufReader::new(file))) else {
            return Ok(false);
        };
        let is_erased: bool = tx
            .sql()
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM memory_change
                 WHERE partition = ?1 AND seq > ?2 AND verb <> 'added' AND verb = 'erased')",
            )
            .and_then(|mut select| select.query_row([partition, last_seq], |row| row.get(0)))
            .map_err(sql("look for erasures"))?;
        Ok(!is_erased)
    }
}

/// Makes a file durable under its name.
fn publish(file: &File, temporary: &Path, place: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(temporary, place)?;
    #[cfg(unix)]
    if let Some(folder) = place.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// What tells the entries up to a change from those of any other store.
fn stamp_of(tx: &Tx<'_>, partition: i64, last_seq: i64) -> Result<String> {
    let entries: Vec<(i64, [u8; 16], i64)> = tx
        .sql()
        .prepare_cached(
            "SELECT seq, id, recorded_ms FROM memory_entry
             WHERE partition = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT ?3",
        )
        .and_then(|mut select| {
            select
                .query_map(params![partition, last_seq, RECOGNIZED_BY], |row| {
                    row.try_into()
                })?
                .collect()
        })
        .map_err(sql("recognize an index"))?;
    let mut bytes = Vec::new();
    for (seq, id, recorded) in entries {
        bytes.extend(seq.to_le_bytes());
        bytes.extend(id);
        bytes.extend(recorded.to_le_bytes());
    }
    Ok(Digest::of_bytes(&bytes).to_string())
}

const fn failed(source: io::Error) -> Error {
    Error::IndexFile { source }
}
