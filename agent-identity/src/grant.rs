//! Capability grants: signed permission that can be handed on only in part.
//!
//! ```text
//!  issuer ──signs──► link 0 ──its subject signs──► link 1 ──its subject signs──► link 2
//!  (trusted root)    caps ⊇                        caps ⊇                        caps
//! ```
//!
//! Each link names its subject, what is granted, and the digest of the link before it. That a link
//! grants no more than the one before is checked when it is made and again by whoever verifies.

mod capability;
mod chain;
mod link;
mod pattern;

pub use capability::{Capability, Widening};
pub use chain::GrantChain;
pub use link::{GrantId, Link, Terms};
pub use pattern::Pattern;

pub(crate) use chain::Refusal;
