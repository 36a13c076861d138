//! Charges of the older interface, which some accounts and stand-ins for Stripe have instead of
//! payment intents. One call moves money, so a rail is not built on it: after a lost answer only the
//! same key tells what happened.

use std::fmt;

use agent_core::IdempotencyKey;
use serde::Deserialize;

use super::client::Stripe;
use super::error::CallError;
use super::form::Form;
use super::id::ChargeId;
use super::money::Money;
use super::refund::Refund;
use crate::error::{Error, Result};

/// A token of the older interface, good for one charge.
#[derive(Clone, PartialEq, Eq)]
pub struct ChargeToken(String);

impl ChargeToken {
    /// Takes a token.
    ///
    /// # Errors
    /// `Invalid` for a text that is not one; the error does not repeat it.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let rest = text.strip_prefix("tok_").unwrap_or_default();
        let is_plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if rest.is_empty() || !is_plain || rest.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::invalid(
                "token",
                "a name of the kind Stripe gives these",
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for ChargeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tok_…")
    }
}

/// A charge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Charge {
    /// Its name.
    pub id: String,
    /// How much, in the currency's units.
    pub amount: i64,
    /// How much went back, what was never captured included.
    #[serde(default)]
    pub amount_refunded: i64,
    /// The currency in lower case.
    pub currency: String,
    /// Whether it was taken, not only authorized.
    pub captured: bool,
    /// `succeeded`, `pending` or `failed`.
    pub status: String,
}

impl Stripe {
    /// Charges a token; with `is_captured` false it is only authorized.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn charge(
        &self,
        key: &IdempotencyKey,
        money: &Money,
        token: &ChargeToken,
        is_captured: bool,
    ) -> Result<Charge, CallError> {
        let form = Form::new()
            .with("amount", money.minor().to_string())
            .with("currency", money.currency())
            .with("source", token.0.clone())
            .with("capture", if is_captured { "true" } else { "false" });
        self.post("/v1/charges", Some(key), &form).await
    }

    /// Takes a part of an authorized charge, or all of it.
    ///
    /// # Errors
    /// `Invalid` for more than was authorized, before anything is sent; [`CallError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn capture_charge(
        &self,
        key: &IdempotencyKey,
        authorized: &Charge,
        money: &Money,
    ) -> Result<Charge, CallError> {
        if money.minor() > authorized.amount || money.currency() != authorized.currency {
            let why = "more than was authorized, or another currency";
            return Err(Error::invalid("capture", why).into());
        }
        let id = ChargeId::new(authorized.id.clone())?;
        let form = Form::new().with("amount", money.minor().to_string());
        let path = format!("/v1/charges/{}/capture", id.as_str());
        self.post(&path, Some(key), &form).await
    }

    /// Gives back part of a charge.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Not cancel safe; repeat it with the same key.
    pub async fn refund_charge(
        &self,
        key: &IdempotencyKey,
        of: &ChargeId,
        money: &Money,
    ) -> Result<Refund, CallError> {
        let form = Form::new()
            .with("charge", of.as_str())
            .with("amount", money.minor().to_string());
        self.post("/v1/refunds", Some(key), &form).await
    }
}
