//! Where the journal is kept.

pub mod sqlite;
