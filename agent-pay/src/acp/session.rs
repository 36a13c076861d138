//! A checkout session: how it stands and what may happen to it.

use agent_core::{Amount, Asset, IdempotencyKey, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Problem;
use super::merchant::{Cart, FulfillmentOption, NoteLevel, Quote};
use crate::currency::iso_scale;
use crate::error::{Error, Result};

/// How a session stands. The names are those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionStatus {
    /// Something is missing; its messages say what.
    NotReadyForPayment,
    /// It can be completed.
    ReadyForPayment,
    /// A payment went out whose outcome is not known.
    CompleteInProgress,
    /// It is paid and has an order. Final.
    Completed,
    /// It was given up. Final.
    Canceled,
    /// It was left for too long. Final.
    Expired,
    /// One this version does not use.
    #[serde(other)]
    Other,
}

impl SessionStatus {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NotReadyForPayment => "not_ready_for_payment",
            Self::ReadyForPayment => "ready_for_payment",
            Self::CompleteInProgress => "complete_in_progress",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Other => "in_progress",
        }
    }

    /// Whether it can change by what an agent says.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::NotReadyForPayment | Self::ReadyForPayment)
    }
}

/// A payment that went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Paying {
    pub(super) id: IdempotencyKey,
    /// The Idempotency-Key of the request it went out for, which is answered with its outcome
    /// whenever it comes again.
    pub(super) key: IdempotencyKey,
    pub(super) total: i64,
    /// The digest of the vault token it uses up, if it is one.
    pub(super) token: Option<String>,
}

/// A session as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    /// The version of this form.
    pub(super) v: u32,
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) status: SessionStatus,
    pub(super) cart: Cart,
    pub(super) quote: Quote,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) expires: Timestamp,
    /// How many payments went out so far.
    pub(super) n_payments: u32,
    pub(super) paying: Option<Paying>,
    pub(super) order: Option<Value>,
    /// What the agent said that is given back as it was.
    pub(super) echoed: serde_json::Map<String, Value>,
    /// Whether what was in it is forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_forgotten: bool,
}

/// The sums of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) base: i64,
    pub(super) discount: i64,
    pub(super) subtotal: i64,
    pub(super) fulfillment: i64,
    pub(super) tax: i64,
    pub(super) total: i64,
}

impl Session {
    pub(super) const VERSION: u32 = 1;

    /// Takes a quote and sees what follows from it.
    pub(super) fn requote(&mut self, quote: Quote, now: Timestamp) -> Result<()> {
        self.quote = quote;
        self.updated = now;
        // A quote that does not add up is the host's mistake, and must not be paid.
        self.totals()?;
        self.status = if self.missing().is_none() && !self.has_errors() {
            SessionStatus::ReadyForPayment
        } else {
            SessionStatus::NotReadyForPayment
        };
        Ok(())
    }

    fn has_errors(&self) -> bool {
        let notes = &self.quote.notes;
        self.quote.lines.is_empty() || notes.iter().any(|note| note.level == NoteLevel::Error)
    }

    /// Returns what the agent must still say, and where.
    pub(super) fn missing(&self) -> Option<(&'static str, &'static str)> {
        let is_shipped = self.selected().is_some_and(|o| o.kind.name() == "shipping");
        let address = self.cart.details.as_ref().and_then(|d| d.address.as_ref());
        if !self.quote.options.is_empty() && self.selected().is_none() {
            return Some((
                "$.selected_fulfillment_options",
                "choose one of the fulfillment options",
            ));
        }
        if is_shipped && address.is_none() {
            return Some(("$.fulfillment_details.address", "say where to send it"));
        }
        None
    }

    /// Returns how it is delivered, of what the merchant offers.
    pub(super) fn selected(&self) -> Option<&FulfillmentOption> {
        let chosen = self.cart.selected.first()?;
        let mut options = self.quote.options.iter();
        options.find(|o| o.id == chosen.option_id && o.kind.name() == chosen.kind)
    }

    /// Sums it up.
    pub(super) fn totals(&self) -> Result<Totals> {
        let wrong = || Error::invalid("quote", "sums that do not fit or fall below zero");
        let (mut base, mut discount) = (0_i64, 0_i64);
        for line in &self.quote.lines {
            let sum = line.unit_amount.checked_mul(i64::from(line.quantity));
            let sum = sum.ok_or_else(wrong)?;
            if line.unit_amount < 0 || !(0..=sum).contains(&line.discount) {
                return Err(wrong());
            }
            base = base.checked_add(sum).ok_or_else(wrong)?;
            discount = discount.checked_add(line.discount).ok_or_else(wrong)?;
        }
        let fulfillment = self.selected().map_or(0, |option| option.amount);
        let tax = self.quote.tax;
        if fulfillment < 0 || tax < 0 {
            return Err(wrong());
        }
        let subtotal = base.checked_sub(discount).ok_or_else(wrong)?;
        let total = subtotal
            .checked_add(fulfillment)
            .and_then(|s| s.checked_add(tax));
        Ok(Totals {
            base,
            discount,
            subtotal,
            fulfillment,
            tax,
            total: total.ok_or_else(wrong)?,
        })
    }

    /// Returns a number of smallest units as an amount.
    pub(super) fn amount(&self, minor: i64) -> Result<Amount> {
        let code = &self.cart.currency;
        let scale = iso_scale(code);
        let scale = scale.ok_or_else(|| Error::invalid("currency", "none of ISO 4217"))?;
        let asset = Asset::new(&code.to_ascii_uppercase(), scale)?;
        Ok(Amount::from_units(i128::from(minor), asset))
    }

    /// Lets time pass: what was left open for too long is over.
    pub(super) fn at(mut self, now: Timestamp) -> Self {
        if self.status.is_open() && now >= self.expires {
            self.status = SessionStatus::Expired;
        }
        self
    }

    /// Forgets what was in a session that is over: left is whose it was and how it ended.
    pub(super) fn forgotten(self) -> Self {
        let status = if self.status.is_open() {
            SessionStatus::Expired
        } else {
            self.status
        };
        let cart = Cart {
            items: Vec::new(),
            currency: self.cart.currency,
            buyer: None,
            details: None,
            selected: Vec::new(),
            coupons: Vec::new(),
        };
        Self {
            status,
            cart,
            quote: Quote::new(),
            paying: None,
            order: None,
            echoed: serde_json::Map::new(),
            is_forgotten: true,
            ..self
        }
    }

    /// When it is over for good, unless it became an order or may become one.
    pub(super) const fn ends(&self) -> Option<Timestamp> {
        match self.status {
            SessionStatus::Completed | SessionStatus::CompleteInProgress => None,
            _ => Some(self.expires),
        }
    }

    /// Refuses what comes too late.
    pub(super) fn must_be_open(&self) -> Result<(), Problem> {
        if self.status.is_open() {
            return Ok(());
        }
        let code = format!("session_{}", self.status.name());
        Err(Problem::invalid(code, "the session can be changed no more").with_status(405))
    }

    /// Writes down which payment is about to go out.
    pub(super) fn begin_payment(
        &mut self,
        key: &IdempotencyKey,
        token: Option<String>,
    ) -> Result<Paying> {
        self.n_payments = self.n_payments.saturating_add(1);
        let id = format!("acp.{}.{}", self.id, self.n_payments);
        let paying = Paying {
            id: IdempotencyKey::new(id)?,
            key: key.clone(),
            total: self.totals()?.total,
            token,
        };
        self.paying = Some(paying.clone());
        self.status = SessionStatus::CompleteInProgress;
        Ok(paying)
    }

    /// The payment failed for good; another may follow.
    pub(super) fn payment_failed(&mut self, now: Timestamp) {
        self.paying = None;
        self.status = SessionStatus::ReadyForPayment;
        self.updated = now;
    }
}
