#![doc = include_str!("../README.md")]

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
mod did;
mod error;
mod gate;
mod grant;
pub mod grant_store;
pub mod key_store;
mod signature;
pub mod vault;

pub use did::DidKey;
pub use error::{Error, Result};
pub use gate::{CapabilityGate, Expiring};
pub use grant::{Capability, GrantChain, GrantId, Link, Pattern, Terms, Widening};
pub use grant_store::GrantStore;
pub use key_store::{Key, KeyId, KeyName, KeyStore};
pub use signature::{Purpose, Signature};
pub use vault::Unlock;
