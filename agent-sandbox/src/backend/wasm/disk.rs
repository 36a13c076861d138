//! Compiled programs on disk, authenticated.
//!
//! An entry is `MAGIC · MAC · code`. The MAC is BLAKE3 keyed with the cache's key over the entry's
//! name and the code, so that an entry can neither be changed nor put in another's place. Entries
//! are written beside their name and moved over it: a reader sees a whole entry or none.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use agent_core::{Entropy, EntropyExt as _, ExposeSecret as _, Retry, SecretBytes};

use crate::backend::wasm::config::CacheConfig;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"agsbx\x00\x001";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const KEY_FILE: &str = "key";
const SUFFIX: &str = ".cwasm";

/// The largest entry that is read: compiled code is several times the module.
const ENTRY_BYTES_MAX: u64 = 2 << 30;

/// Compiled code whose MAC was verified.
#[derive(Debug)]
pub(super) struct Authentic {
    entry: Vec<u8>,
}

impl Authentic {
    pub(super) fn bytes(&self) -> &[u8] {
        self.entry
            .get(MAGIC.len().saturating_add(MAC_BYTES)..)
            .unwrap_or_default()
    }
}

/// What an entry is kept under: the program and the engine it was compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryName([u8; 32]);

impl EntryName {
    pub(super) fn new(program: &[u8; 32], fingerprint: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(program);
        hasher.update(fingerprint);
        Self(*hasher.finalize().as_bytes())
    }

    fn file(self) -> String {
        format!("{}{SUFFIX}", blake3::Hash::from(self.0).to_hex())
    }
}

/// A directory of compiled programs.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    key: SecretBytes,
    entries_max: usize,
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::backend("wasm cache", operation, Retry::Safe, error)
}

impl Disk {
    /// Opens the directory and takes or makes the key.
    ///
    /// # Errors
    /// `Invalid` if the key has not 32 bytes or others may read its file; `Internal` if the
    /// directory cannot be used.
    pub(super) fn open(config: CacheConfig, entropy: &dyn Entropy) -> Result<Self> {
        let CacheConfig {
            directory,
            key,
            entries_max,
        } = config;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("create the directory"))?;
        let key = match key {
            Some(key) => key,
            None => own_key(&directory, entropy)?,
        };
        if key.expose_secret().len() != KEY_BYTES {
            return Err(Error::invalid(
                "cache key",
                format!("it must have {KEY_BYTES} bytes"),
            ));
        }
        Ok(Self {
            directory,
            key,
            entries_max,
        })
    }

    fn mac(&self, name: EntryName, code: &[u8]) -> Option<blake3::Hash> {
        let key: &[u8; KEY_BYTES] = self.key.expose_secret().as_slice().try_into().ok()?;
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(MAGIC);
        hasher.update(&name.0);
        hasher.update(code);
        Some(hasher.finalize())
    }

    /// Reads an entry. One that is damaged, foreign or unreadable is as good as none.
    pub(super) fn read(&self, name: EntryName) -> Option<Authentic> {
        let file = fs::File::open(self.directory.join(name.file())).ok()?;
        let mut entry = Vec::new();
        file.take(ENTRY_BYTES_MAX).read_to_end(&mut entry).ok()?;
        let rest = entry.strip_prefix(MAGIC.as_slice())?;
        let (mac, code) = rest.split_at_checked(MAC_BYTES)?;
        let mac: [u8; MAC_BYTES] = mac.try_into().ok()?;
        // `blake3::Hash` compares in constant time.
        if self.mac(name, code)? != blake3::Hash::from(mac) {
            tracing::warn!(entry = %name.file(), "a cache entry is not authentic and is ignored");
            return None;
        }
        Some(Authentic { entry })
    }

    /// Writes an entry and removes the oldest ones over the bound.
    ///
    /// # Errors
    /// `Internal` if the disk refuses; there is no entry then.
    pub(super) fn write(&self, name: EntryName, code: &[u8], entropy: &dyn Entropy) -> Result<()> {
        let Some(mac) = self.mac(name, code) else {
            return Ok(());
        };
        let file = name.file();
        let beside = self
            .directory
            .join(format!("{file}.{:016x}.tmp", entropy.next_u64()));
        let written = create_private(&beside).and_then(|mut out| {
            out.write_all(MAGIC)?;
            out.write_all(mac.as_bytes())?;
            out.write_all(code)
        });
        let moved = written.and_then(|()| fs::rename(&beside, self.directory.join(&file)));
        moved.map_err(|error| {
            // The unfinished file is only litter; the write's own error says more.
            let _left = fs::remove_file(&beside);
            failed("write an entry")(error)
        })?;
        self.trim();
        Ok(())
    }

    /// Removes the entries that were written first. Losing a race for one is fine.
    fn trim(&self) {
        let Ok(listing) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut entries: Vec<_> = listing
            .filter_map(io::Result::ok)
            .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "cwasm"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        entries.sort();
        let surplus = entries.len().saturating_sub(self.entries_max);
        for (_, path) in entries.into_iter().take(surplus) {
            let _gone = fs::remove_file(path);
        }
    }
}

fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Reads the directory's key, made on the first use. Of several processes that make one, one wins.
fn own_key(directory: &Path, entropy: &dyn Entropy) -> Result<SecretBytes> {
    let path = directory.join(KEY_FILE);
    if !path.exists() {
        let mut key = vec![0_u8; KEY_BYTES];
        entropy.fill(&mut key);
        let beside = directory.join(format!("{KEY_FILE}.{:016x}.tmp", entropy.next_u64()));
        let written = create_private(&beside).and_then(|mut out| {
            out.write_all(&key)?;
            out.sync_all()
        });
        written.map_err(failed("write the key"))?;
        // A link fails if the name is taken, which is how the first writer wins.
        let linked = fs::hard_link(&beside, &path);
        fs::remove_file(&beside).map_err(failed("write the key"))?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("write the key")(error));
            }
            _ => {}
        }
    }
    let mut file = fs::File::open(&path).map_err(failed("read the key"))?;
    let metadata = file.metadata().map_err(failed("read the key"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Error::invalid(
            "cache key",
            "others than its owner may read the key file",
        ));
    }
    let mut key = Vec::with_capacity(KEY_BYTES);
    file.read_to_end(&mut key).map_err(failed("read the key"))?;
    Ok(SecretBytes::new(Box::new(key)))
}
