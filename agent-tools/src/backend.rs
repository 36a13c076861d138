//! The toolsets of this crate, one module each.

mod in_process;

pub use in_process::InProcess;
