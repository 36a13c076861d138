//! Provisioning: databases and other services for agents, paid from their budgets.
//!
//! A [`Provisioner`] makes, changes and removes resources; it knows nothing of money. An
//! `Estate` (feature `sqlite`) puts the spend authority and a durable record around one:
//!
//! ```text
//!  order ─► preflight: every blocker ─► one commit: money held, order recorded
//!                                            │
//!        vault ◄── credentials, by name ◄── create ──► one commit: money taken, ready
//!                                            └─ refused ─► destroy ─► one commit: money free
//! ```
//!
//! The order is recorded before anything is made, so a process that dies half-way leaves a row that
//! says what to finish or to undo, and never a resource that nobody knows of. Creating, altering
//! and destroying are idempotent by the resource's name, and a charge has one key, so that
//! finishing twice makes and costs nothing twice.
//!
//! Credentials go into the host's [`Vault`]. What comes back are their names, never their values.

mod blocker;
mod catalogue;
#[cfg(feature = "sqlite")]
mod estate;
mod name;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "stripe-projects")]
mod stripe_projects;
mod vault;

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

pub use blocker::{Blocker, BlockerCode};
pub use catalogue::{Offer, Plan, Spec};
#[cfg(feature = "sqlite")]
pub use estate::{Condition, Estate, Order, Provisioned, Resource};
pub use name::{CredentialName, ResourceName};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresDatabases, PostgresSettings};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteDatabases;
#[cfg(feature = "stripe-projects")]
pub use stripe_projects::{StripeProjects, StripeProjectsSettings};
pub use vault::{MemoryVault, Vault};

/// What a provisioner finds when it looks at a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// Whether it can be used.
    pub is_awake: bool,
    /// How much it stores, in bytes, where the provisioner can tell.
    pub storage_bytes: Option<u64>,
    /// How many sessions are open, where the provisioner can tell.
    pub n_sessions: Option<u64>,
}

impl Inspected {
    /// Describes a resource of which nothing more is known.
    #[must_use]
    pub const fn new(is_awake: bool) -> Self {
        Self {
            is_awake,
            storage_bytes: None,
            n_sessions: None,
        }
    }
}

/// Makes, changes and removes resources.
///
/// This is the contract for _implementors_. Every call may come twice, also after a crash in the
/// middle of the first: it then finishes what was begun. The caller sees to it that calls about one
/// resource come one after another. An implementation must pass
/// [`provisioner_conformance!`](crate::provisioner_conformance).
#[async_trait]
pub trait Provisioner: fmt::Debug + Send + Sync + 'static {
    /// Returns its name, under which its charges and credentials are kept.
    fn name(&self) -> &str;

    /// Lists what can be ordered, with plans and prices.
    ///
    /// # Errors
    /// `Unavailable` if the other side cannot be asked.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn catalogue(&self) -> Result<Vec<Offer>>;

    /// Returns everything that stands in the way of creating `spec`, at once; nothing if it can be
    /// created. A resource of this name that this provisioner made itself is no blocker.
    ///
    /// # Errors
    /// Only if it cannot be found out; a server that cannot be reached is a blocker.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>>;

    /// Creates a resource, or finishes one that was begun, puts its credentials into the vault and
    /// returns their names. When it returns the resource is awake and can be used.
    ///
    /// # Errors
    /// `Denied` ([`crate::Error::Blocked`]) for what [`Self::preflight`] reports. [`agent_core::Retry::Never`] means that
    /// trying again is useless; part of the resource may exist until [`Self::destroy`].
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again, or [`Self::destroy`].
    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>>;

    /// Brings a resource to the plan of `spec`, awake or scaled to zero.
    ///
    /// # Errors
    /// `NotFound` without the resource, `Conflict` ([`crate::Error::ResourceInUse`]) if somebody
    /// uses what should sleep, `Unsupported` if the offer cannot sleep.
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again.
    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()>;

    /// Removes a resource, whatever is left of it, and its credentials. Without it, nothing happens.
    ///
    /// # Errors
    /// Those of the other side.
    ///
    /// # Cancel safety
    /// Not cancel safe: call it again.
    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()>;

    /// Looks at a resource; nothing if there is none.
    ///
    /// # Errors
    /// Those of the other side.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>>;

    /// Lists the resources this provisioner made, whatever became of them: what an order does not
    /// name is an orphan.
    ///
    /// # Errors
    /// Those of the other side.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn list(&self) -> Result<Vec<ResourceName>>;
}
