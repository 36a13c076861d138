//! Directories of the host, through cap-std: every path is resolved under an open directory.

use std::any::Any;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions};

use crate::error::FileProblem;
use crate::files::FileType;
use crate::spec::Access;
use crate::vfs::resolve;
use crate::vfs::{Directory, Entry, File, LISTING_MAX, Open, Opened, Quota, Result, Stat, Times};

/// A directory of the host.
#[derive(Clone, Debug)]
pub(crate) struct HostDir {
    dir: Arc<Dir>,
    access: Access,
    quota: Arc<Quota>,
    /// Directories of one mount have the same number; files move only between those.
    mount: Arc<()>,
}

impl HostDir {
    /// Opens a directory with the host's authority.
    pub(crate) fn open_ambient(
        path: &std::path::Path,
        access: Access,
        quota: Arc<Quota>,
    ) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
        Ok(Self {
            dir: Arc::new(dir),
            access,
            quota,
            mount: Arc::new(()),
        })
    }

    fn check(&self, path: &str) -> Result<()> {
        resolve::check(path, self.quota.path_bytes_max())
    }

    fn check_writable(&self) -> Result<()> {
        if self.is_read_only() {
            Err(FileProblem::ReadOnly)
        } else {
            Ok(())
        }
    }

    fn metadata(&self, path: &str, follow: bool) -> Result<Metadata> {
        self.check(path)?;
        let metadata = if follow || path.ends_with('/') {
            self.dir.metadata(path)
        } else {
            self.dir.symlink_metadata(path)
        };
        metadata.map_err(|error| problem(&error))
    }

    fn same_mount<'a>(&self, to: &'a dyn Directory) -> Result<&'a Self> {
        let to = to
            .as_any()
            .downcast_ref::<Self>()
            .ok_or(FileProblem::Invalid)?;
        if Arc::ptr_eq(&to.mount, &self.mount) {
            Ok(to)
        } else {
            Err(FileProblem::Invalid)
        }
    }

    /// Counts an entry that `make` creates.
    fn creating(&self, make: impl FnOnce() -> io::Result<()>) -> Result<()> {
        self.check_writable()?;
        self.quota.take_file()?;
        make().map_err(|error| {
            self.quota.give_file();
            problem(&error)
        })
    }

    fn removing(&self, remove: impl FnOnce() -> io::Result<()>) -> Result<()> {
        self.check_writable()?;
        remove().map_err(|error| problem(&error))?;
        self.quota.give_file();
        Ok(())
    }

    /// Sets the times of a link itself, named in the directory that holds it.
    fn set_link_times(&self, path: &str, times: Times) -> Result<()> {
        use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT};
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        if matches!(name, "" | "." | "..") {
            return Err(FileProblem::Invalid);
        }
        let dir = self.dir.open_dir(above).map_err(|error| problem(&error))?;
        let host = |ns: Option<u64>| match ns.map(Duration::from_nanos) {
            Some(at) => Timespec::try_from(at).map_err(|_too_large| FileProblem::Invalid),
            None => Ok(Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            }),
        };
        let times = Timestamps {
            last_access: host(times.accessed)?,
            last_modification: host(times.modified)?,
        };
        let set = rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|errno| problem(&errno.into()))
    }

    fn open_dir(&self, path: &str) -> Result<Opened> {
        let dir = self.dir.open_dir(path).map_err(|error| problem(&error))?;
        Ok(Opened::Directory(Arc::new(Self {
            dir: Arc::new(dir),
            ..self.clone()
        })))
    }

    fn open_file(&self, path: &str, how: Open, exists: bool) -> Result<Opened> {
        if how.write || how.truncate || (how.create && !exists) {
            self.check_writable()?;
        }
        let mut options = OpenOptions::new();
        // Creating and truncating need write access on the host even if the guest only reads.
        let writes = how.write || how.truncate || (how.create && !exists);
        options
            .read(how.read || !writes)
            .write(writes)
            .truncate(how.truncate && !how.exclusive);
        let counted = how.create && !exists;
        if counted {
            options.create_new(how.exclusive).create(true);
            self.quota.take_file()?;
        }
        let opened = self.dir.open_with(path, &options).map_err(|error| {
            if counted {
                self.quota.give_file();
            }
            problem(&error)
        })?;
        let file = HostFile {
            file: opened.into_std(),
            quota: Arc::clone(&self.quota),
        };
        match file.stat()?.file_type {
            FileType::File => Ok(Opened::File(Box::new(file))),
            _ => Err(FileProblem::Denied),
        }
    }
}

impl Directory for HostDir {
    fn open(&self, path: &str, how: Open, _now: u64) -> Result<Opened> {
        let found = match self.metadata(path, how.follow) {
            Ok(_) if how.create && how.exclusive => return Err(FileProblem::Exists),
            Ok(metadata) => metadata,
            Err(FileProblem::NotFound) if how.create && path.ends_with('/') => {
                return Err(FileProblem::IsDirectory);
            }
            Err(FileProblem::NotFound) if how.create => return self.open_file(path, how, false),
            Err(problem) => return Err(problem),
        };
        match file_type(&found) {
            FileType::Directory if how.write || how.truncate => Err(FileProblem::IsDirectory),
            FileType::Directory => self.open_dir(path),
            FileType::Symlink => Err(FileProblem::Loop),
            _ if how.directory || path.ends_with('/') => Err(FileProblem::NotDirectory),
            FileType::File => self.open_file(path, how, true),
            // Opening a device or a named pipe could block the host's thread.
            FileType::Other => Err(FileProblem::Denied),
        }
    }

    fn stat(&self, path: &str, follow: bool) -> Result<Stat> {
        let metadata = self.metadata(path, follow)?;
        if path.ends_with('/') && !metadata.is_dir() {
            return Err(FileProblem::NotDirectory);
        }
        Ok(stat(&metadata))
    }

    fn stat_self(&self) -> Result<Stat> {
        self.dir
            .dir_metadata()
            .map(|metadata| stat(&metadata))
            .map_err(|error| problem(&error))
    }

    fn set_times(&self, path: &str, follow: bool, times: Times) -> Result<()> {
        self.check_writable()?;
        let metadata = self.metadata(path, follow)?;
        match file_type(&metadata) {
            FileType::Directory => {
                let dir = self.dir.open_dir(path).map_err(|error| problem(&error))?;
                set_times(&dir.into_std_file(), times)
            }
            FileType::File => {
                let file = self.dir.open(path).map_err(|error| problem(&error))?;
                set_times(&file.into_std(), times)
            }
            FileType::Symlink => self.set_link_times(path, times),
            FileType::Other => Err(FileProblem::Denied),
        }
    }

    fn set_times_self(&self, times: Times) -> Result<()> {
        self.check_writable()?;
        let dir = self.dir.try_clone().map_err(|error| problem(&error))?;
        set_times(&dir.into_std_file(), times)
    }

    fn create_dir(&self, path: &str, _now: u64) -> Result<()> {
        self.check(path)?;
        self.creating(|| self.dir.create_dir(path))
    }

    fn remove_dir(&self, path: &str, _now: u64) -> Result<()> {
        self.check(path)?;
        self.removing(|| self.dir.remove_dir(path))
    }

    fn unlink_file(&self, path: &str, _now: u64) -> Result<()> {
        match file_type(&self.metadata(path, false)?) {
            FileType::Directory => Err(FileProblem::IsDirectory),
            _ if path.ends_with('/') => Err(FileProblem::NotDirectory),
            _ => self.removing(|| self.dir.remove_file(path)),
        }
    }

    fn read_link(&self, path: &str) -> Result<String> {
        self.check(path)?;
        let target = self
            .dir
            .read_link_contents(path)
            .map_err(|error| problem(&error))?;
        target
            .into_os_string()
            .into_string()
            .map_err(|_not_text| FileProblem::Invalid)
    }

    fn symlink(&self, target: &str, path: &str, _now: u64) -> Result<()> {
        self.check(target)?;
        self.check(path)?;
        if self.metadata(path, false).is_ok() {
            return Err(FileProblem::Exists);
        }
        if path.ends_with('/') {
            return Err(FileProblem::NotFound);
        }
        self.creating(|| self.dir.symlink(target, path))
    }

    fn rename(&self, from: &str, to: &dyn Directory, to_path: &str, _now: u64) -> Result<()> {
        let to = self.same_mount(to)?;
        self.check(from)?;
        self.check(to_path)?;
        self.check_writable()?;
        self.dir
            .rename(from, &to.dir, to_path)
            .map_err(|error| problem(&error))
    }

    fn link(
        &self,
        from: &str,
        follow: bool,
        to: &dyn Directory,
        to_path: &str,
        _now: u64,
    ) -> Result<()> {
        let to = self.same_mount(to)?;
        if file_type(&self.metadata(from, follow)?) == FileType::Directory {
            return Err(FileProblem::Escape);
        }
        if follow && file_type(&self.metadata(from, false)?) == FileType::Symlink {
            return Err(FileProblem::Invalid);
        }
        to.check(to_path)?;
        if to_path.ends_with('/') {
            return Err(FileProblem::NotFound);
        }
        self.creating(|| self.dir.hard_link(from, &to.dir, to_path))
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in self.dir.entries().map_err(|error| problem(&error))? {
            let entry = entry.map_err(|error| problem(&error))?;
            if entries.len() >= LISTING_MAX {
                return Err(FileProblem::Quota);
            }
            // A name that is not text cannot be written in the guest's interface.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let metadata = entry.metadata().map_err(|error| problem(&error))?;
            let file_type = file_type(&metadata);
            entries.push(Entry {
                name,
                inode: metadata.ino(),
                file_type,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open file of the host.
#[derive(Debug)]
struct HostFile {
    file: std::fs::File,
    quota: Arc<Quota>,
}

impl HostFile {
    fn size(&self) -> Result<u64> {
        self.file
            .metadata()
            .map(|metadata| metadata.len())
            .map_err(|error| problem(&error))
    }
}

impl File for HostFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.file
            .read_at(into, offset)
            .map_err(|error| problem(&error))
    }

    fn write_at(&self, bytes: &[u8], offset: u64, _now: u64) -> Result<usize> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.quota.check_size(offset.saturating_add(len))?;
        self.quota.take_bytes(len)?;
        self.file
            .write_at(bytes, offset)
            .map_err(|error| problem(&error))
    }

    fn append(&self, bytes: &[u8], now: u64) -> Result<u64> {
        let mut offset = self.size()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.write_at(rest, offset, now)?;
            if n == 0 {
                return Err(FileProblem::Io);
            }
            offset = offset.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            rest = rest.get(n..).unwrap_or_default();
        }
        Ok(offset)
    }

    fn replace(&self, bytes: Vec<u8>, now: u64) -> Result<()> {
        self.set_size(0, now)?;
        self.append(&bytes, now).map(drop)
    }

    fn set_size(&self, size: u64, _now: u64) -> Result<()> {
        self.quota.check_size(size)?;
        self.quota.take_bytes(size.saturating_sub(self.size()?))?;
        self.file.set_len(size).map_err(|error| problem(&error))
    }

    fn stat(&self) -> Result<Stat> {
        let metadata = Metadata::from_file(&self.file).map_err(|error| problem(&error))?;
        Ok(stat(&metadata))
    }

    fn set_times(&self, times: Times) -> Result<()> {
        set_times(&self.file, times)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| problem(&error))
    }
}

fn set_times(file: &std::fs::File, times: Times) -> Result<()> {
    let mut host = std::fs::FileTimes::new();
    if let Some(ns) = times.accessed {
        host = host.set_accessed(moment(ns)?);
    }
    if let Some(ns) = times.modified {
        host = host.set_modified(moment(ns)?);
    }
    file.set_times(host).map_err(|error| problem(&error))
}

fn moment(ns: u64) -> Result<SystemTime> {
    UNIX_EPOCH
        .checked_add(Duration::from_nanos(ns))
        .ok_or(FileProblem::Invalid)
}

fn file_type(metadata: &Metadata) -> FileType {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        FileType::File
    } else if file_type.is_dir() {
        FileType::Directory
    } else if file_type.is_symlink() {
        FileType::Symlink
    } else {
        FileType::Other
    }
}

fn stat(metadata: &Metadata) -> Stat {
    let ns = |s: i64, ns: i64| {
        let total = i128::from(s)
            .saturating_mul(1_000_000_000)
            .saturating_add(i128::from(ns));
        u64::try_from(total).unwrap_or(0)
    };
    Stat {
        device: metadata.dev(),
        inode: metadata.ino(),
        file_type: file_type(metadata),
        links: metadata.nlink(),
        size: metadata.len(),
        accessed: ns(metadata.atime(), metadata.atime_nsec()),
        modified: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// What an error of the host means to a guest. Escapes are cap-std's `PermissionDenied` without a
/// number of the operating system.
fn problem(error: &io::Error) -> FileProblem {
    if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP) {
        return FileProblem::Loop;
    }
    match error.kind() {
        io::ErrorKind::NotFound => FileProblem::NotFound,
        io::ErrorKind::AlreadyExists => FileProblem::Exists,
        io::ErrorKind::NotADirectory => FileProblem::NotDirectory,
        io::ErrorKind::IsADirectory => FileProblem::IsDirectory,
        io::ErrorKind::DirectoryNotEmpty => FileProblem::NotEmpty,
        io::ErrorKind::ReadOnlyFilesystem => FileProblem::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            FileProblem::Quota
        }
        io::ErrorKind::InvalidFilename => FileProblem::NameTooLong,
        io::ErrorKind::InvalidInput => FileProblem::Invalid,
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => FileProblem::Escape,
        io::ErrorKind::PermissionDenied => FileProblem::Denied,
        _ => FileProblem::Io,
    }
}

impl FileProblem {
    /// What an error of the host's own file system means.
    pub(crate) fn from_host(error: &io::Error) -> Self {
        problem(error)
    }
}
