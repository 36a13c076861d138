//! Refunds at Stripe as they are written down.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::{State, amount, find};
use crate::backend::sqlite::statement::run;
use crate::error::{Error, Result};

/// A refund as it is written down.
#[derive(Clone, Debug)]
pub(in crate::stripe) struct RefundEntry {
    pub(in crate::stripe) amount: Amount,
    pub(in crate::stripe) state: State,
    pub(in crate::stripe) reference: String,
    pub(in crate::stripe) code: String,
    /// When it was begun, if a request may have gone out before.
    pub(in crate::stripe) begun_at: Option<Timestamp>,
}

/// Writes a refund down, or finds it. More than is left of the payment is a failure, final as every
/// other.
pub(in crate::stripe) fn begin_refund(
    tx: &mut Tx<'_>,
    id: &IdempotencyKey,
    payment: &IdempotencyKey,
    asked: Amount,
) -> Result<RefundEntry> {
    if let Some(entry) = find_refund(tx, id)? {
        return Ok(entry);
    }
    // A look-up may have closed the id before it came here.
    let closed = find(tx, id)?.map(|entry| entry.code);
    let mut left = match find(tx, payment)? {
        Some(entry) if entry.state == State::Settled => entry.amount,
        _ => Amount::zero(asked.asset()),
    };
    for given in refunds_of(tx, payment)? {
        left = left.minus(given)?;
    }
    let is_too_much = left.asset() != asked.asset() || asked.compare(&left)?.is_gt();
    let (state, code) = match closed {
        Some(code) => (State::Failed, Some(code)),
        None if is_too_much => (State::Failed, Some("more_than_was_paid".to_owned())),
        None => (State::New, None),
    };
    run(
        tx,
        "INSERT INTO pay_stripe_refund VALUES (?1, ?2, ?3, ?4, NULL, ?5, ?6)",
        params![
            id.as_str(),
            payment.as_str(),
            asked.to_string(),
            state.number(),
            code,
            tx.now().as_unix_ms()
        ],
    )?;
    Ok(RefundEntry {
        amount: asked,
        state,
        reference: String::new(),
        code: code.unwrap_or_default(),
        begun_at: None,
    })
}

/// Writes down a refund that nobody asked this rail for.
pub(in crate::stripe) fn note_refund(
    tx: &mut Tx<'_>,
    id: &IdempotencyKey,
    payment: &IdempotencyKey,
    amount: Amount,
) -> Result<()> {
    run(
        tx,
        "INSERT INTO pay_stripe_refund VALUES (?1, ?2, ?3, 0, NULL, NULL, ?4)",
        params![
            id.as_str(),
            payment.as_str(),
            amount.to_string(),
            tx.now().as_unix_ms()
        ],
    )?;
    Ok(())
}

fn refunds_of(tx: &Tx<'_>, payment: &IdempotencyKey) -> Result<Vec<Amount>> {
    let select = "SELECT amount FROM pay_stripe_refund WHERE payment = ?1 AND state <> 4";
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let rows = select.query_map([payment.as_str()], |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    let found = found.map_err(sql("read refunds at Stripe"))?;
    found.iter().map(|text| amount(text)).collect()
}

/// Returns the payment a refund is of, and how the refund stands.
pub(in crate::stripe) fn refund_of(
    tx: &Tx<'_>,
    id: &IdempotencyKey,
) -> Result<Option<(IdempotencyKey, RefundEntry)>> {
    let select = "SELECT payment FROM pay_stripe_refund WHERE refund = ?1";
    let payment: Option<String> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| select.query_row([id.as_str()], |row| row.get(0)).optional())
        .map_err(sql("read a refund at Stripe"))?;
    let Some(payment) = payment.map(IdempotencyKey::new).transpose()? else {
        return Ok(None);
    };
    Ok(find_refund(tx, id)?.map(|entry| (payment, entry)))
}

fn find_refund(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<Option<RefundEntry>> {
    type Found = (String, i64, Option<String>, Option<String>, i64);
    let select =
        "SELECT amount, state, reference, code, at_ms FROM pay_stripe_refund WHERE refund = ?1";
    let found: Option<Found> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| {
            let read = |row: &Row<'_>| {
                let (reference, code) = (row.get(2)?, row.get(3)?);
                Ok((row.get(0)?, row.get(1)?, reference, code, row.get(4)?))
            };
            select.query_row([id.as_str()], read).optional()
        })
        .map_err(sql("read a refund at Stripe"))?;
    let Some((text, state, reference, code, at_ms)) = found else {
        return Ok(None);
    };
    Ok(Some(RefundEntry {
        amount: amount(&text)?,
        state: State::of(state)?,
        reference: reference.unwrap_or_default(),
        code: code.unwrap_or_default(),
        begun_at: Some(Timestamp::from_unix_ms(at_ms)),
    }))
}

/// Notes how a refund ended. What is final stays.
pub(in crate::stripe) fn refunded(
    tx: &mut Tx<'_>,
    id: &IdempotencyKey,
    state: State,
    reference: &str,
    code: &str,
) -> Result<RefundEntry> {
    run(
        tx,
        "UPDATE pay_stripe_refund SET state = ?2, reference = ?3, code = ?4 \
         WHERE refund = ?1 AND state < 3",
        params![id.as_str(), state.number(), reference, code],
    )?;
    let found = find_refund(tx, id)?;
    found.ok_or_else(|| Error::corrupt("a refund at Stripe that is not written down"))
}
