//! The `wasi_snapshot_preview1` interface over the virtual file system, free of any engine: a call
//! takes the guest's memory as a slice and its numbers as they came.
//!
//! Everything here is input of a hostile guest. Pointers and lengths are checked at each access; a
//! pointer outside the memory ends the guest, as the interface's rules say, and everything else it
//! gets wrong is an [`Errno`].

mod descriptor;
mod dir;
mod errno;
mod fd;
mod guest;
mod memory;
mod path;
mod poll;
mod process;
mod rights;
mod time;

pub(crate) use descriptor::Table;
pub(crate) use errno::{Errno, Fail};
pub(crate) use guest::{Guest, Interrupt};
pub(crate) use memory::Memory;
pub(crate) use time::GuestTime;

/// The result of a call.
pub(crate) type Call<T = ()> = Result<T, Fail>;
