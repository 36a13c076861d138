//! Money that Stripe says goes back: refunds of this rail, refunds by hand, and disputes that are
//! lost.

use agent_core::store::Tx;
use agent_core::{Amount, IdempotencyKey};

use super::StripeRail;
use crate::error::Result;
use crate::stripe::METADATA_ID;
use crate::stripe::dispute::Dispute;
use crate::stripe::money::Money;
use crate::stripe::refund::Refund;
use crate::stripe::store::{self, RefundEntry, State};

/// How it stands with money that goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    UnderWay,
    Back,
    Not,
}

/// What an event says of money that goes back.
#[derive(Clone, Debug)]
pub(in crate::stripe) struct Back {
    intent: Option<String>,
    /// What Stripe calls it.
    reference: String,
    /// The refund of ours that it claims to be.
    note: Option<String>,
    amount: i64,
    currency: String,
    stand: Stand,
}

impl Back {
    pub(in crate::stripe) fn refund(told: Refund) -> Self {
        let stand = match told.status.as_str() {
            "succeeded" => Stand::Back,
            "failed" | "canceled" => Stand::Not,
            _ => Stand::UnderWay,
        };
        Self {
            intent: told.payment_intent,
            reference: told.id,
            note: told.metadata.get(METADATA_ID).cloned(),
            amount: told.amount,
            currency: told.currency,
            stand,
        }
    }

    pub(in crate::stripe) fn lost(told: Dispute) -> Self {
        Self {
            intent: told.payment_intent,
            reference: told.id,
            note: None,
            amount: told.amount,
            currency: told.currency,
            stand: Stand::Back,
        }
    }
}

/// What is written down of money that goes back.
#[derive(Clone, Debug)]
pub(in crate::stripe) enum Noted {
    /// It is of no payment of this rail.
    NotOurs,
    /// Nothing final is known.
    UnderWay,
    /// It is back.
    Back(Refunded),
    /// It does not go back under this key.
    Not(Refunded),
    /// It contradicts what was final before.
    Contradiction(Refunded),
    /// It is of another currency than the payment.
    OtherCurrency(Refunded),
}

/// A refund and its payment.
#[derive(Clone, Debug)]
pub(in crate::stripe) struct Refunded {
    pub(in crate::stripe) payment: IdempotencyKey,
    pub(in crate::stripe) refund: IdempotencyKey,
    pub(in crate::stripe) amount: Amount,
}

impl StripeRail {
    /// Notes what an event says of money that goes back. What this rail did not ask for is noted under
    /// `stripe/` and its name there, and counts against what refunds may still take.
    pub(in crate::stripe) async fn heard_back(&self, told: Back) -> Result<Noted> {
        self.write(move |tx| note(tx, &told)).await
    }

    /// Returns the payment of this rail that a name of Stripe is of.
    pub(in crate::stripe) async fn payment_of(
        &self,
        intent: Option<String>,
    ) -> Result<Option<IdempotencyKey>> {
        let Some(intent) = intent else {
            return Ok(None);
        };
        self.db.read(move |tx| store::payment_of(tx, &intent)).await
    }
}

fn note(tx: &mut Tx<'_>, told: &Back) -> Result<Noted> {
    let intent = told.intent.as_deref().unwrap_or_default();
    let Some(payment) = store::payment_of(tx, intent)? else {
        return Ok(Noted::NotOurs);
    };
    let Some(paid) = store::find(tx, &payment)? else {
        return Ok(Noted::NotOurs);
    };
    // Whoever has the dashboard can write our note onto anything, a second refund too.
    let asked = match told.note.clone().map(IdempotencyKey::new) {
        Some(Ok(id)) => store::refund_of(tx, &id)?
            .filter(|(of, entry)| *of == payment && may_be(entry, told))
            .map(|(_, entry)| (id, entry)),
        _ => None,
    };
    let (refund, entry) = match asked {
        Some((id, entry)) => (id, Some(entry)),
        None => {
            let id = IdempotencyKey::new(format!("stripe/{}", told.reference))?;
            let entry = store::refund_of(tx, &id)?.map(|(_, entry)| entry);
            (id, entry)
        }
    };
    let mut refunded = Refunded {
        payment,
        refund,
        amount: Amount::zero(paid.amount.asset()),
    };
    if told.stand == Stand::UnderWay {
        return Ok(Noted::UnderWay);
    }
    let Ok(amount) = Money::read(told.amount, &told.currency, paid.amount.asset()) else {
        return Ok(Noted::OtherCurrency(refunded));
    };
    refunded.amount = amount;
    let is_other = entry.as_ref().is_some_and(|entry| entry.amount != amount);
    if is_other || contradicts(entry.as_ref(), told.stand) {
        return Ok(Noted::Contradiction(refunded));
    }
    let state = match (told.stand, entry.as_ref().map(|entry| entry.state)) {
        // A refund that failed stays so; this event is older.
        (Stand::Not, _) | (_, Some(State::Failed)) => State::Failed,
        _ => State::Settled,
    };
    let Refunded {
        payment, refund, ..
    } = &refunded;
    if entry.is_none() {
        store::note_refund(tx, refund, payment, amount)?;
    }
    store::refunded(tx, refund, state, &told.reference, "refund_failed")?;
    Ok(match state {
        State::Settled => Noted::Back(refunded),
        _ => Noted::Not(refunded),
    })
}

/// A refund that Stripe named is not one that it names otherwise.
fn may_be(entry: &RefundEntry, told: &Back) -> bool {
    entry.reference.is_empty() || entry.reference == told.reference
}

/// A refund that is back and then is not, or that this rail gave up and Stripe made.
fn contradicts(entry: Option<&RefundEntry>, stand: Stand) -> bool {
    entry.is_some_and(|entry| match entry.state {
        State::Settled => stand == Stand::Not,
        State::Failed => stand == Stand::Back && !entry.code.starts_with("refund_"),
        _ => false,
    })
}
