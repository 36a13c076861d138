//! Payments at Stripe: created, confirmed, captured up to what was authorized, or canceled.

use std::collections::BTreeMap;

use agent_core::IdempotencyKey;
use serde::Deserialize;

use super::client::Stripe;
use super::error::CallError;
use super::form::Form;
use super::id::{AccountId, IntentId, Source};
use super::money::Money;
use crate::error::Error;

/// When an authorized payment is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capture {
    /// At once.
    #[default]
    Automatic,
    /// When [`Stripe::capture`] is called, within the days the network allows.
    Manual,
}

/// A payment to create.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewIntent {
    pub(super) money: Money,
    pub(super) source: Source,
    pub(super) capture: Capture,
    pub(super) destination: Option<AccountId>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl NewIntent {
    /// Takes money from a source, for this account, at once when it is confirmed.
    #[must_use]
    pub const fn new(money: Money, source: Source) -> Self {
        Self {
            money,
            source,
            capture: Capture::Automatic,
            destination: None,
            metadata: BTreeMap::new(),
        }
    }

    /// Sets when it is taken. Default: at once.
    #[must_use]
    pub const fn with_capture(mut self, capture: Capture) -> Self {
        self.capture = capture;
        self
    }

    /// Passes it on to a connected account. Default: it stays with this one.
    #[must_use]
    pub fn with_destination(mut self, account: AccountId) -> Self {
        self.destination = Some(account);
        self
    }

    /// Adds a note Stripe keeps: a name of at most 40 bytes, a text of at most 500. Default: none.
    #[must_use]
    pub fn with_metadata(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), text.into());
        self
    }

    fn form(&self) -> Form {
        let form = Form::new()
            .with("amount", self.money.minor().to_string())
            .with("currency", self.money.currency());
        let form = match self.capture {
            Capture::Automatic => form.with("capture_method", "automatic"),
            Capture::Manual => form.with("capture_method", "manual"),
        };
        let form = match &self.source {
            Source::Stored { method, customer } => form
                .with("payment_method", method.as_str())
                .with_some("customer", customer.as_ref().map(|c| c.as_str())),
            Source::Shared(token) => form.with(
                "payment_method_data[shared_payment_granted_token]",
                token.expose(),
            ),
        };
        let to = self.destination.as_ref().map(AccountId::as_str);
        form.with_some("transfer_data[destination]", to)
            .with_map("metadata", &self.metadata)
    }
}

/// How a payment stands at Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IntentStatus {
    /// It has no method, or the last one was declined.
    RequiresPaymentMethod,
    /// Nothing was tried yet.
    RequiresConfirmation,
    /// A person has to do something.
    RequiresAction,
    /// The network has not answered.
    Processing,
    /// Authorized, not taken.
    RequiresCapture,
    /// Given up. Final.
    Canceled,
    /// Taken. Final.
    Succeeded,
    /// One this version does not know.
    #[serde(other)]
    Other,
}

/// A thing Stripe names, or sends whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Named {
    Name(String),
    Whole { id: String },
}

impl Named {
    fn into_name(self) -> String {
        let (Self::Name(id) | Self::Whole { id }) = self;
        id
    }
}

fn named<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::<Named>::deserialize(from).map(|named| named.map(Named::into_name))
}

/// A payment at Stripe, as Stripe says it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PaymentIntent {
    /// Its name.
    pub id: String,
    /// How it stands.
    pub status: IntentStatus,
    /// How much, in the currency's units.
    pub amount: i64,
    /// How much was taken; absent with peers that do not say.
    #[serde(default)]
    pub amount_received: Option<i64>,
    /// How much can be captured; absent with peers that do not say.
    #[serde(default)]
    pub amount_capturable: Option<i64>,
    /// The currency in lower case.
    pub currency: String,
    /// The charge, if there was one.
    #[serde(default, deserialize_with = "named")]
    pub latest_charge: Option<String>,
    /// Notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl PaymentIntent {
    /// Returns the name, checked.
    ///
    /// # Errors
    /// `Unknown` if it is not one.
    pub fn name(&self) -> Result<IntentId, CallError> {
        IntentId::new(self.id.clone())
            .map_err(|_wrong| CallError::unknown("a payment without a proper name"))
    }

    /// Returns how much was taken of a payment that succeeded.
    #[must_use]
    pub fn received(&self) -> i64 {
        self.amount_received.unwrap_or(self.amount)
    }
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
}

impl Stripe {
    /// Creates a payment that is not confirmed: no money can move.
    ///
    /// # Errors
    /// [`CallError`]. The same key gives the same payment again.
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn create(
        &self,
        key: &IdempotencyKey,
        new: &NewIntent,
    ) -> Result<PaymentIntent, CallError> {
        let (path, form) = ("/v1/payment_intents", new.form());
        match new.source {
            Source::Stored { .. } => self.post(path, Some(key), &form).await,
            Source::Shared(_) => self.post_shared(path, Some(key), &form).await,
        }
    }

    /// Confirms a payment: from here on money can move.
    ///
    /// # Errors
    /// [`CallError`]; `Refused` with a decline code if the bank says no.
    ///
    /// # Cancel safety
    /// Not cancel safe; look it up.
    pub async fn confirm(
        &self,
        key: &IdempotencyKey,
        id: &IntentId,
        is_off_session: bool,
    ) -> Result<PaymentIntent, CallError> {
        let off = is_off_session.then_some("true");
        let form = Form::new().with_some("off_session", off);
        let path = format!("/v1/payment_intents/{}/confirm", id.as_str());
        self.post(&path, Some(key), &form).await
    }

    /// Takes a part of what is authorized, or all of it; the rest is released.
    ///
    /// # Errors
    /// `Invalid` for more than was authorized, before anything is sent; [`CallError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn capture(
        &self,
        key: &IdempotencyKey,
        authorized: &PaymentIntent,
        money: &Money,
    ) -> Result<PaymentIntent, CallError> {
        let max = authorized.amount_capturable.unwrap_or(authorized.amount);
        let max = max.min(authorized.amount);
        if money.minor() > max || money.currency() != authorized.currency {
            let why = "more than was authorized, or another currency";
            return Err(Error::invalid("capture", why).into());
        }
        let form = Form::new().with("amount_to_capture", money.minor().to_string());
        let id = authorized.name()?;
        let path = format!("/v1/payment_intents/{}/capture", id.as_str());
        self.post(&path, Some(key), &form).await
    }

    /// Gives a payment up, and with it what is authorized.
    ///
    /// # Errors
    /// [`CallError`]; `Refused` if it was taken or is being processed.
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it.
    pub async fn cancel(
        &self,
        key: &IdempotencyKey,
        id: &IntentId,
    ) -> Result<PaymentIntent, CallError> {
        let path = format!("/v1/payment_intents/{}/cancel", id.as_str());
        self.post(&path, Some(key), &Form::new()).await
    }

    /// Returns a payment.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn intent(&self, id: &IntentId) -> Result<PaymentIntent, CallError> {
        let path = format!("/v1/payment_intents/{}", id.as_str());
        self.get(&path, &Form::new()).await
    }

    /// Finds payments by a note. Stripe's index is some seconds behind, at most a minute as a rule.
    ///
    /// # Errors
    /// `Invalid` for a name or text with quotes; [`CallError`]; `Refused` where an account has no
    /// search.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn search(&self, name: &str, text: &str) -> Result<Vec<PaymentIntent>, CallError> {
        if [name, text]
            .iter()
            .any(|t| t.contains(['\'', '"', '\\', '\n']))
        {
            return Err(Error::invalid("search", "no quotes and no backslashes").into());
        }
        let query = Form::new()
            .with("query", format!("metadata['{name}']:'{text}'"))
            .with("limit", "10");
        let page: Page<PaymentIntent> = self.get("/v1/payment_intents/search", &query).await?;
        Ok(page.data)
    }
}
