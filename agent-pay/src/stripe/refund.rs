//! Money that goes back.

use std::collections::BTreeMap;

use agent_core::IdempotencyKey;
use serde::Deserialize;

use super::client::Stripe;
use super::error::CallError;
use super::form::Form;
use super::id::IntentId;
use super::intent::Page;
use super::money::Money;

/// A refund at Stripe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Refund {
    /// Its name.
    pub id: String,
    /// How much, in the currency's units.
    pub amount: i64,
    /// The currency in lower case.
    pub currency: String,
    /// `succeeded`, `pending`, `requires_action`, `failed` or `canceled`.
    #[serde(default)]
    pub status: String,
    /// The payment it is of.
    #[serde(default)]
    pub payment_intent: Option<String>,
    /// Notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// The most pages of refunds of one payment that are read.
const PAGES_MAX: usize = 10;

impl Stripe {
    /// Gives back part of a payment.
    ///
    /// # Errors
    /// [`CallError`]; `Refused` for more than is left.
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn refund(
        &self,
        key: &IdempotencyKey,
        of: &IntentId,
        money: &Money,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Refund, CallError> {
        let form = Form::new()
            .with("payment_intent", of.as_str())
            .with("amount", money.minor().to_string())
            .with_map("metadata", metadata);
        self.post("/v1/refunds", Some(key), &form).await
    }

    /// Lists the refunds of a payment, the newest first; at most 1,000.
    ///
    /// # Errors
    /// [`CallError`]; `Unknown` if there are more.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refunds(&self, of: &IntentId) -> Result<Vec<Refund>, CallError> {
        let mut all: Vec<Refund> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = all.last().map(|last| last.id.clone());
            let query = Form::new()
                .with("payment_intent", of.as_str())
                .with("limit", "100")
                .with_some("starting_after", after);
            let page: Page<Refund> = self.get("/v1/refunds", &query).await?;
            let is_last = !page.has_more || page.data.is_empty();
            all.extend(page.data);
            if is_last {
                return Ok(all);
            }
        }
        Err(CallError::unknown("more refunds than are read"))
    }
}
