//! Where keys and grants are kept.

mod in_memory;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use in_memory::{InMemoryGrantStore, InMemoryKeyStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteGrantStore, SqliteKeyStore};
