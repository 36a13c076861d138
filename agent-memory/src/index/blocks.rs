//! Bytes in blocks, each after its length and its digest; an empty block ends them, so a file that
//! was cut off or damaged is not taken for a whole one. All numbers are little-endian.

use std::io::{self, Read, Write};

use agent_core::{Digest, Timestamp};

use super::numbers::number;

/// The bytes of a block.
const BLOCK: usize = 1 << 20;

/// Writes blocks.
pub(crate) struct Blocks<W: Write> {
    to: W,
    block: Vec<u8>,
}

impl<W: Write> Blocks<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            to,
            block: Vec::with_capacity(BLOCK),
        }
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(BLOCK - self.block.len());
            let (now, later) = bytes.split_at(n);
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&number(self.block.len()).to_le_bytes())?;
        self.to
            .write_all(Digest::of_bytes(&self.block).as_bytes())?;
        self.to.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// Ends the blocks.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        self.flush()?;
        Ok(self.to)
    }

    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.size(text.len())?;
        self.put(text.as_bytes())
    }

    pub(super) fn size(&mut self, n: usize) -> io::Result<()> {
        self.put(&u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes())
    }

    pub(crate) fn long(&mut self, n: i64) -> io::Result<()> {
        self.put(&n.to_le_bytes())
    }

    pub(super) fn time(&mut self, at: Option<Timestamp>) -> io::Result<()> {
        self.put(&[u8::from(at.is_some())])?;
        self.long(at.map_or(0, Timestamp::as_unix_ms))
    }

    pub(super) fn numbers(&mut self, numbers: &[u32]) -> io::Result<()> {
        self.size(numbers.len())?;
        numbers.iter().try_for_each(|n| self.put(&n.to_le_bytes()))
    }

    pub(super) fn longs(&mut self, longs: &[u64]) -> io::Result<()> {
        self.size(longs.len())?;
        longs.iter().try_for_each(|n| self.put(&n.to_le_bytes()))
    }

    pub(super) fn floats(&mut self, floats: &[f32]) -> io::Result<()> {
        self.size(floats.len())?;
        floats.iter().try_for_each(|x| self.put(&x.to_le_bytes()))
    }

    pub(super) fn signed(&mut self, bytes: &[i8]) -> io::Result<()> {
        self.size(bytes.len())?;
        for part in bytes.chunks(BLOCK) {
            let part: Vec<u8> = part.iter().flat_map(|byte| byte.to_le_bytes()).collect();
            self.put(&part)?;
        }
        Ok(())
    }
}

/// Reads blocks; nothing where they are damaged or at an end too early.
pub(crate) struct Unblocks<R: Read> {
    from: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> Unblocks<R> {
    pub(crate) const fn new(from: R) -> Self {
        Self {
            from,
            block: Vec::new(),
            at: 0,
        }
    }

    fn next_block(&mut self) -> Option<()> {
        let (mut size, mut digest) = ([0; 4], [0; 32]);
        self.from.read_exact(&mut size).ok()?;
        self.from.read_exact(&mut digest).ok()?;
        let size = u32::from_le_bytes(size) as usize;
        if size > BLOCK {
            return None;
        }
        self.block.resize(size, 0);
        self.at = 0;
        self.from.read_exact(&mut self.block).ok()?;
        (Digest::of_bytes(&self.block).as_bytes() == &digest).then_some(())
    }

    fn fill(&mut self, mut to: &mut [u8]) -> Option<()> {
        while !to.is_empty() {
            if self.at == self.block.len() {
                self.next_block()?;
            }
            let there = self.block.get(self.at..)?;
            // The last block is empty.
            let n = to.len().min(there.len()).max(usize::from(there.is_empty()));
            let (now, later) = to.split_at_mut(n);
            now.copy_from_slice(there.get(..n)?);
            self.at += n;
            to = later;
        }
        Some(())
    }

    pub(super) fn finish(mut self) -> Option<()> {
        if self.at != self.block.len() {
            return None;
        }
        self.next_block()?;
        self.block.is_empty().then_some(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Some(bytes)
    }

    pub(super) fn size(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).ok()
    }

    pub(crate) fn long(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.array()?))
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.array::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    pub(super) fn moment(&mut self) -> Option<Timestamp> {
        self.long().map(Timestamp::from_unix_ms)
    }

    pub(super) fn time(&mut self) -> Option<Option<Timestamp>> {
        let is_some = self.flag()?;
        let at = self.moment()?;
        Some(is_some.then_some(at))
    }

    /// Reads bytes, taking memory only for those that are there.
    pub(super) fn bytes(&mut self, mut n: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while n > 0 {
            let (start, part) = (bytes.len(), n.min(BLOCK));
            bytes.resize(start + part, 0);
            self.fill(bytes.get_mut(start..)?)?;
            n -= part;
        }
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let n = self.size()?;
        String::from_utf8(self.bytes(n)?).ok()
    }

    /// Reads a list of values of `N` bytes.
    fn list<const N: usize, T>(&mut self, of: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let mut n = self.size()?;
        let mut values = Vec::new();
        while n > 0 {
            let part = n.min(BLOCK / N);
            let bytes = self.bytes(part * N)?;
            values.extend(bytes.as_chunks().0.iter().copied().map(&of));
            n -= part;
        }
        Some(values)
    }

    pub(super) fn numbers(&mut self) -> Option<Vec<u32>> {
        self.list(u32::from_le_bytes)
    }

    pub(super) fn longs(&mut self) -> Option<Vec<u64>> {
        self.list(u64::from_le_bytes)
    }

    pub(super) fn floats(&mut self) -> Option<Vec<f32>> {
        self.list(f32::from_le_bytes)
    }

    pub(super) fn signed(&mut self) -> Option<Vec<i8>> {
        let n = self.size()?;
        let bytes = self.bytes(n)?;
        Some(bytes.into_iter().map(|b| i8::from_le_bytes([b])).collect())
    }
}
