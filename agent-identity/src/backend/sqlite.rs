//! Keys and grants in the embedded store.
//!
//! Every write is offered as a function of [`agent_core::store::Tx`] too, so that it commits with
//! the writes of other layers.

mod grants;
mod keys;
mod schema;

pub use grants::SqliteGrantStore;
pub use keys::SqliteKeyStore;
