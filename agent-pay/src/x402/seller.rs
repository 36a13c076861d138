//! The side that sells: resources that cost something, over HTTP.
//!
//! ```text
//!  request ─► no payment ──────────────────────────────► 402 and what it costs
//!          └► payment ─► check ─► reserve its nonce ─┬─► settle ─► work ─► answer, kept
//!                                 (one row, before   └─► work ─► settle ─► answer, kept
//!                                  anything is done)
//! ```
//!
//! The nonce is reserved under the key of what the signature covers, so one payment does its work
//! once, however often and in however many texts it is sent; who sends it again gets the answer that
//! was kept. What is not known is 503, what is in progress 409, both with `Retry-After`; 402 says that
//! the payment was not carried out and is the only thing a client may answer with another.

pub(super) mod answer;
mod bought;
mod identifier;
mod layer;
mod purge;
mod serve;
mod settle;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Clock;
use agent_core::store::Db;
use async_trait::async_trait;
use tokio_util::task::TaskTracker;

pub use identifier::Identifier;
pub use layer::{Paid, PaidLayer};
pub use purge::Purged;

use super::authorization::CanonicalKey;
use super::chain::Chain;
use super::facilitator::Facilitator;
use super::key::Signer;
use super::requirements::{Requirements, ResourceInfo};
use crate::error::{Error, Result};

/// Whether the money moves before the work or after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettlePolicy {
    /// Settle, then work: no work is done unpaid. A payer whose work fails has paid; sending the
    /// payment again does the work again without another settlement.
    #[default]
    SettleFirst,
    /// Verify, work, settle, and only then hand the answer out: nobody pays for an error. Work whose
    /// payment fails is undone by [`Undo`]; work that a process dies after is settled by
    /// [`Seller::reconcile`].
    WorkFirst,
}

/// Takes back what work did whose payment failed.
#[async_trait]
pub trait Undo: fmt::Debug + Send + Sync + 'static {
    /// Takes it back. Called once for a payment that failed for good after its work; again after a
    /// crash in the middle. The work found the same key in the extensions of its request.
    ///
    /// # Errors
    /// Whatever keeps it from being taken back; it is then tried again with the payment or by
    /// [`Seller::reconcile`].
    ///
    /// # Cancel safety
    /// As the implementation says.
    async fn undo(&self, payment: CanonicalKey) -> Result<()>;
}

/// What a route sells, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sale {
    accepts: Vec<Requirements>,
    policy: SettlePolicy,
    description: Option<String>,
    mime_type: Option<String>,
    identifier: Identifier,
    offers_by: Option<Arc<dyn Signer>>,
}

impl Sale {
    /// Sells for any of some requirements, settles first, and takes payment identifiers that come.
    #[must_use]
    pub const fn new(accepts: Vec<Requirements>) -> Self {
        Self {
            accepts,
            policy: SettlePolicy::SettleFirst,
            description: None,
            mime_type: None,
            identifier: Identifier::Optional,
            offers_by: None,
        }
    }

    /// Sets when the money moves. Default: before the work.
    #[must_use]
    pub const fn with_policy(mut self, policy: SettlePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what is said of the resource. Default: nothing.
    #[must_use]
    pub fn with_description(mut self, description: &str, mime_type: &str) -> Self {
        self.description = Some(description.to_owned());
        self.mime_type = Some(mime_type.to_owned());
        self
    }

    /// Sets whether payments must name themselves. Default: they may.
    #[must_use]
    pub const fn with_identifier(mut self, identifier: Identifier) -> Self {
        self.identifier = identifier;
        self
    }

    /// Sets the key that signs offers, the one that is paid (extension `offer-receipt`). An offer
    /// holds for ten minutes. Default: offers are not signed.
    #[must_use]
    pub fn with_offers_signed_by(mut self, key: Arc<dyn Signer>) -> Self {
        self.offers_by = Some(key);
        self
    }

    fn resource(&self, url: &str) -> ResourceInfo {
        let mut resource = ResourceInfo::new(url);
        resource.description.clone_from(&self.description);
        resource.mime_type.clone_from(&self.mime_type);
        resource
    }
}

/// How a seller works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SellerConfig {
    base: String,
    settle_max: Duration,
    work_max: Duration,
    body_bytes_max: usize,
    chain: Option<Arc<dyn Chain>>,
    undo: Option<Arc<dyn Undo>>,
}

impl SellerConfig {
    /// Sells under a base such as `https://api.example`, which is what clients are told, whatever
    /// host their request names. A settlement may take 45 s and the work 60 s, bodies of requests
    /// have 1 MiB at most, no chain is asked and no work is taken back.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            settle_max: Duration::from_secs(45),
            work_max: Duration::from_secs(60),
            body_bytes_max: 1 << 20,
            chain: None,
            undo: None,
        }
    }

    /// Sets how long a settlement may take, longer than the transport of the facilitator waits.
    /// Default: 45 s.
    #[must_use]
    pub const fn with_settle_max(mut self, time: Duration) -> Self {
        self.settle_max = time;
        self
    }

    /// Sets how long the work may take, after which it is stopped. Default: 60 s.
    #[must_use]
    pub const fn with_work_max(mut self, time: Duration) -> Self {
        self.work_max = time;
        self
    }

    /// Sets the longest body of a request in bytes. Default: 1 MiB.
    #[must_use]
    pub const fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Sets the chain that is asked what became of payments a facilitator does not know about.
    /// Default: none; they stay unknown until the facilitator says.
    #[must_use]
    pub fn with_chain(mut self, chain: Arc<dyn Chain>) -> Self {
        self.chain = Some(chain);
        self
    }

    /// Sets who takes work back whose payment failed, of every sale that works first: it is the
    /// seller's, so that work of a process that died is taken back too. Default: nobody; its answer is
    /// withheld.
    #[must_use]
    pub fn with_undo(mut self, undo: Arc<dyn Undo>) -> Self {
        self.undo = Some(undo);
        self
    }
}

/// Sells resources. Cheap to clone.
#[derive(Clone)]
pub struct Seller {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    facilitator: Arc<dyn Facilitator>,
    config: SellerConfig,
    tracker: TaskTracker,
}

impl fmt::Debug for Seller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seller")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Seller {
    /// Opens a seller in a store, creating or migrating its tables.
    ///
    /// # Errors
    /// `Unsupported` if the store was written by a later version, else those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        facilitator: Arc<dyn Facilitator>,
        config: SellerConfig,
    ) -> Result<Self> {
        super::store::migrate(&db).await?;
        let tracker = TaskTracker::new();
        let inner = Inner {
            db,
            clock,
            facilitator,
            config,
            tracker,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns the layer that sells what a route answers.
    ///
    /// # Errors
    /// `Invalid` for a sale nobody can pay for.
    pub fn layer(&self, sale: Sale) -> Result<PaidLayer> {
        if sale.accepts.is_empty() {
            return Err(Error::invalid("sale", "it accepts no payment"));
        }
        Ok(PaidLayer::new(self.clone(), Arc::new(sale)))
    }

    /// Waits for requests that are being served, so that none is left half done.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}
