//! The host's view of a sandbox's files.

use std::fmt;

use agent_core::Timestamp;
use async_trait::async_trait;

use crate::error::Result;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else a host directory may hold.
    Other,
}

/// What is known about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStat {
    /// What it is.
    pub file_type: FileType,
    /// Its size in bytes; for a symbolic link the length of its target.
    pub size: u64,
    /// When its contents last changed.
    pub modified: Timestamp,
}

impl FileStat {
    /// Creates a stat, for implementors.
    #[must_use]
    pub const fn new(file_type: FileType, size: u64, modified: Timestamp) -> Self {
        Self {
            file_type,
            size,
            modified,
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name inside the directory.
    pub name: String,
    /// What it is. A symbolic link is not followed.
    pub file_type: FileType,
}

impl DirEntry {
    /// Creates an entry, for implementors.
    #[must_use]
    pub const fn new(name: String, file_type: FileType) -> Self {
        Self { name, file_type }
    }
}

/// Reads and changes a sandbox's files from outside, under the same limits as the guest.
///
/// Paths are absolute inside the sandbox: `/work/report.md`. A path belongs to the mount with the
/// longest matching prefix and cannot leave it by `..` or a symbolic link.
#[async_trait]
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// Reads a whole file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is not a file; `Exhausted` if it is larger; `Denied` if the path
    /// leads out of its mount.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>>;

    /// Replaces or creates a file. Directories above it must exist.
    ///
    /// In memory mounts readers see the old or the whole of the other contents; in host
    /// directories the file is truncated and written in place.
    ///
    /// # Errors
    /// `NotFound` if a directory above is missing; `Denied` in a read-only mount; `Exhausted` at a
    /// limit; `Invalid` if the path names a directory.
    ///
    /// # Cancel safety
    /// Atomic: the file is written whether or not the caller waits.
    async fn write(&self, path: &str, bytes: Vec<u8>) -> Result<()>;

    /// Lists a directory, ordered by name.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is not a directory; `Exhausted` if it has more entries than
    /// the sandbox may have files.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn list(&self, path: &str) -> Result<Vec<DirEntry>>;

    /// Describes what a path names, without following a final symbolic link.
    ///
    /// # Errors
    /// `NotFound`; `Denied` if the path leads out of its mount.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn stat(&self, path: &str) -> Result<FileStat>;

    /// Creates a directory. The directory above it must exist.
    ///
    /// # Errors
    /// `Conflict` if the name is taken; `NotFound`, `Denied`, `Exhausted` as for `write`.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn create_dir(&self, path: &str) -> Result<()>;

    /// Removes a file, a symbolic link or an empty directory.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the directory has entries; `Denied` in a read-only mount.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn remove(&self, path: &str) -> Result<()>;
}
