//! Calls on one descriptor.

use crate::error::FileProblem;
use crate::exec::StdinRead;
use crate::files::FileType;
use crate::outcome::Stream;
use crate::vfs::{File, Stat, Times};
use crate::wasi::descriptor::{Descriptor, Kind};
use crate::wasi::guest::WAIT_SLICE;
use crate::wasi::memory::{Buffer, field};
use crate::wasi::rights;
use crate::wasi::{Call, Errno, Guest, Memory};

/// Writes go to the end of the file.
pub(super) const APPEND: u16 = 1;
/// Calls do not wait; nothing here does, so it is kept and means nothing.
pub(super) const NONBLOCK: u16 = 4;
/// Each write is on the disk when it returns (`dsync`, `rsync`, `sync`).
pub(super) const SYNC: u16 = 2 | 8 | 16;

const ATIM: u32 = 1;
const ATIM_NOW: u32 = 2;
const MTIM: u32 = 4;
const MTIM_NOW: u32 = 8;

/// The number of a file type in the interface.
pub(super) const fn file_type_number(file_type: FileType) -> u8 {
    match file_type {
        FileType::Directory => 3,
        FileType::File => 4,
        FileType::Symlink => 7,
        FileType::Other => 0,
    }
}

/// Writes a `filestat`.
pub(super) fn write_stat(mem: &mut Memory<'_>, at: u32, stat: &Stat) -> Call {
    mem.write(at, &[0; 64])?;
    mem.write_u64(at, stat.device)?;
    mem.write_u64(field(at, 8)?, stat.inode)?;
    mem.write(field(at, 16)?, &[file_type_number(stat.file_type)])?;
    mem.write_u64(field(at, 24)?, stat.links)?;
    mem.write_u64(field(at, 32)?, stat.size)?;
    mem.write_u64(field(at, 40)?, stat.accessed)?;
    mem.write_u64(field(at, 48)?, stat.modified)?;
    mem.write_u64(field(at, 56)?, stat.changed)
}

impl Guest {
    /// The open file under a number, for an operation at a position.
    fn file(&self, fd: u32, right: rights::Rights) -> Call<&dyn File> {
        let descriptor = self.table.get(fd)?;
        match &descriptor.kind {
            Kind::File { file, .. } => {
                descriptor.check(right)?;
                Ok(file.as_ref())
            }
            Kind::Directory { .. } => Err(Errno::BADF.into()),
            Kind::Stdin | Kind::Output(_) => Err(Errno::SPIPE.into()),
        }
    }

    /// Reading and writing a file that was not opened for it is `BADF`, as POSIX has it.
    fn check_mode(descriptor: &Descriptor, right: rights::Rights) -> Call {
        if descriptor.rights & right == 0 {
            Err(Errno::BADF.into())
        } else {
            Ok(())
        }
    }

    /// Translates a request to set times.
    pub(super) fn times(&self, accessed: u64, modified: u64, flags: u32) -> Call<Times> {
        let both = |a: u32, b: u32| flags & a != 0 && flags & b != 0;
        if flags & !0xf != 0 || both(ATIM, ATIM_NOW) || both(MTIM, MTIM_NOW) {
            return Err(Errno::INVAL.into());
        }
        let now = self.time.stamp();
        let pick = |given: u64, set: u32, set_now: u32| match flags {
            _ if flags & set != 0 => Some(given),
            _ if flags & set_now != 0 => Some(now),
            _ => None,
        };
        Ok(Times {
            accessed: pick(accessed, ATIM, ATIM_NOW),
            modified: pick(modified, MTIM, MTIM_NOW),
            now,
        })
    }

    pub(crate) fn fd_advise(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        offset: u64,
        len: u64,
        advice: u32,
    ) -> Call {
        self.file(fd, rights::FD_ADVISE)?;
        if advice > 5 || offset.checked_add(len).is_none() {
            return Err(Errno::INVAL.into());
        }
        Ok(())
    }

    pub(crate) fn fd_allocate(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        offset: u64,
        len: u64,
    ) -> Call {
        let now = self.time.stamp();
        Self::check_mode(self.table.get(fd)?, rights::FD_ALLOCATE)?;
        let file = self.file(fd, rights::FD_ALLOCATE)?;
        let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
        if len == 0 {
            return Err(Errno::INVAL.into());
        }
        if end > file.stat()?.size {
            file.set_size(end, now)?;
        }
        Ok(())
    }

    pub(crate) fn fd_close(&mut self, _mem: &mut Memory<'_>, fd: u32) -> Call {
        self.table.close(fd)
    }

    pub(crate) fn fd_datasync(&mut self, _mem: &mut Memory<'_>, fd: u32) -> Call {
        self.sync(fd, rights::FD_DATASYNC)
    }

    pub(crate) fn fd_sync(&mut self, _mem: &mut Memory<'_>, fd: u32) -> Call {
        self.sync(fd, rights::FD_SYNC)
    }

    fn sync(&self, fd: u32, right: rights::Rights) -> Call {
        let descriptor = self.table.get(fd)?;
        match &descriptor.kind {
            Kind::File { file, .. } => {
                descriptor.check(right)?;
                Ok(file.sync()?)
            }
            Kind::Directory { .. } => descriptor.check(right),
            Kind::Stdin | Kind::Output(_) => Err(Errno::INVAL.into()),
        }
    }

    pub(crate) fn fd_fdstat_get(&mut self, mem: &mut Memory<'_>, fd: u32, into: u32) -> Call {
        let descriptor = self.table.get(fd)?;
        let file_type = match &descriptor.kind {
            Kind::Directory { .. } => file_type_number(FileType::Directory),
            Kind::File { .. } => file_type_number(FileType::File),
            // Not a character device, or guests would think that somebody types.
            Kind::Stdin | Kind::Output(_) => 0,
        };
        let (rights, inheriting) = (descriptor.rights, descriptor.inheriting);
        let flags = descriptor.flags;
        mem.write(into, &[0; 24])?;
        mem.write(into, &[file_type])?;
        mem.write(field(into, 2)?, &flags.to_le_bytes())?;
        mem.write_u64(field(into, 8)?, rights)?;
        mem.write_u64(field(into, 16)?, inheriting)
    }

    pub(crate) fn fd_fdstat_set_flags(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        flags: u32,
    ) -> Call {
        let descriptor = self.table.get_mut(fd)?;
        descriptor.check(rights::FD_FDSTAT_SET_FLAGS)?;
        let flags = u16::try_from(flags).map_err(|_too_large| Errno::INVAL)?;
        if flags & !(APPEND | NONBLOCK) != descriptor.flags & SYNC {
            return Err(Errno::INVAL.into());
        }
        descriptor.flags = flags;
        Ok(())
    }

    pub(crate) fn fd_fdstat_set_rights(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        rights: u64,
        inheriting: u64,
    ) -> Call {
        let descriptor = self.table.get_mut(fd)?;
        if rights & !descriptor.rights != 0 || inheriting & !descriptor.inheriting != 0 {
            return Err(Errno::NOTCAPABLE.into());
        }
        descriptor.rights = rights;
        descriptor.inheriting = inheriting;
        Ok(())
    }

    pub(crate) fn fd_filestat_get(&mut self, mem: &mut Memory<'_>, fd: u32, into: u32) -> Call {
        let descriptor = self.table.get(fd)?;
        descriptor.check(rights::FD_FILESTAT_GET)?;
        match &descriptor.kind {
            Kind::File { file, .. } => write_stat(mem, into, &file.stat()?),
            Kind::Directory { dir, .. } => write_stat(mem, into, &dir.stat_self()?),
            Kind::Stdin | Kind::Output(_) => mem.write(into, &[0; 64]),
        }
    }

    pub(crate) fn fd_filestat_set_size(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        size: u64,
    ) -> Call {
        let now = self.time.stamp();
        Self::check_mode(self.table.get(fd)?, rights::FD_FILESTAT_SET_SIZE)?;
        Ok(self
            .file(fd, rights::FD_FILESTAT_SET_SIZE)?
            .set_size(size, now)?)
    }

    pub(crate) fn fd_filestat_set_times(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Call {
        let times = self.times(accessed, modified, flags)?;
        let descriptor = self.table.get(fd)?;
        descriptor.check(rights::FD_FILESTAT_SET_TIMES)?;
        match &descriptor.kind {
            Kind::File { file, .. } => Ok(file.set_times(times)?),
            Kind::Directory { dir, .. } => Ok(dir.set_times_self(times)?),
            Kind::Stdin | Kind::Output(_) => Err(Errno::BADF.into()),
        }
    }

    pub(crate) fn fd_seek(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        delta: i64,
        whence: u32,
        into: u32,
    ) -> Call {
        let descriptor = self.table.get_mut(fd)?;
        // A guest that only asks where it is needs less.
        let right = if delta == 0 && whence == 1 {
            rights::FD_TELL
        } else {
            rights::FD_SEEK
        };
        let kept = descriptor.check(right);
        let Kind::File { file, at } = &mut descriptor.kind else {
            let is_directory = matches!(descriptor.kind, Kind::Directory { .. });
            return Err(if is_directory {
                Errno::BADF
            } else {
                Errno::SPIPE
            }
            .into());
        };
        kept?;
        let base = match whence {
            0 => 0,
            1 => *at,
            2 => file.stat()?.size,
            _ => return Err(Errno::INVAL.into()),
        };
        let to = base.checked_add_signed(delta).ok_or(Errno::INVAL)?;
        if i64::try_from(to).is_err() {
            return Err(Errno::INVAL.into());
        }
        mem.write_u64(into, to)?;
        *at = to;
        Ok(())
    }

    pub(crate) fn fd_tell(&mut self, mem: &mut Memory<'_>, fd: u32, into: u32) -> Call {
        self.fd_seek(mem, fd, 0, 1, into)
    }

    pub(crate) fn fd_renumber(&mut self, _mem: &mut Memory<'_>, from: u32, to: u32) -> Call {
        self.table.renumber(from, to)
    }

    pub(crate) fn fd_read(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        (buffers, n): (u32, u32),
        n_read: u32,
    ) -> Call {
        let buffers = mem.buffers(buffers, n, self.limits.iovecs_max)?;
        let descriptor = self.table.get_mut(fd)?;
        Self::check_mode(descriptor, rights::FD_READ)?;
        let total = match &mut descriptor.kind {
            Kind::Directory { .. } | Kind::Output(_) => return Err(Errno::BADF.into()),
            Kind::Stdin => self.read_stdin(mem, &buffers)?,
            Kind::File { file, at } => {
                let total = read_file(mem, file.as_ref(), &buffers, *at)?;
                *at = at.saturating_add(u64::try_from(total).unwrap_or(u64::MAX));
                total
            }
        };
        mem.write_len(n_read, total)
    }

    /// Reads into the first buffer that has room, waiting for input.
    fn read_stdin(&mut self, mem: &mut Memory<'_>, buffers: &[Buffer]) -> Call<usize> {
        let Some(buffer) = buffers.iter().find(|buffer| buffer.len > 0) else {
            return Ok(0);
        };
        let into = mem.bytes_mut(buffer.at, buffer.len)?;
        loop {
            match self.io.read_stdin(into, WAIT_SLICE) {
                StdinRead::Bytes(n) => return Ok(n),
                StdinRead::End => return Ok(0),
                StdinRead::Pending => self.interrupt.check()?,
            }
        }
    }

    pub(crate) fn fd_pread(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        (buffers, n): (u32, u32),
        offset: u64,
        n_read: u32,
    ) -> Call {
        let buffers = mem.buffers(buffers, n, self.limits.iovecs_max)?;
        let file = self.file(fd, 0)?;
        Self::check_mode(self.table.get(fd)?, rights::FD_READ)?;
        let total = read_file(mem, file, &buffers, offset)?;
        mem.write_len(n_read, total)
    }

    pub(crate) fn fd_write(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        (buffers, n): (u32, u32),
        n_written: u32,
    ) -> Call {
        let buffers = mem.buffers(buffers, n, self.limits.iovecs_max)?;
        let now = self.time.stamp();
        let descriptor = self.table.get_mut(fd)?;
        Self::check_mode(descriptor, rights::FD_WRITE)?;
        let (appends, syncs) = (descriptor.flags & APPEND != 0, descriptor.flags & SYNC != 0);
        let total = match &mut descriptor.kind {
            Kind::Directory { .. } | Kind::Stdin => return Err(Errno::BADF.into()),
            Kind::Output(stream) => {
                let stream = *stream;
                return self.write_output(mem, stream, &buffers, n_written);
            }
            Kind::File { file, at } => {
                let start = *at;
                let mut total = 0_usize;
                for bytes in pieces(mem, &buffers)? {
                    let written = if appends {
                        file.append(bytes, now).map(|end| {
                            *at = end;
                            bytes.len()
                        })
                    } else {
                        let offset = offset_after(start, total);
                        file.write_at(bytes, offset, now)
                    };
                    let is_short = add_written(&mut total, written, bytes.len())?;
                    if !appends {
                        *at = offset_after(start, total);
                    }
                    if is_short {
                        break;
                    }
                }
                if syncs {
                    file.sync()?;
                }
                total
            }
        };
        self.count_storage(total);
        mem.write_len(n_written, total)
    }

    fn write_output(
        &self,
        mem: &mut Memory<'_>,
        stream: Stream,
        buffers: &[Buffer],
        n_written: u32,
    ) -> Call {
        let mut total = 0_usize;
        for bytes in pieces(mem, buffers)? {
            self.io.write(stream, bytes)?;
            total = total.saturating_add(bytes.len());
        }
        mem.write_len(n_written, total)
    }

    pub(crate) fn fd_pwrite(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        (buffers, n): (u32, u32),
        offset: u64,
        n_written: u32,
    ) -> Call {
        let buffers = mem.buffers(buffers, n, self.limits.iovecs_max)?;
        let now = self.time.stamp();
        let file = self.file(fd, 0)?;
        Self::check_mode(self.table.get(fd)?, rights::FD_WRITE)?;
        let mut total = 0_usize;
        for bytes in pieces(mem, &buffers)? {
            let written = file.write_at(bytes, offset_after(offset, total), now);
            if add_written(&mut total, written, bytes.len())? {
                break;
            }
        }
        self.count_storage(total);
        mem.write_len(n_written, total)
    }

    fn count_storage(&mut self, n: usize) {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        self.storage_bytes = self.storage_bytes.saturating_add(n);
    }
}

fn offset_after(start: u64, n: usize) -> u64 {
    start.saturating_add(u64::try_from(n).unwrap_or(u64::MAX))
}

/// The bytes of each buffer that has some.
fn pieces<'a>(mem: &'a Memory<'_>, buffers: &[Buffer]) -> Call<Vec<&'a [u8]>> {
    let full = buffers.iter().filter(|buffer| buffer.len > 0);
    full.map(|buffer| mem.bytes(buffer.at, buffer.len))
        .collect()
}

/// Adds what one write came to and says whether the rest must wait. A failure after some bytes were
/// written is a short write.
fn add_written(
    total: &mut usize,
    written: Result<usize, FileProblem>,
    wanted: usize,
) -> Result<bool, FileProblem> {
    match written {
        Ok(n) => {
            *total = total.saturating_add(n);
            Ok(n < wanted)
        }
        Err(_) if *total > 0 => Ok(true),
        Err(problem) => Err(problem),
    }
}

fn read_file(mem: &mut Memory<'_>, file: &dyn File, buffers: &[Buffer], at: u64) -> Call<usize> {
    let mut total = 0_usize;
    for buffer in buffers.iter().filter(|buffer| buffer.len > 0) {
        let into = mem.bytes_mut(buffer.at, buffer.len)?;
        let wanted = into.len();
        let n = file.read_at(into, offset_after(at, total))?;
        total = total.saturating_add(n);
        if n < wanted {
            break;
        }
    }
    Ok(total)
}
