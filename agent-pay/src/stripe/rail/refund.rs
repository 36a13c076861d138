//! Refunds over the rail, each found again before it is sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::IdempotencyKey;

use super::{ASK_AGAIN, ASK_AGAIN_SOON, StripeRail};
use crate::rail::{Outcome, Payment};
use crate::stripe::METADATA_ID;
use crate::stripe::client::step_key;
use crate::stripe::error::CallError;
use crate::stripe::id::IntentId;
use crate::stripe::money::Money;
use crate::stripe::refund::Refund;
use crate::stripe::store::{self, RefundEntry, State};
use crate::transport::Refuses as _;

/// Stripe keeps keys for a day at least; an hour less is safe.
const KEY_KEPT: Duration = Duration::from_secs(23 * 3_600);

impl StripeRail {
    pub(super) async fn try_refund(
        &self,
        payment: IdempotencyKey,
        refund: Payment,
    ) -> Result<Outcome, CallError> {
        let (id, of, asked) = (refund.id.clone(), payment, refund.amount);
        let (entry, intent) = self
            .write(move |tx| {
                let entry = store::begin_refund(tx, &id, &of, asked)?;
                let paid = store::find(tx, &of)?;
                Ok((entry, paid.and_then(|paid| paid.intent)))
            })
            .await?;
        self.go_on(refund.id, entry, intent).await
    }

    /// Says how a refund stands. One that may not have arrived is sent again under its key, which
    /// gives back once, and has failed when it is so old that it can arrive no more.
    pub(super) async fn look_up_refund(
        &self,
        id: IdempotencyKey,
        payment: IdempotencyKey,
        entry: RefundEntry,
    ) -> Result<Outcome, CallError> {
        if let Some(told) = refund_told(&entry) {
            return Ok(told);
        }
        let age = entry.begun_at.map(|at| self.clock.now().since(at));
        if age.is_none_or(|age| age < self.grace) {
            return Ok(Outcome::unknown(ASK_AGAIN_SOON, "it may be on its way"));
        }
        let paid = self.db.read(move |tx| store::find(tx, &payment)).await?;
        let intent = paid.and_then(|paid| paid.intent);
        if age.is_some_and(|age| age >= KEY_KEPT)
            && let Some(intent) = &intent
            && self.find_refund(&entry, intent, &id).await?.is_none()
        {
            let (reference, code) = (String::new(), "never_arrived".to_owned());
            return self.end_refund(id, State::Failed, reference, code).await;
        }
        self.go_on(id, entry, intent).await
    }

    async fn go_on(
        &self,
        id: IdempotencyKey,
        entry: RefundEntry,
        intent: Option<IntentId>,
    ) -> Result<Outcome, CallError> {
        if let Some(told) = refund_told(&entry) {
            return Ok(told);
        }
        let Some(intent) = intent else {
            return Err(CallError::unknown("a payment without a name"));
        };
        let told = match self.find_refund(&entry, &intent, &id).await? {
            Some(told) => Ok(told),
            None => self.send_refund(&entry, &intent, &id).await,
        };
        match told {
            Ok(told) => self.note_refund(id, entry, told).await,
            Err(CallError::Refused(refusal)) if ![401, 403].contains(&refusal.status) => {
                let code = refusal.reason();
                self.end_refund(id, State::Failed, String::new(), code)
                    .await
            }
            Err(error) => Err(error),
        }
    }

    /// A request that went out before may have arrived, longer ago than keys are kept.
    async fn find_refund(
        &self,
        entry: &RefundEntry,
        intent: &IntentId,
        id: &IdempotencyKey,
    ) -> Result<Option<Refund>, CallError> {
        if entry.begun_at.is_none() {
            return Ok(None);
        }
        let all = self.client.refunds(intent).await?;
        let is_ours = |refund: &Refund| {
            refund
                .metadata
                .get(METADATA_ID)
                .is_some_and(|x| x == id.as_str())
        };
        Ok(all.into_iter().find(is_ours))
    }

    async fn send_refund(
        &self,
        entry: &RefundEntry,
        intent: &IntentId,
        id: &IdempotencyKey,
    ) -> Result<Refund, CallError> {
        let notes = BTreeMap::from([(METADATA_ID.to_owned(), id.as_str().to_owned())]);
        let money = Money::new(entry.amount)?;
        let key = step_key("refund", id.as_str())?;
        self.client.refund(&key, intent, &money, &notes).await
    }

    async fn note_refund(
        &self,
        id: IdempotencyKey,
        entry: RefundEntry,
        told: Refund,
    ) -> Result<Outcome, CallError> {
        let back = Money::read(told.amount, &told.currency, entry.amount.asset())?;
        if back != entry.amount {
            return Err(CallError::unknown("another refund than asked for"));
        }
        let state = match told.status.as_str() {
            "succeeded" => State::Settled,
            "failed" | "canceled" => State::Failed,
            _ => return Ok(Outcome::unknown(ASK_AGAIN, "the refund is on its way")),
        };
        self.end_refund(id, state, told.id, format!("refund_{}", told.status))
            .await
    }

    async fn end_refund(
        &self,
        id: IdempotencyKey,
        state: State,
        reference: String,
        code: String,
    ) -> Result<Outcome, CallError> {
        let entry = self
            .write(move |tx| store::refunded(tx, &id, state, &reference, &code))
            .await?;
        refund_told(&entry).ok_or_else(|| CallError::unknown("a refund that did not end"))
    }
}

fn refund_told(entry: &RefundEntry) -> Option<Outcome> {
    match entry.state {
        State::Settled => Some(Outcome::settled(entry.amount, entry.reference.clone())),
        State::Failed => Some(Outcome::failed(entry.code.clone())),
        State::New | State::Created | State::Confirming => None,
    }
}
