//! The import surface of a guest: the 46 functions of `wasi_snapshot_preview1`.

use wasmtime::{Caller, Extern, Linker, Result};

use crate::backend::wasm::run::{Ended, Host};
use crate::outcome::{Exit, TrapKind};
use crate::wasi::{Call, Errno, Fail, Guest, Memory};

/// The module every function is imported from.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// The functions a guest may import.
pub(super) const FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// Answers one call.
fn answer(
    caller: &mut Caller<'_, Host>,
    call: impl FnOnce(&mut Guest, &mut Memory<'_>) -> Call,
) -> Result<u32> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // A module's start function runs before its exports are known to the host.
        None => match caller.get_export("memory").and_then(Extern::into_memory) {
            Some(memory) => {
                caller.data_mut().memory = Some(memory);
                memory
            }
            None => {
                let exit = Exit::trap(TrapKind::Interface, "the guest exports no memory");
                return Err(wasmtime::Error::new(Ended(exit)));
            }
        },
    };
    let (bytes, host) = memory.data_and_store_mut(&mut *caller);
    match call(&mut host.guest, &mut Memory::new(bytes)) {
        Ok(()) => Ok(u32::from(Errno::SUCCESS.number())),
        Err(Fail::Errno(errno)) => Ok(u32::from(errno.number())),
        Err(Fail::Exit(exit)) => Err(wasmtime::Error::new(Ended(exit))),
    }
}

/// Links one function: its name, its parameters as the interface orders them, and the call.
macro_rules! link {
    ($linker:ident, $name:literal, ($($arg:ident: $ty:ty),*), |$guest:ident, $mem:ident| $call:expr) => {
        $linker.func_wrap(MODULE, $name, |mut caller: Caller<'_, Host>, $($arg: $ty),*| {
            answer(&mut caller, |$guest, $mem| $call)
        })?;
    };
}

/// Adds every function.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    add_process(linker)?;
    add_descriptor(linker)?;
    add_reading(linker)?;
    add_path(linker)?;
    add_path_pairs(linker)
}

fn add_process(l: &mut Linker<Host>) -> Result<()> {
    link!(l, "args_get", (table: u32, buffer: u32), |g, m| g.args_get(m, table, buffer));
    link!(l, "args_sizes_get", (n: u32, size: u32), |g, m| g.args_sizes_get(m, n, size));
    link!(l, "environ_get", (table: u32, buffer: u32), |g, m| g.environ_get(m, table, buffer));
    link!(l, "environ_sizes_get", (n: u32, size: u32), |g, m| g.environ_sizes_get(m, n, size));
    link!(l, "clock_res_get", (id: u32, into: u32), |g, m| g.clock_res_get(m, id, into));
    link!(l, "clock_time_get", (id: u32, precision: u64, into: u32), |g, m| {
        g.clock_time_get(m, id, precision, into)
    });
    link!(l, "random_get", (buffer: u32, len: u32), |g, m| g.random_get(m, buffer, len));
    link!(l, "proc_raise", (signal: u32), |g, m| g.proc_raise(m, signal));
    link!(l, "sched_yield", (), |g, m| g.sched_yield(m));
    link!(l, "poll_oneoff", (subscriptions: u32, events: u32, n: u32, n_events: u32), |g, m| {
        g.poll_oneoff(m, (subscriptions, events), n, n_events)
    });
    link!(l, "sock_accept", (fd: u32, flags: u32, into: u32), |g, m| {
        g.sock_accept(m, fd, flags, into)
    });
    link!(l, "sock_recv", (fd: u32, at: u32, n: u32, flags: u32, len: u32, out: u32), |g, m| {
        g.sock_recv(m, fd, (at, n), flags, (len, out))
    });
    link!(l, "sock_send", (fd: u32, at: u32, n: u32, flags: u32, len: u32), |g, m| {
        g.sock_send(m, fd, (at, n), flags, len)
    });
    link!(l, "sock_shutdown", (fd: u32, how: u32), |g, m| g.sock_shutdown(m, fd, how));
    l.func_wrap(
        MODULE,
        "proc_exit",
        |mut caller: Caller<'_, Host>, code: u32| -> Result<()> {
            match caller.data_mut().guest.proc_exit(code) {
                Ok(()) | Err(Fail::Errno(_)) => Ok(()),
                Err(Fail::Exit(exit)) => Err(wasmtime::Error::new(Ended(exit))),
            }
        },
    )?;
    Ok(())
}

fn add_descriptor(l: &mut Linker<Host>) -> Result<()> {
    link!(l, "fd_advise", (fd: u32, offset: u64, len: u64, advice: u32), |g, m| {
        g.fd_advise(m, fd, offset, len, advice)
    });
    link!(l, "fd_allocate", (fd: u32, offset: u64, len: u64), |g, m| {
        g.fd_allocate(m, fd, offset, len)
    });
    link!(l, "fd_close", (fd: u32), |g, m| g.fd_close(m, fd));
    link!(l, "fd_datasync", (fd: u32), |g, m| g.fd_datasync(m, fd));
    link!(l, "fd_sync", (fd: u32), |g, m| g.fd_sync(m, fd));
    link!(l, "fd_fdstat_get", (fd: u32, into: u32), |g, m| g.fd_fdstat_get(m, fd, into));
    link!(l, "fd_fdstat_set_flags", (fd: u32, flags: u32), |g, m| {
        g.fd_fdstat_set_flags(m, fd, flags)
    });
    link!(l, "fd_fdstat_set_rights", (fd: u32, rights: u64, inheriting: u64), |g, m| {
        g.fd_fdstat_set_rights(m, fd, rights, inheriting)
    });
    link!(l, "fd_filestat_get", (fd: u32, into: u32), |g, m| g.fd_filestat_get(m, fd, into));
    link!(l, "fd_filestat_set_size", (fd: u32, size: u64), |g, m| {
        g.fd_filestat_set_size(m, fd, size)
    });
    link!(l, "fd_filestat_set_times", (fd: u32, atim: u64, mtim: u64, flags: u32), |g, m| {
        g.fd_filestat_set_times(m, fd, atim, mtim, flags)
    });
    link!(l, "fd_renumber", (from: u32, to: u32), |g, m| g.fd_renumber(m, from, to));
    link!(l, "fd_seek", (fd: u32, delta: i64, whence: u32, into: u32), |g, m| {
        g.fd_seek(m, fd, delta, whence, into)
    });
    link!(l, "fd_tell", (fd: u32, into: u32), |g, m| g.fd_tell(m, fd, into));
    Ok(())
}

fn add_reading(l: &mut Linker<Host>) -> Result<()> {
    link!(l, "fd_prestat_get", (fd: u32, into: u32), |g, m| g.fd_prestat_get(m, fd, into));
    link!(l, "fd_prestat_dir_name", (fd: u32, into: u32, len: u32), |g, m| {
        g.fd_prestat_dir_name(m, fd, into, len)
    });
    link!(l, "fd_read", (fd: u32, at: u32, n: u32, out: u32), |g, m| g.fd_read(m, fd, (at, n), out));
    link!(l, "fd_pread", (fd: u32, at: u32, n: u32, offset: u64, out: u32), |g, m| {
        g.fd_pread(m, fd, (at, n), offset, out)
    });
    link!(l, "fd_write", (fd: u32, at: u32, n: u32, out: u32), |g, m| {
        g.fd_write(m, fd, (at, n), out)
    });
    link!(l, "fd_pwrite", (fd: u32, at: u32, n: u32, offset: u64, out: u32), |g, m| {
        g.fd_pwrite(m, fd, (at, n), offset, out)
    });
    link!(l, "fd_readdir", (fd: u32, at: u32, len: u32, cookie: u64, out: u32), |g, m| {
        g.fd_readdir(m, fd, (at, len), cookie, out)
    });
    Ok(())
}

fn add_path(l: &mut Linker<Host>) -> Result<()> {
    link!(l, "path_create_directory", (fd: u32, at: u32, len: u32), |g, m| {
        g.path_create_directory(m, fd, (at, len))
    });
    link!(l, "path_filestat_get", (fd: u32, flags: u32, at: u32, len: u32, into: u32), |g, m| {
        g.path_filestat_get(m, fd, flags, (at, len), into)
    });
    link!(
        l,
        "path_filestat_set_times",
        (fd: u32, flags: u32, at: u32, len: u32, atim: u64, mtim: u64, times: u32),
        |g, m| g.path_filestat_set_times(m, fd, flags, (at, len), (atim, mtim, times))
    );
    link!(
        l,
        "path_open",
        (
            fd: u32, flags: u32, at: u32, len: u32, oflags: u32,
            rights: u64, inheriting: u64, fdflags: u32, into: u32
        ),
        |g, m| {
            let path = (fd, flags, (at, len));
            g.path_open(m, path, oflags, (rights, inheriting), (fdflags, into))
        }
    );
    link!(
        l,
        "path_readlink",
        (fd: u32, at: u32, len: u32, buffer: u32, buffer_len: u32, out: u32),
        |g, m| g.path_readlink(m, fd, (at, len), (buffer, buffer_len), out)
    );
    link!(l, "path_remove_directory", (fd: u32, at: u32, len: u32), |g, m| {
        g.path_remove_directory(m, fd, (at, len))
    });
    link!(l, "path_unlink_file", (fd: u32, at: u32, len: u32), |g, m| {
        g.path_unlink_file(m, fd, (at, len))
    });
    Ok(())
}

fn add_path_pairs(l: &mut Linker<Host>) -> Result<()> {
    link!(
        l,
        "path_link",
        (from_fd: u32, flags: u32, at: u32, len: u32, to_fd: u32, to: u32, to_len: u32),
        |g, m| g.path_link(m, (from_fd, flags, (at, len)), to_fd, (to, to_len))
    );
    link!(
        l,
        "path_rename",
        (from_fd: u32, at: u32, len: u32, to_fd: u32, to: u32, to_len: u32),
        |g, m| g.path_rename(m, from_fd, (at, len), to_fd, (to, to_len))
    );
    link!(
        l,
        "path_symlink",
        (target: u32, target_len: u32, fd: u32, at: u32, len: u32),
        |g, m| g.path_symlink(m, (target, target_len), fd, (at, len))
    );
    Ok(())
}
