//! Arguments, environment, clocks, randomness, exit, and the sockets nobody has.

use crate::outcome::Exit;
use crate::wasi::memory::field;
use crate::wasi::{Call, Errno, Guest, Memory};

/// Writes strings, each with a zero behind, and their addresses.
fn write_strings(mem: &mut Memory<'_>, strings: &[String], table: u32, buffer: u32) -> Call {
    let (mut slot, mut at) = (table, buffer);
    for text in strings {
        mem.write_u32(slot, at)?;
        mem.write(at, text.as_bytes())?;
        let len = u32::try_from(text.len()).map_err(|_too_large| Errno::OVERFLOW)?;
        let end = field(at, len)?;
        mem.write(end, &[0])?;
        at = field(end, 1)?;
        slot = field(slot, 4)?;
    }
    Ok(())
}

fn write_sizes(mem: &mut Memory<'_>, strings: &[String], count: u32, size: u32) -> Call {
    mem.write_len(count, strings.len())?;
    mem.write_len(
        size,
        strings
            .iter()
            .map(|text| text.len().saturating_add(1))
            .sum(),
    )
}

impl Guest {
    pub(crate) fn args_get(&mut self, mem: &mut Memory<'_>, table: u32, buffer: u32) -> Call {
        write_strings(mem, &self.args, table, buffer)
    }

    pub(crate) fn args_sizes_get(&mut self, mem: &mut Memory<'_>, n: u32, size: u32) -> Call {
        write_sizes(mem, &self.args, n, size)
    }

    pub(crate) fn environ_get(&mut self, mem: &mut Memory<'_>, table: u32, buffer: u32) -> Call {
        write_strings(mem, &self.env, table, buffer)
    }

    pub(crate) fn environ_sizes_get(&mut self, mem: &mut Memory<'_>, n: u32, size: u32) -> Call {
        write_sizes(mem, &self.env, n, size)
    }

    pub(crate) fn clock_res_get(&mut self, mem: &mut Memory<'_>, id: u32, into: u32) -> Call {
        let resolution = match id {
            0 => self.time.resolution(true),
            1 => self.time.resolution(false),
            2 | 3 => return Err(Errno::NOTSUP.into()),
            _ => return Err(Errno::INVAL.into()),
        };
        mem.write_u64(into, resolution)
    }

    pub(crate) fn clock_time_get(
        &mut self,
        mem: &mut Memory<'_>,
        id: u32,
        _precision: u64,
        into: u32,
    ) -> Call {
        let now = self.clock(id)?;
        mem.write_u64(into, now)
    }

    /// Reads a clock by its number.
    pub(super) fn clock(&mut self, id: u32) -> Call<u64> {
        match id {
            0 => Ok(self.time.realtime()),
            1 => Ok(self.time.monotonic()),
            2 | 3 => Err(Errno::NOTSUP.into()),
            _ => Err(Errno::INVAL.into()),
        }
    }

    pub(crate) fn random_get(&mut self, mem: &mut Memory<'_>, buffer: u32, len: u32) -> Call {
        if len > self.limits.random_bytes_max {
            return Err(Errno::INVAL.into());
        }
        self.entropy.fill(mem.bytes_mut(buffer, len)?);
        Ok(())
    }

    pub(crate) fn proc_exit(&mut self, code: u32) -> Call {
        Err(Exit::code(code).into())
    }

    pub(crate) fn proc_raise(&mut self, _mem: &mut Memory<'_>, _signal: u32) -> Call {
        Err(Errno::NOTSUP.into())
    }

    pub(crate) fn sched_yield(&mut self, _mem: &mut Memory<'_>) -> Call {
        self.interrupt.check()?;
        Ok(())
    }

    /// No descriptor is a socket.
    fn not_a_socket(&self, fd: u32) -> Call {
        self.table.get(fd)?;
        Err(Errno::NOTSOCK.into())
    }

    pub(crate) fn sock_accept(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        _flags: u32,
        _into: u32,
    ) -> Call {
        self.not_a_socket(fd)
    }

    pub(crate) fn sock_recv(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        (_buffers, _n): (u32, u32),
        _flags: u32,
        (_len, _out): (u32, u32),
    ) -> Call {
        self.not_a_socket(fd)
    }

    pub(crate) fn sock_send(
        &mut self,
        _mem: &mut Memory<'_>,
        fd: u32,
        (_buffers, _n): (u32, u32),
        _flags: u32,
        _len: u32,
    ) -> Call {
        self.not_a_socket(fd)
    }

    pub(crate) fn sock_shutdown(&mut self, _mem: &mut Memory<'_>, fd: u32, _how: u32) -> Call {
        self.not_a_socket(fd)
    }
}
