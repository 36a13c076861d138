//! The backends of [`crate::MemoryStore`].

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod embedded;
mod in_memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod stored;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use embedded::Embedded;
pub use in_memory::InMemory;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
