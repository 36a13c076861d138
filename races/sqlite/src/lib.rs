//! The bindings that `sqlx` asks for, by those that `rusqlite` links.
//!
//! Cargo lets one version of a native library into a program, and two builds of SQLite would not
//! be a fair race.

pub use linked::*;
