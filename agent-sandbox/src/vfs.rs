//! The file system contract every guest interface is built on: directories and files as handles,
//! paths resolved under a handle that they cannot leave.
//!
//! A handle is a capability. A path is relative to one; `..`, an absolute path or a symbolic link
//! that would lead above it is [`FileProblem::Escape`]. Times are nanoseconds since the epoch and
//! come from the caller, so that a virtual clock reaches them.

mod host;
mod memory;
mod quota;
mod resolve;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::error::FileProblem;
use crate::files::FileType;

pub(crate) use host::HostDir;
pub(crate) use memory::MemoryDir;
pub(crate) use quota::Quota;

pub(crate) type Result<T, E = FileProblem> = std::result::Result<T, E>;

/// The most entries of one listing: what a directory of a host may hold has no other bound.
pub(crate) const LISTING_MAX: usize = 65_536;

/// What is known about a file. Times are in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

/// Times to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) accessed: Option<u64>,
    pub(crate) modified: Option<u64>,
    /// The moment of the change itself.
    pub(crate) now: u64,
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
}

/// How a path is opened.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags of open(2), independent of another"
)]
pub(crate) struct Open {
    pub(crate) follow: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// What a path opened to.
#[derive(Debug)]
pub(crate) enum Opened {
    File(Box<dyn File>),
    Directory(Arc<dyn Directory>),
}

/// An open file.
pub(crate) trait File: fmt::Debug + Send {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64, now: u64) -> Result<usize>;
    /// Writes at the end, wherever that is, and returns the offset after it.
    fn append(&self, bytes: &[u8], now: u64) -> Result<u64>;
    /// Puts other contents in place of all there is.
    fn replace(&self, bytes: Vec<u8>, now: u64) -> Result<()>;
    fn set_size(&self, size: u64, now: u64) -> Result<()>;
    fn stat(&self) -> Result<Stat>;
    fn set_times(&self, times: Times) -> Result<()>;
    fn sync(&self) -> Result<()>;
}

/// An open directory.
pub(crate) trait Directory: fmt::Debug + Send + Sync {
    fn open(&self, path: &str, how: Open, now: u64) -> Result<Opened>;
    fn stat(&self, path: &str, follow: bool) -> Result<Stat>;
    fn stat_self(&self) -> Result<Stat>;
    fn set_times(&self, path: &str, follow: bool, times: Times) -> Result<()>;
    fn set_times_self(&self, times: Times) -> Result<()>;
    fn create_dir(&self, path: &str, now: u64) -> Result<()>;
    fn remove_dir(&self, path: &str, now: u64) -> Result<()>;
    fn unlink_file(&self, path: &str, now: u64) -> Result<()>;
    fn read_link(&self, path: &str) -> Result<String>;
    fn symlink(&self, target: &str, path: &str, now: u64) -> Result<()>;
    /// `to` must be of the same mount, or the result is [`FileProblem::Invalid`].
    fn rename(&self, from: &str, to: &dyn Directory, to_path: &str, now: u64) -> Result<()>;
    /// As for `rename`.
    fn link(
        &self,
        from: &str,
        follow: bool,
        to: &dyn Directory,
        to_path: &str,
        now: u64,
    ) -> Result<()>;
    /// Lists the entries by name, without `.` and `..`.
    fn entries(&self) -> Result<Vec<Entry>>;
    fn is_read_only(&self) -> bool;
    fn as_any(&self) -> &dyn Any;
}
