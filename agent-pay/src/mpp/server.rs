//! Who sells: offers without a stored row, one run of the handler for one credential, and money that
//! moves on this crate's ledger.
//!
//! ```text
//!  credential ─► is it our offer, for this route and body, signed by the buyer?
//!      │ one transaction: the challenge is reserved, the money held
//!      ├─ answered before ──► the stored answer again
//!      ├─ running ──────────► 409, ask again
//!      └─ first ──► handler ─┬─ 2xx ──► one transaction: captured, answer stored ─► receipt
//!                            └─ else ─► one transaction: released, answer stored
//! ```

mod charge;
mod layer;
mod past;
mod purge;
mod refund;
mod sale;
mod session;
mod stored;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Digest, Env, Principal, Timestamp};
use serde_json::json;
use tokio_util::task::TaskTracker;

pub use layer::{Buyer, Paid, PaidLayer, Pricing};
pub use purge::Purged;
pub use sale::{Offer, Sale};
pub(super) use session::SCHEMA;

use super::challenge::{Challenge, OfferKey};
use super::encoding;
use super::problem::{Problem, ProblemDetails};
use super::receipt::Receipt;
use super::request::PaymentRequest;
use crate::account::AccountName;
use crate::backend::SqliteAuthority;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};
use crate::signed::VerifyKey;
use crate::transport::Answer;

/// The method: this crate's ledger.
pub const METHOD: &str = "ledger";
/// The intent of one payment for one answer.
pub const CHARGE: &str = "charge";
/// The intent of vouchers on a deposit.
pub const SESSION: &str = "session";

/// Where a buyer's money is at the seller's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purse {
    /// The node whose policies decide.
    pub node: BudgetPath,
    /// The account that pays.
    pub account: AccountName,
}

impl Purse {
    /// Names a purse.
    #[must_use]
    pub const fn new(node: BudgetPath, account: AccountName) -> Self {
        Self { node, account }
    }
}

/// Knows the purses of buyers.
///
/// This is the contract for _implementors_: nobody else's purse, and none for a stranger.
pub trait Purses: fmt::Debug + Send + Sync + 'static {
    /// Returns the purse of a buyer.
    fn purse(&self, buyer: &Principal) -> Option<Purse>;
}

impl Purses for BTreeMap<Principal, Purse> {
    fn purse(&self, buyer: &Principal) -> Option<Purse> {
        self.get(buyer).cloned()
    }
}

/// What a server needs to know.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    realm: String,
    recipient: AccountName,
    offer_key: OfferKey,
    keys: Arc<dyn VerifyKey>,
    purses: Arc<dyn Purses>,
    offered_for: Duration,
    run_max: Duration,
    session_max: Duration,
    gives_refunds: bool,
}

impl ServerConfig {
    /// The longest answer that is stored, in bytes before its encoding.
    pub const ANSWER_BYTES_MAX: usize = 512 * 1_024;

    /// Sells in `realm` for `recipient`. Offers hold 5 minutes, handlers run 60 seconds at most,
    /// sessions last an hour, and nothing is given back on a buyer's word.
    #[must_use]
    pub fn new(
        realm: impl Into<String>,
        recipient: AccountName,
        offer_key: OfferKey,
        keys: Arc<dyn VerifyKey>,
        purses: Arc<dyn Purses>,
    ) -> Self {
        Self {
            realm: realm.into(),
            recipient,
            offer_key,
            keys,
            purses,
            offered_for: Duration::from_secs(300),
            run_max: Duration::from_secs(60),
            session_max: Duration::from_secs(3_600),
            gives_refunds: false,
        }
    }

    /// Sets how long an offer holds. Default: 5 minutes.
    #[must_use]
    pub const fn with_offers_for(mut self, offered_for: Duration) -> Self {
        self.offered_for = offered_for;
        self
    }

    /// Sets how long a handler may run. Default: 60 seconds.
    #[must_use]
    pub const fn with_run_max(mut self, run_max: Duration) -> Self {
        self.run_max = run_max;
        self
    }

    /// Sets how long a session lasts. Default: an hour.
    #[must_use]
    pub const fn with_session_max(mut self, session_max: Duration) -> Self {
        self.session_max = session_max;
        self
    }

    /// Gives back what a buyer asks back, up to what was paid. Default: not.
    #[must_use]
    pub const fn with_refunds(mut self) -> Self {
        self.gives_refunds = true;
        self
    }
}

/// What a credential is worth.
#[derive(Debug)]
#[must_use = "a ticket holds a buyer's money"]
#[non_exhaustive]
pub enum Verdict {
    /// Paid for: run the handler once, then [`Server::settle`].
    Run(Ticket),
    /// Answered before; this is the answer.
    Replayed(Answer),
    /// Taken, and there is nothing to run: more deposit, a voucher, the end of a session, a refund; or a
    /// payment that was made before and whose answer is not kept any more.
    Taken(Receipt),
    /// Not paid. Nothing was done.
    Refused(Refused),
    /// Nobody can say yet: an earlier call with it runs, or a person must approve.
    #[non_exhaustive]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// Why a credential pays for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// What is wrong.
    pub problem: Problem,
    /// What is wrong, in words that tell no secret.
    pub detail: String,
    /// Whether the challenge is used up: no payment can come of it any more.
    pub is_final: bool,
}

impl Refused {
    fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self {
            problem,
            detail: detail.into(),
            is_final: false,
        }
    }

    /// Returns the body of the answer.
    #[must_use]
    pub fn details(&self) -> ProblemDetails {
        let mut details = self.problem.details(&self.detail);
        details.is_final = self.is_final;
        details
    }
}

impl Verdict {
    fn refused(problem: Problem, detail: impl Into<String>) -> Self {
        Self::Refused(Refused::new(problem, detail))
    }

    fn closed(problem: Problem, detail: impl Into<String>) -> Self {
        let mut refused = Refused::new(problem, detail);
        refused.is_final = true;
        Self::Refused(refused)
    }
}

/// The right to run a handler once. The buyer's money is held until it is settled.
#[derive(Debug)]
pub struct Ticket {
    buyer: Principal,
    challenge: String,
    paid: PaymentRequest,
    kind: Box<TicketKind>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is boxed")]
enum TicketKind {
    Charge(charge::Plan),
    Session(session::Plan),
}

impl Ticket {
    /// Returns who pays.
    #[must_use]
    pub const fn buyer(&self) -> &Principal {
        &self.buyer
    }

    /// Returns what is paid.
    #[must_use]
    pub const fn paid(&self) -> &PaymentRequest {
        &self.paid
    }
}

/// A server's side of the method `ledger`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    authority: SqliteAuthority,
    env: Env,
    config: Arc<ServerConfig>,
    tracker: TaskTracker,
}

impl Server {
    /// Opens a server on the authority whose ledger has the buyers' purses.
    ///
    /// # Errors
    /// `Invalid` for a realm no offer can name, else those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(authority: SqliteAuthority, env: Env, config: ServerConfig) -> Result<Self> {
        let is_name = |c: char| c.is_ascii_graphic() && c != '|';
        if config.realm.is_empty() || config.realm.len() > 253 || !config.realm.chars().all(is_name)
        {
            return Err(Error::invalid("realm", "1 to 253 printable ASCII bytes"));
        }
        authority.db().migrate("pay_mpp", SCHEMA).await?;
        Ok(Self {
            authority,
            env,
            config: Arc::new(config),
            tracker: TaskTracker::new(),
        })
    }

    /// Waits for requests that are being served, so that none is left half done.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Returns when a handler that starts now must have ended.
    pub(super) fn run_until(&self) -> Timestamp {
        self.env.clock.now().after(self.config.run_max)
    }

    /// Makes the challenges of a sale. Nothing is stored.
    ///
    /// # Errors
    /// `Invalid` for a negative price.
    pub fn challenges(&self, sale: &Sale) -> Result<Vec<Challenge>> {
        let expires = self.env.clock.now().after(self.config.offered_for);
        sale.offers
            .iter()
            .map(|offer| {
                let (intent, request) = offer.request(&self.config.recipient);
                // Two offers of one moment are two payments.
                let mut nonce = [0; 16];
                self.env.entropy.fill(&mut nonce);
                let nonce = encoding::encode(&nonce);
                let opaque = json!({ "for": route_of(sale, intent), "nonce": nonce });
                self.config.offer_key.bind(Challenge {
                    id: String::new(),
                    realm: self.config.realm.clone(),
                    method: METHOD.to_owned(),
                    intent: intent.to_owned(),
                    request: request.encode()?,
                    expires: Some(expires.to_string()),
                    digest: sale.content_digest(),
                    opaque: Some(encoding::encode_json(&opaque)?),
                    description: None,
                })
            })
            .collect()
    }

    /// Checks what a request is bound to: offers of other routes, bodies and servers pay for nothing.
    fn check_offer(&self, challenge: &Challenge, sale: &Sale) -> Result<(), Refused> {
        let refused = |detail: &str| Err(Refused::new(Problem::InvalidChallenge, detail));
        if !self.config.offer_key.knows(challenge) {
            return refused("the challenge is not of this server, or was altered");
        }
        if challenge.realm != self.config.realm || challenge.method != METHOD {
            return refused("the challenge is of another realm or method");
        }
        if challenge.opaque_value("for").as_deref()
            != Some(route_of(sale, &challenge.intent).as_str())
        {
            return refused("the challenge is for another resource");
        }
        Ok(())
    }

    fn check_body(challenge: &Challenge, sale: &Sale) -> Result<(), Refused> {
        if challenge.digest == sale.content_digest() {
            return Ok(());
        }
        let detail = "the challenge is for another body";
        Err(Refused::new(Problem::InvalidChallenge, detail))
    }
}

/// What a challenge is for, in few bytes. A session is of a resource, whatever the method: a voucher
/// may come by `HEAD`.
fn route_of(sale: &Sale, intent: &str) -> String {
    let route = match sale.route.split_once(' ') {
        Some((_method, target)) if intent == SESSION => target,
        _ => &sale.route,
    };
    Digest::of_bytes(route.as_bytes()).to_string()
}

/// Says in one word why a proof does not hold, without quoting it.
fn unproved(problem: Problem, error: &Error) -> Refused {
    let detail = match error {
        Error::BadSignature { .. } => "the signature does not count",
        _ => "the proof is malformed",
    };
    Refused::new(problem, detail)
}
