//! One sending of a purchase's one payment, and what it tells.

use std::time::Duration;

use agent_core::{ErrorKind, Retry};
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde_json::{Value, json};

use super::Buyer;
use super::purchase::{self, Asking, Row, Stage};
use crate::error::{Error, Result};
use crate::rail::Outcome;
use crate::transport::{Answer, Lost};
use crate::x402::authorization::{Authorization, Signed};
use crate::x402::bytes::Bytes32;
use crate::x402::chain::Execution;
use crate::x402::header;
use crate::x402::message::{PaymentPayload, PaymentRequired, SettleResponse, Version};
use crate::x402::seller::answer::keep;

/// How long before its signing an authorization holds, in seconds: the clocks of chains differ.
const BACKDATED_SECONDS: u64 = 600;
/// When to ask again where nobody says.
const SOON: Duration = Duration::from_secs(2);
/// The longest wait a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What a request without a payment came to.
pub(super) enum Asked {
    /// It costs nothing.
    Free(Answer),
    /// It costs something.
    Required(PaymentRequired),
}

impl Buyer {
    /// Sends a request without a payment.
    pub(super) async fn ask(&self, asking: &Asking) -> Result<Asked> {
        let lost = |lost: Lost| {
            let retry = if lost.may_have_had_effect() {
                Retry::Unknown
            } else {
                Retry::Safe
            };
            Error::backend(
                "x402",
                "ask for a resource",
                ErrorKind::Unavailable,
                retry,
                lost,
            )
        };
        let answer = self
            .inner
            .transport
            .send(asking.request()?)
            .await
            .map_err(lost)?;
        if answer.status() != StatusCode::PAYMENT_REQUIRED {
            return Ok(Asked::Free(answer));
        }
        let v2 = header::only(answer.headers(), &header::PAYMENT_REQUIRED)?;
        let bytes = v2.map(header::decode).transpose()?;
        let required = PaymentRequired::read(bytes.as_deref().unwrap_or(answer.body()))?;
        Ok(Asked::Required(required))
    }

    /// Signs the one payment of a purchase, if nothing is signed, and returns the purchase as it is
    /// stored then.
    pub(super) async fn signed(&self, row: Row) -> Result<Row> {
        if row.stage != Stage::Quoted {
            return Ok(row);
        }
        let mut nonce = [0_u8; 32];
        self.inner.env.entropy.fill(&mut nonce);
        let now = self.now();
        let times = (
            now.saturating_sub(BACKDATED_SECONDS),
            now.saturating_add(row.asked.max_timeout_seconds),
        );
        let parties = (self.inner.signer.address(), row.asked.pay_to);
        let nonce = Bytes32::from_bytes(nonce);
        let authorization = Authorization::new(parties, row.asked.amount, times, nonce);
        let digest = row.asked.domain()?.digest(&authorization);
        let signature = self.inner.signer.sign(digest).await?;
        let signed = Signed::new(authorization, signature);
        let mut payment = match row.version {
            Version::V1 => PaymentPayload::new_v1(row.asked.network.clone(), signed),
            Version::V2 => PaymentPayload::new(row.asked.clone(), signed),
        };
        payment.resource.clone_from(&row.resource);
        payment.extensions.clone_from(&row.extensions);
        name(&mut payment, &row);
        let id = row.id;
        self.inner
            .db
            .write(move |tx| {
                purchase::sign(tx, &id, &payment)?;
                let found = purchase::find(tx, &id)?;
                found.ok_or_else(|| Error::corrupt("a purchase is gone"))
            })
            .await
    }

    /// Sends a purchase with its payment and stores what is known for good.
    pub(super) async fn send(&self, row: &Row) -> Result<Outcome> {
        let Some(payment) = &row.payment else {
            return Err(Error::corrupt("a purchase is signed and has no payment"));
        };
        let mut request = row.asking.request()?;
        let value = header::encode(&payment.to_json())?;
        request
            .headers_mut()
            .insert(header::payment(row.version), value);
        let id = row.id.clone();
        self.inner
            .db
            .write(move |tx| purchase::count(tx, &id))
            .await?;
        let (outcome, answer) = match self.inner.transport.send(request).await {
            // The signature never left this process, so nobody can have it carried out.
            Err(lost) if !lost.may_have_had_effect() && row.n_sent == 0 => {
                (Outcome::failed("not_sent"), None)
            }
            Err(lost) => (Outcome::unknown(SOON, lost.to_string()), None),
            Ok(answer) => (outcome(row, &answer), Some(answer)),
        };
        self.store(row, &outcome, answer).await?;
        Ok(outcome)
    }

    pub(super) async fn store(
        &self,
        row: &Row,
        outcome: &Outcome,
        answer: Option<Answer>,
    ) -> Result<()> {
        if !outcome.is_final() {
            return Ok(());
        }
        // An answer longer than is kept is given out once by nobody: sellers of this crate have none.
        let kept = answer.as_ref().and_then(|answer| keep(answer).ok());
        let kept = kept.map(|kept| json!([kept.status, kept.body]).to_string());
        let (id, outcome) = (row.id.clone(), outcome.clone());
        self.inner
            .db
            .write(move |tx| purchase::end(tx, &id, &outcome, kept.as_deref()))
            .await
    }

    /// Asks the chain what became of a payment the server says nothing certain of.
    pub(super) async fn ask_chain(&self, row: &Row, otherwise: Outcome) -> Result<Outcome> {
        let (Some(chain), Some(payment)) = (&self.inner.config.chain, &row.payment) else {
            return Ok(otherwise);
        };
        let authorization = payment.signed.authorization.clone();
        let outcome = match chain.look_up(row.asked.domain()?, authorization).await {
            Ok(Execution::Executed { transaction }) => Outcome::settled(row.amount, transaction),
            Ok(Execution::Never { code }) => Outcome::failed(code),
            Ok(Execution::NotYet) | Err(_) => return Ok(otherwise),
        };
        self.store(row, &outcome, None).await?;
        Ok(outcome)
    }
}

/// What an answer to a payment tells. Only that it is settled: whatever else a server says, it has
/// the payment.
fn outcome(row: &Row, answer: &Answer) -> Outcome {
    let said = header::only(answer.headers(), &header::response(row.version))
        .ok()
        .flatten();
    let said = said.and_then(|value| header::decode(value).ok());
    match said.map(|bytes| SettleResponse::read(&bytes)) {
        Some(Ok(said)) if said.success => {
            let reference: String = said.transaction.chars().take(256).collect();
            Outcome::settled(row.amount, reference)
        }
        _ => {
            let seconds = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok());
            let seconds = seconds
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs);
            let after = seconds.unwrap_or(SOON).min(RETRY_AFTER_MAX);
            Outcome::unknown(after, format!("the server answered {}", answer.status()))
        }
    }
}

/// Names a payment by its purchase where the server knows the extension.
fn name(payment: &mut PaymentPayload, row: &Row) {
    let Some(info) = payment
        .extensions
        .get_mut("payment-identifier")
        .and_then(|extension| extension.get_mut("info"))
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let digest = agent_core::Digest::of_bytes(row.id.as_str().as_bytes());
    info.insert("id".to_owned(), json!(format!("pay_{digest}")));
}
