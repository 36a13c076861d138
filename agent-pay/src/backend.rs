//! The ledgers of this crate.

mod in_memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use in_memory::InMemoryLedger;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteAuthority, SqliteLedger, SqliteMeter};
