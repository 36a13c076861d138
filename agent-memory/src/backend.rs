//! The backends of [`crate::MemoryStore`].

mod in_memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use in_memory::InMemory;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
