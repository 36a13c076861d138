//! What the ledger has of a challenge. The spend of a payment or a session, and its refunds, are there for
//! good: who asks when the answer is not kept any more learns from them how it ended.

use agent_core::store::{Tx, sql};
use agent_core::{IdempotencyKey, Principal, Timestamp};

use super::METHOD;
use crate::authority::{Intent, SpendHold};
use crate::backend::sqlite::{self, authority as book};
use crate::error::{Error, Result};
use crate::mpp::receipt::Receipt;
use crate::mpp::request::write_units;

/// A spend and whose it is: nobody else is told of it.
pub(super) struct Past {
    pub(super) hold: SpendHold,
    pub(super) buyer: Principal,
    /// When it ended, or began if it did not.
    at: Timestamp,
}

impl Past {
    /// Says what was paid.
    pub(super) fn receipt(&self, challenge: &str) -> Result<Receipt> {
        let mut receipt = Receipt::new(METHOD, self.at, self.hold.key.as_str());
        receipt.challenge_id = Some(challenge.to_owned());
        receipt.spent = Some(write_units(self.hold.captured)?);
        Ok(receipt)
    }
}

/// Returns the spend under a key.
pub(super) fn past(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<Past>> {
    let Some(hold) = book::spend(tx, key)? else {
        return Ok(None);
    };
    let lost = || Error::corrupt("a spend has no batch");
    let batch = sqlite::find(tx, key)?.ok_or_else(lost)?;
    let seq = i64::try_from(batch.receipt.seq).map_err(|_range| lost())?;
    let select = "SELECT intent FROM pay_decision WHERE id = \
                  (SELECT decision FROM pay_spend WHERE batch = ?1)";
    let intent: String = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| select.query_row([seq], |row| row.get(0)))
        .map_err(sql("find whose a spend is"))?;
    let intent: Intent = serde_json::from_str(&intent)
        .map_err(|_form| Error::corrupt("a stored intent cannot be read"))?;
    let at = batch.resolution.map_or(batch.receipt.at, |end| end.at);
    let buyer = intent.actor;
    Ok(Some(Past { hold, buyer, at }))
}
