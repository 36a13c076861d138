//! What a host says: what things cost, how they are delivered, and how a payment is taken.

use std::fmt;
use std::time::Duration;

use agent_core::{Amount, BoxError, IdempotencyKey};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::wire::{Address, Buyer, Credential, FulfillmentDetails, Selected};
use crate::rail::Outcome;

/// What somebody wants to buy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cart {
    /// The ids of items and how many of each, in the order they were first named.
    pub items: Vec<(String, u32)>,
    /// The currency in lower case (ISO 4217).
    pub currency: String,
    /// Who buys, if said.
    pub buyer: Option<Buyer>,
    /// To whom it goes, if said.
    pub details: Option<FulfillmentDetails>,
    /// How it is to be delivered, if said.
    pub selected: Vec<Selected>,
    /// Codes for discounts.
    pub coupons: Vec<String>,
}

/// What a line of a cart costs. Amounts are in the smallest units of the currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuotedLine {
    /// The item.
    pub item: String,
    /// What it is called.
    pub title: String,
    /// How many there are.
    pub quantity: u32,
    /// What one costs.
    pub unit_amount: i64,
    /// What is taken off the line, as a number not below zero.
    pub discount: i64,
}

impl QuotedLine {
    /// Describes a line without a discount.
    #[must_use]
    pub fn new(
        item: impl Into<String>,
        title: impl Into<String>,
        quantity: u32,
        unit_amount: i64,
    ) -> Self {
        Self {
            item: item.into(),
            title: title.into(),
            quantity,
            unit_amount,
            discount: 0,
        }
    }

    /// Takes something off the line. Default: nothing.
    #[must_use]
    pub const fn with_discount(mut self, discount: i64) -> Self {
        self.discount = discount;
        self
    }
}

/// How something is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FulfillmentKind {
    /// It is sent.
    Shipping,
    /// It is transmitted.
    Digital,
}

impl FulfillmentKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shipping => "shipping",
            Self::Digital => "digital",
        }
    }
}

/// A way to deliver the cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FulfillmentOption {
    /// Its id.
    pub id: String,
    /// What kind it is.
    pub kind: FulfillmentKind,
    /// What it is called.
    pub title: String,
    /// What it costs.
    pub amount: i64,
}

impl FulfillmentOption {
    /// Describes a way to deliver.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        kind: FulfillmentKind,
        title: impl Into<String>,
        amount: i64,
    ) -> Self {
        Self {
            id: id.into(),
            kind,
            title: title.into(),
            amount,
        }
    }
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NoteLevel {
    /// Good to know.
    Info,
    /// The cart cannot be paid until it is settled.
    Error,
}

/// Something to tell the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Note {
    /// How much it matters.
    pub level: NoteLevel,
    /// One of the codes of the protocol for errors: `missing`, `invalid`, `out_of_stock`…
    pub code: String,
    /// What it is about (RFC 9535), for example `$.line_items[0]`.
    pub param: Option<String>,
    /// Plain words.
    pub content: String,
}

impl Note {
    /// Says what keeps the cart from being paid.
    #[must_use]
    pub fn error(
        code: impl Into<String>,
        param: impl Into<String>,
        content: impl Into<String>,
    ) -> Self {
        Self {
            level: NoteLevel::Error,
            code: code.into(),
            param: Some(param.into()),
            content: content.into(),
        }
    }

    /// Says something else.
    #[must_use]
    pub fn info(content: impl Into<String>) -> Self {
        Self {
            level: NoteLevel::Info,
            code: String::new(),
            param: None,
            content: content.into(),
        }
    }
}

/// What a cart costs. The totals are summed from it, so that they always agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quote {
    /// The lines.
    pub lines: Vec<QuotedLine>,
    /// The ways to deliver it; empty for a cart that needs no delivery.
    pub options: Vec<FulfillmentOption>,
    /// The tax on the cart as it is to be delivered.
    pub tax: i64,
    /// What to tell the agent.
    pub notes: Vec<Note>,
}

impl Quote {
    /// Starts an empty quote.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn with_line(mut self, line: QuotedLine) -> Self {
        self.lines.push(line);
        self
    }

    /// Adds a way to deliver it. Default: none is needed.
    #[must_use]
    pub fn with_option(mut self, option: FulfillmentOption) -> Self {
        self.options.push(option);
        self
    }

    /// Sets the tax. Default: none.
    #[must_use]
    pub const fn with_tax(mut self, tax: i64) -> Self {
        self.tax = tax;
        self
    }

    /// Adds something to tell the agent. Default: nothing.
    #[must_use]
    pub fn with_note(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }
}

/// A payment to take. Under one id it is taken once at most.
#[derive(Clone)]
#[non_exhaustive]
pub struct Charge {
    /// Names the payment for ever.
    pub id: IdempotencyKey,
    /// The session it is for.
    pub session: String,
    /// How much, in an asset with the decimals of the currency (`USD/2`).
    pub amount: Amount,
    /// What it is taken from. For a vault token it is what the vault gave, not what the agent sent.
    pub credential: Credential,
    /// Where the bill goes, if said.
    pub billing_address: Option<Address>,
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("id", &self.id)
            .field("session", &self.session)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// The merchant cannot say.
#[derive(Debug, thiserror::Error)]
#[error("the merchant cannot say")]
#[non_exhaustive]
pub struct MerchantError {
    /// When to ask again.
    pub retry_after: Duration,
    /// Why.
    pub source: BoxError,
}

impl MerchantError {
    /// Says that it cannot be said.
    pub fn new(retry_after: Duration, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self {
            retry_after,
            source,
        }
    }
}

/// The merchant behind a seller.
///
/// This is the contract for _implementors_. Prices, tax and delivery come from here alone; what an
/// agent says things cost is not read.
#[async_trait]
pub trait Merchant: fmt::Debug + Send + Sync + 'static {
    /// Prices a cart. An item that is not sold, or not in that number, is a note of level error.
    ///
    /// # Errors
    /// [`MerchantError`]; the agent is asked to come again.
    async fn quote(&self, cart: &Cart) -> Result<Quote, MerchantError>;

    /// Takes a payment, once under its id. What settles must be the amount that was asked for.
    async fn charge(&self, charge: Charge) -> Outcome;

    /// Says how a payment stands, as a rail does: an id that never arrived is closed and `Failed`,
    /// or `Unknown` as long as it can arrive.
    async fn look_up(&self, id: IdempotencyKey) -> Outcome;
}
