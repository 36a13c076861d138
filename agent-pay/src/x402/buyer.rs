//! The side that buys: a request, what it costs, and the answer, under a spend authority.
//!
//! ```text
//!  request ─► 402 ─► choose ─► authorize ─► submit ─► sign and store ─► send with the payment ─┐
//!                    (what the house lists)           (one nonce, for ever)                    │
//!        Settled ◄─ the server says so                                                         │
//!        Unknown ◄─ anything else: the same payment is sent again, and the chain is asked ◄────┘
//!        Failed  ◄─ it was never sent, or the chain says it can never be carried out
//! ```
//!
//! A server that answers 402 to a payment still holds it and may have it carried out, so that is no
//! failure: nothing is signed a second time for one purchase.

mod choose;
mod fetch;
mod purchase;
mod rail;
mod send;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Db;
use agent_core::{Amount, Asset, Env};

pub use fetch::{Fetched, Purchase};

use super::bytes::Address;
use super::chain::Chain;
use super::eip712::Domain;
use super::key::Signer;
use super::refunds::Refunds;
use crate::error::{Error, Result};
use crate::transport::Transport;

/// A token a house pays with, and the most of one payment. What is not listed is not paid with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Token {
    domain: Domain,
    decimals: u8,
    payment_max: Amount,
}

impl Token {
    /// The most decimals of a token.
    pub const DECIMALS_MAX: u8 = 36;

    /// Lists a token: its domain, how many decimals it has, and in the asset it is booked as the most
    /// of one payment.
    ///
    /// # Errors
    /// `Invalid` for more than [`Self::DECIMALS_MAX`] decimals or a negative amount.
    pub fn new(domain: Domain, decimals: u8, payment_max: Amount) -> Result<Self> {
        if decimals > Self::DECIMALS_MAX {
            return Err(Error::invalid("token", "more than 36 decimals"));
        }
        if payment_max.is_negative() {
            return Err(Error::invalid("token", "a negative amount"));
        }
        Ok(Self {
            domain,
            decimals,
            payment_max,
        })
    }

    const fn asset(&self) -> Asset {
        self.payment_max.asset()
    }
}

/// A seller a house knows: what is sold under a URL, who is paid for it and the most it may cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Merchant {
    url: String,
    pay_to: Address,
    price_max: Amount,
}

impl Merchant {
    /// Knows a seller under the beginning of its URLs, which ends before a `/`, `?` or at the end.
    #[must_use]
    pub fn new(url: &str, pay_to: Address, price_max: Amount) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self {
            url,
            pay_to,
            price_max,
        }
    }
}

/// How a buyer pays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuyerConfig {
    tokens: Vec<Token>,
    merchants: Vec<Merchant>,
    shops: BTreeMap<String, String>,
    chain: Option<Arc<dyn Chain>>,
    refunds: Option<Arc<dyn Refunds>>,
    hold_for: Duration,
}

impl BuyerConfig {
    /// Pays with these tokens and no others. Holds last an hour, no seller is known, no chain is
    /// asked and nobody gives anything back.
    #[must_use]
    pub const fn new(tokens: Vec<Token>) -> Self {
        Self {
            tokens,
            merchants: Vec::new(),
            shops: BTreeMap::new(),
            chain: None,
            refunds: None,
            hold_for: Duration::from_secs(3_600),
        }
    }

    /// Adds a seller the house knows: its payee is from the catalogue and its price is vouched for.
    /// Default: none, so that somebody is asked about every payee and price that is not signed.
    #[must_use]
    pub fn with_merchant(mut self, merchant: Merchant) -> Self {
        self.merchants.push(merchant);
        self
    }

    /// Sets what is bought from a payee by a payment that names no resource, as when the rail is used
    /// by itself. Default: nothing; such payments fail.
    #[must_use]
    pub fn with_shop(mut self, payee: &str, url: &str) -> Self {
        self.shops.insert(payee.to_owned(), url.to_owned());
        self
    }

    /// Sets the chain that is asked what became of a payment. Default: none; what a server does not
    /// say stays unknown, and the host decides by an event.
    #[must_use]
    pub fn with_chain(mut self, chain: Arc<dyn Chain>) -> Self {
        self.chain = Some(chain);
        self
    }

    /// Sets who gives back. Default: nobody, since the protocol has no refunds.
    #[must_use]
    pub fn with_refunds(mut self, refunds: Arc<dyn Refunds>) -> Self {
        self.refunds = Some(refunds);
        self
    }

    /// Sets how long money is held for a purchase that waits for approval. Default: an hour.
    #[must_use]
    pub const fn with_hold_for(mut self, time: Duration) -> Self {
        self.hold_for = time;
        self
    }
}

/// Buys over HTTP, and is the rail `x402` by which it does. Cheap to clone.
#[derive(Clone)]
pub struct Buyer {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    env: Env,
    transport: Arc<dyn Transport>,
    signer: Arc<dyn Signer>,
    config: BuyerConfig,
}

impl fmt::Debug for Buyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buyer")
            .field("signer", &self.inner.signer)
            .finish_non_exhaustive()
    }
}

impl Buyer {
    /// Opens a buyer in a store, creating or migrating its tables.
    ///
    /// # Errors
    /// `Unsupported` if the store was written by a later version, else those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        db: Db,
        env: Env,
        transport: Arc<dyn Transport>,
        signer: Arc<dyn Signer>,
        config: BuyerConfig,
    ) -> Result<Self> {
        super::store::migrate(&db).await?;
        let inner = Inner {
            db,
            env,
            transport,
            signer,
            config,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}
