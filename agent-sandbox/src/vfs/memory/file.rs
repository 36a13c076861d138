//! An open file in memory.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::error::FileProblem;
use crate::vfs::memory::node::{Content, Kind, Node};
use crate::vfs::{File, Quota, Result, Stat, Times};

#[derive(Debug)]
pub(super) struct MemoryFile {
    device: u64,
    node: Arc<Node>,
    quota: Arc<Quota>,
}

impl MemoryFile {
    pub(super) const fn new(device: u64, node: Arc<Node>, quota: Arc<Quota>) -> Self {
        Self {
            device,
            node,
            quota,
        }
    }

    fn content(&self) -> Result<&RwLock<Content>> {
        match self.node.kind() {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) | Kind::Symlink(_) => Err(FileProblem::Invalid),
        }
    }

    /// Makes the contents this sandbox's own and `size` bytes long, within the limits.
    fn resized<'a>(&self, content: &'a mut Content, size: u64) -> Result<&'a mut Vec<u8>> {
        self.quota.check_size(size)?;
        let len = usize::try_from(size).map_err(|_too_large| FileProblem::Quota)?;
        if let Content::Shared(shared) = content {
            self.quota.take_bytes(size)?;
            let bytes = shared
                .get(..len.min(shared.len()))
                .unwrap_or_default()
                .to_vec();
            let quota = Arc::clone(&self.quota);
            // The length must be what was counted before the old value is dropped.
            let mut own = Content::Own { bytes, quota };
            if let Content::Own { bytes, .. } = &mut own {
                bytes.resize(len, 0);
            }
            *content = own;
        }
        match content {
            Content::Own { bytes, quota } => {
                let held = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if size > held {
                    quota.take_bytes(size.saturating_sub(held))?;
                } else {
                    quota.give_bytes(held.saturating_sub(size));
                }
                bytes.resize(len, 0);
                if size < held {
                    // Capacity that is kept would be memory no limit counts.
                    bytes.shrink_to_fit();
                }
                Ok(bytes)
            }
            Content::Shared(_) => Err(FileProblem::Io),
        }
    }

    /// Writes at an offset, growing the contents as far as needed.
    fn put(&self, content: &mut Content, bytes: &[u8], offset: u64) -> Result<u64> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let end = offset.checked_add(len).ok_or(FileProblem::Quota)?;
        let held = u64::try_from(content.bytes().len()).unwrap_or(u64::MAX);
        let into = self.resized(content, end.max(held))?;
        let start = usize::try_from(offset).map_err(|_too_large| FileProblem::Quota)?;
        let target = into.get_mut(start..).unwrap_or_default();
        for (to, from) in target.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(end)
    }
}

impl File for MemoryFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let content = self.content()?.read();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.bytes().get(start..).unwrap_or_default();
        let n = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64, now: u64) -> Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.put(&mut self.content()?.write(), bytes, offset)?;
        self.node.touch(now);
        Ok(bytes.len())
    }

    fn append(&self, bytes: &[u8], now: u64) -> Result<u64> {
        let mut content = self.content()?.write();
        let offset = u64::try_from(content.bytes().len()).unwrap_or(u64::MAX);
        if bytes.is_empty() {
            return Ok(offset);
        }
        let end = self.put(&mut content, bytes, offset)?;
        drop(content);
        self.node.touch(now);
        Ok(end)
    }

    fn replace(&self, bytes: Vec<u8>, now: u64) -> Result<()> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.quota.check_size(size)?;
        let mut content = self.content()?.write();
        self.quota.take_bytes(size)?;
        *content = Content::Own {
            bytes,
            quota: Arc::clone(&self.quota),
        };
        drop(content);
        self.node.touch(now);
        Ok(())
    }

    fn set_size(&self, size: u64, now: u64) -> Result<()> {
        self.resized(&mut self.content()?.write(), size)?;
        self.node.touch(now);
        Ok(())
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.node.stat(self.device))
    }

    fn set_times(&self, times: Times) -> Result<()> {
        self.node.set_times(times);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
