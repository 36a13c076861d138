//! Calls on a path under a directory.

use std::sync::Arc;

use crate::error::FileProblem;
use crate::vfs::{Directory, Open, Opened};
use crate::wasi::descriptor::{Descriptor, Kind};
use crate::wasi::fd::{APPEND, NONBLOCK, SYNC, write_stat};
use crate::wasi::rights::{self, Rights};
use crate::wasi::{Call, Errno, Fail, Guest, Memory};

const SYMLINK_FOLLOW: u32 = 1;

const CREAT: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCL: u32 = 4;
const TRUNC: u32 = 8;

/// A path as the guest named it: where it is in its memory.
pub(crate) type PathAt = (u32, u32);

/// Moves between mounts fail as they do between disks.
fn between_mounts(
    problem: FileProblem,
    from: &Arc<dyn Directory>,
    to: &Arc<dyn Directory>,
) -> Fail {
    let same_kind = from.stat_self().ok().map(|stat| stat.device)
        == to.stat_self().ok().map(|stat| stat.device);
    match problem {
        FileProblem::Invalid if !same_kind => Errno::XDEV.into(),
        problem => problem.into(),
    }
}

impl Guest {
    /// The directory under `fd` and a path copied out of the guest.
    fn at(
        &self,
        mem: &Memory<'_>,
        fd: u32,
        (path, len): PathAt,
        right: Rights,
    ) -> Call<(Arc<dyn Directory>, String)> {
        let dir = Arc::clone(self.table.get(fd)?.directory(right)?);
        Ok((dir, mem.path(path, len, self.limits.path_bytes_max)?))
    }

    pub(crate) fn path_create_directory(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        path: PathAt,
    ) -> Call {
        let (dir, path) = self.at(mem, fd, path, rights::PATH_CREATE_DIRECTORY)?;
        Ok(dir.create_dir(&path, self.time.stamp())?)
    }

    pub(crate) fn path_filestat_get(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        flags: u32,
        path: PathAt,
        into: u32,
    ) -> Call {
        let (dir, path) = self.at(mem, fd, path, rights::PATH_FILESTAT_GET)?;
        write_stat(mem, into, &dir.stat(&path, flags & SYMLINK_FOLLOW != 0)?)
    }

    pub(crate) fn path_filestat_set_times(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        flags: u32,
        path: PathAt,
        (accessed, modified, times): (u64, u64, u32),
    ) -> Call {
        let times = self.times(accessed, modified, times)?;
        let (dir, path) = self.at(mem, fd, path, rights::PATH_FILESTAT_SET_TIMES)?;
        Ok(dir.set_times(&path, flags & SYMLINK_FOLLOW != 0, times)?)
    }

    pub(crate) fn path_link(
        &mut self,
        mem: &mut Memory<'_>,
        (from_fd, flags, from): (u32, u32, PathAt),
        to_fd: u32,
        to: PathAt,
    ) -> Call {
        let (from_dir, from) = self.at(mem, from_fd, from, rights::PATH_LINK_SOURCE)?;
        let (to_dir, to) = self.at(mem, to_fd, to, rights::PATH_LINK_TARGET)?;
        let follow = flags & SYMLINK_FOLLOW != 0;
        let linked = from_dir.link(&from, follow, to_dir.as_ref(), &to, self.time.stamp());
        linked.map_err(|problem| between_mounts(problem, &from_dir, &to_dir))
    }

    pub(crate) fn path_open(
        &mut self,
        mem: &mut Memory<'_>,
        (fd, flags, path): (u32, u32, PathAt),
        oflags: u32,
        (wanted, _inheriting): (Rights, Rights),
        (fdflags, into): (u32, u32),
    ) -> Call {
        let fdflags = u16::try_from(fdflags).map_err(|_too_large| Errno::INVAL)?;
        let unknown = fdflags & !(APPEND | NONBLOCK | SYNC) != 0
            || oflags & !(CREAT | DIRECTORY | EXCL | TRUNC) != 0;
        if unknown || oflags & (CREAT | DIRECTORY) == CREAT | DIRECTORY {
            return Err(Errno::INVAL.into());
        }
        let (dir, path) = self.at(mem, fd, path, rights::PATH_OPEN)?;
        let from = self.table.get(fd)?;
        let passed = from.inheriting;
        if oflags & CREAT != 0 {
            from.check(rights::PATH_CREATE_FILE)?;
        }
        if oflags & TRUNC != 0 {
            from.check(rights::PATH_FILESTAT_SET_SIZE)?;
        }
        let reads_writes = wanted & (rights::FD_READ | rights::FD_WRITE);
        if reads_writes & !passed != 0 {
            return Err(Errno::NOTCAPABLE.into());
        }
        let how = Open {
            follow: flags & SYMLINK_FOLLOW != 0,
            create: oflags & CREAT != 0,
            exclusive: oflags & EXCL != 0,
            truncate: oflags & TRUNC != 0,
            directory: oflags & DIRECTORY != 0,
            read: wanted & rights::FD_READ != 0,
            write: wanted & rights::FD_WRITE != 0,
        };
        self.table.check_room()?;
        let mut descriptor = match dir.open(&path, how, self.time.stamp())? {
            Opened::File(file) => {
                let closed = if how.write { 0 } else { rights::FILE_WRITING };
                let unread = if how.read || !how.write {
                    0
                } else {
                    rights::FD_READ
                };
                let rights = rights::FILE & passed & !closed & !unread;
                Descriptor::new(Kind::File { file, at: 0 }, rights, 0)
            }
            Opened::Directory(dir) => {
                let kind = Kind::Directory {
                    dir,
                    preopen: None,
                    listing: Vec::new(),
                };
                Descriptor::new(kind, rights::DIRECTORY & passed, passed)
            }
        };
        descriptor.flags = fdflags;
        let number = self.table.insert(descriptor)?;
        mem.write_u32(into, number)
    }

    pub(crate) fn path_readlink(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        path: PathAt,
        (buffer, len): (u32, u32),
        n_used: u32,
    ) -> Call {
        let (dir, path) = self.at(mem, fd, path, rights::PATH_READLINK)?;
        let target = dir.read_link(&path)?;
        let n = target.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        mem.write(buffer, target.as_bytes().get(..n).unwrap_or_default())?;
        mem.write_len(n_used, n)
    }

    pub(crate) fn path_remove_directory(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        path: PathAt,
    ) -> Call {
        let (dir, path) = self.at(mem, fd, path, rights::PATH_REMOVE_DIRECTORY)?;
        Ok(dir.remove_dir(&path, self.time.stamp())?)
    }

    pub(crate) fn path_rename(
        &mut self,
        mem: &mut Memory<'_>,
        from_fd: u32,
        from: PathAt,
        to_fd: u32,
        to: PathAt,
    ) -> Call {
        let (from_dir, from) = self.at(mem, from_fd, from, rights::PATH_RENAME_SOURCE)?;
        let (to_dir, to) = self.at(mem, to_fd, to, rights::PATH_RENAME_TARGET)?;
        let renamed = from_dir.rename(&from, to_dir.as_ref(), &to, self.time.stamp());
        renamed.map_err(|problem| between_mounts(problem, &from_dir, &to_dir))
    }

    pub(crate) fn path_symlink(
        &mut self,
        mem: &mut Memory<'_>,
        (target, len): PathAt,
        fd: u32,
        path: PathAt,
    ) -> Call {
        let (dir, path) = self.at(mem, fd, path, rights::PATH_SYMLINK)?;
        let target = mem.path(target, len, self.limits.path_bytes_max)?;
        Ok(dir.symlink(&target, &path, self.time.stamp())?)
    }

    pub(crate) fn path_unlink_file(&mut self, mem: &mut Memory<'_>, fd: u32, path: PathAt) -> Call {
        let (dir, path) = self.at(mem, fd, path, rights::PATH_UNLINK_FILE)?;
        Ok(dir.unlink_file(&path, self.time.stamp())?)
    }
}
