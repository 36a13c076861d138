//! Mounts and listings.

use crate::files::FileType;
use crate::vfs::Entry;
use crate::wasi::descriptor::Kind;
use crate::wasi::fd::file_type_number;
use crate::wasi::memory::field;
use crate::wasi::rights;
use crate::wasi::{Call, Errno, Guest, Memory};

impl Guest {
    fn preopen(&self, fd: u32) -> Call<&str> {
        match &self.table.get(fd)?.kind {
            Kind::Directory {
                preopen: Some(path),
                ..
            } => Ok(path),
            _ => Err(Errno::BADF.into()),
        }
    }

    pub(crate) fn fd_prestat_get(&mut self, mem: &mut Memory<'_>, fd: u32, into: u32) -> Call {
        let len = self.preopen(fd)?.len();
        mem.write_u32(into, 0)?;
        mem.write_len(field(into, 4)?, len)
    }

    pub(crate) fn fd_prestat_dir_name(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        into: u32,
        len: u32,
    ) -> Call {
        let path = self.preopen(fd)?;
        if usize::try_from(len).unwrap_or(usize::MAX) < path.len() {
            return Err(Errno::NAMETOOLONG.into());
        }
        mem.write(into, path.as_bytes())
    }

    pub(crate) fn fd_readdir(
        &mut self,
        mem: &mut Memory<'_>,
        fd: u32,
        (buffer, len): (u32, u32),
        cookie: u64,
        n_used: u32,
    ) -> Call {
        let descriptor = self.table.get_mut(fd)?;
        let kept = descriptor.check(rights::FD_READDIR);
        let Kind::Directory { dir, listing, .. } = &mut descriptor.kind else {
            return Err(Errno::BADF.into());
        };
        kept?;
        if cookie == 0 || listing.is_empty() {
            let inode = dir.stat_self()?.inode;
            let dots = [(".", inode), ("..", 0)].map(|(name, inode)| Entry {
                name: name.to_owned(),
                inode,
                file_type: FileType::Directory,
            });
            *listing = dots.into_iter().chain(dir.entries()?).collect();
        }
        let start = usize::try_from(cookie).unwrap_or(usize::MAX);
        let mut used = 0_u32;
        for (entry, next) in listing.iter().skip(start).zip(cookie.saturating_add(1)..) {
            let record = record(entry, next)?;
            let room = len.saturating_sub(used);
            let record_len = u32::try_from(record.len()).unwrap_or(u32::MAX);
            // A record that does not fit is cut off: a full buffer tells the guest to ask again.
            let n = record_len.min(room);
            let part = record
                .get(..usize::try_from(n).unwrap_or(0))
                .unwrap_or_default();
            mem.write(field(buffer, used)?, part)?;
            used = used.saturating_add(n);
            if used == len {
                break;
            }
        }
        mem.write_u32(n_used, used)
    }
}

/// A `dirent` with its name.
fn record(entry: &Entry, next: u64) -> Call<Vec<u8>> {
    let name_len = u32::try_from(entry.name.len()).map_err(|_too_large| Errno::OVERFLOW)?;
    let mut record = Vec::with_capacity(entry.name.len().saturating_add(24));
    record.extend_from_slice(&next.to_le_bytes());
    record.extend_from_slice(&entry.inode.to_le_bytes());
    record.extend_from_slice(&name_len.to_le_bytes());
    record.extend_from_slice(&[file_type_number(entry.file_type), 0, 0, 0]);
    record.extend_from_slice(entry.name.as_bytes());
    Ok(record)
}
