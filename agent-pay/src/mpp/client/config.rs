//! Who a buyer is, and what they take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Principal;

use crate::error::{Error, Result};
use crate::mpp::challenge::Challenge;
use crate::mpp::credential::Credential;
use crate::mpp::statement::Order;
use crate::signed::SignKey;

/// A buyer: the name sellers know, and the key that signs orders.
#[derive(Clone, Debug)]
pub struct Wallet {
    pub(super) buyer: Principal,
    pub(super) key: Arc<dyn SignKey>,
}

impl Wallet {
    /// Takes a key, whose name must be the buyer's.
    ///
    /// # Errors
    /// `Invalid` for a key of another name.
    pub fn new(buyer: Principal, key: Arc<dyn SignKey>) -> Result<Self> {
        if key.key_id() != buyer.as_str() {
            return Err(Error::invalid("wallet", "the key has another name"));
        }
        Ok(Self { buyer, key })
    }

    pub(super) fn answer(&self, challenge: &Challenge, order: &Order) -> Result<Credential> {
        let source = Some(self.buyer.as_str().to_owned());
        let payload = order.payload(&*self.key)?;
        Ok(Credential::new(challenge.clone(), source, payload))
    }
}

/// What a buyer takes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RailConfig {
    pub(super) endpoints: BTreeMap<String, String>,
    pub(super) window_max: Duration,
}

impl Default for RailConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl RailConfig {
    /// No endpoints; offers that hold an hour at most.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            endpoints: BTreeMap::new(),
            window_max: Duration::from_secs(3_600),
        }
    }

    /// Names the URL where a payee is paid when a payment names no resource. Default: none.
    #[must_use]
    pub fn with_endpoint(mut self, payee: impl Into<String>, url: impl Into<String>) -> Self {
        self.endpoints.insert(payee.into(), url.into());
        self
    }

    /// Sets how long an offer may hold: longer ones are not taken. Default: an hour.
    #[must_use]
    pub const fn with_window_max(mut self, window_max: Duration) -> Self {
        self.window_max = window_max;
        self
    }
}
