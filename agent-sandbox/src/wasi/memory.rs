//! Checked access to a guest's memory.

use crate::wasi::{Call, Errno, Fail};

/// A guest's linear memory during one call.
#[derive(Debug)]
pub(crate) struct Memory<'a>(&'a mut [u8]);

/// A buffer the guest named: checked when it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) at: u32,
    pub(super) len: u32,
}

impl<'a> Memory<'a> {
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// The range of a buffer; it cannot wrap around because it is computed in 64 bits.
    fn range(at: u32, len: u64) -> Call<std::ops::Range<usize>> {
        let start = u64::from(at);
        let end = start.saturating_add(len);
        let index = |n: u64| usize::try_from(n).map_err(|_too_large| Fail::out_of_bounds());
        Ok(index(start)?..index(end)?)
    }

    pub(super) fn bytes(&self, at: u32, len: u32) -> Call<&[u8]> {
        self.0
            .get(Self::range(at, u64::from(len))?)
            .ok_or_else(Fail::out_of_bounds)
    }

    pub(super) fn bytes_mut(&mut self, at: u32, len: u32) -> Call<&mut [u8]> {
        self.0
            .get_mut(Self::range(at, u64::from(len))?)
            .ok_or_else(Fail::out_of_bounds)
    }

    pub(super) fn read<const N: usize>(&self, at: u32) -> Call<[u8; N]> {
        let len = u64::try_from(N).unwrap_or(u64::MAX);
        let bytes = self
            .0
            .get(Self::range(at, len)?)
            .ok_or_else(Fail::out_of_bounds)?;
        bytes
            .try_into()
            .map_err(|_other_length| Fail::out_of_bounds())
    }

    pub(super) fn read_u32(&self, at: u32) -> Call<u32> {
        Ok(u32::from_le_bytes(self.read(at)?))
    }

    pub(super) fn read_u64(&self, at: u32) -> Call<u64> {
        Ok(u64::from_le_bytes(self.read(at)?))
    }

    pub(super) fn read_u16(&self, at: u32) -> Call<u16> {
        Ok(u16::from_le_bytes(self.read(at)?))
    }

    pub(super) fn read_u8(&self, at: u32) -> Call<u8> {
        let [byte] = self.read(at)?;
        Ok(byte)
    }

    pub(super) fn write(&mut self, at: u32, bytes: &[u8]) -> Call {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let into = self
            .0
            .get_mut(Self::range(at, len)?)
            .ok_or_else(Fail::out_of_bounds)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, at: u32, value: u32) -> Call {
        self.write(at, &value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, at: u32, value: u64) -> Call {
        self.write(at, &value.to_le_bytes())
    }

    /// Writes a length, which must fit the interface's 32 bits.
    pub(super) fn write_len(&mut self, at: u32, len: usize) -> Call {
        self.write_u32(
            at,
            u32::try_from(len).map_err(|_too_large| Errno::OVERFLOW)?,
        )
    }

    /// Copies a path out of the guest, so that it cannot change after it was checked.
    pub(super) fn path(&self, at: u32, len: u32, bytes_max: usize) -> Call<String> {
        if usize::try_from(len).unwrap_or(usize::MAX) > bytes_max {
            return Err(Errno::NAMETOOLONG.into());
        }
        let bytes = self.bytes(at, len)?.to_vec();
        let path = String::from_utf8(bytes).map_err(|_not_text| Errno::ILSEQ)?;
        if path.contains('\0') {
            return Err(Errno::ILSEQ.into());
        }
        Ok(path)
    }

    /// Reads a list of buffers and checks each.
    pub(super) fn buffers(&self, at: u32, n: u32, n_max: u32) -> Call<Vec<Buffer>> {
        if n > n_max {
            return Err(Errno::INVAL.into());
        }
        let mut total = 0_u32;
        let mut buffers = Vec::with_capacity(usize::try_from(n).unwrap_or(0));
        for index in 0..n {
            let entry = at
                .checked_add(index.saturating_mul(8))
                .ok_or_else(Fail::out_of_bounds)?;
            let second = entry.checked_add(4).ok_or_else(Fail::out_of_bounds)?;
            let buffer = Buffer {
                at: self.read_u32(entry)?,
                len: self.read_u32(second)?,
            };
            self.bytes(buffer.at, buffer.len)?;
            // The count of bytes is answered in 32 bits.
            total = total.checked_add(buffer.len).ok_or(Errno::INVAL)?;
            buffers.push(buffer);
        }
        Ok(buffers)
    }
}

/// Moves a pointer inside a structure; a structure that would wrap around is out of bounds.
pub(super) fn field(at: u32, offset: u32) -> Call<u32> {
    at.checked_add(offset).ok_or_else(Fail::out_of_bounds)
}
