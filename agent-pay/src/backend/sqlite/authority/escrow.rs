//! Escrow over holds of the authority.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, IdempotencyKey, Principal};
use rusqlite::{OptionalExtension, params};

use super::super::statement::run;
use super::nodes::PolicyCache;
use super::row::find;
use super::{authorize, capture, release, submit};
use crate::authority::{Authorization, Intent, SpendHold};
use crate::error::{Error, Result};
use crate::trade::Escrow;

/// Holds every milestone of an escrow or none. `intent` says everything but the amounts; its key is
/// the escrow's. The first milestone that is not held is the answer, and what was held is released;
/// its keys are used up then, so take another key to try again.
///
/// # Errors
/// As [`authorize`]; `Invalid` if the intent is not the buyer's to the seller.
pub fn open_escrow(
    tx: &mut Tx<'_>,
    cache: &PolicyCache,
    intent: &Intent,
    escrow: &Escrow,
) -> Result<Vec<Authorization>> {
    if intent.actor != escrow.buyer || intent.payee.name != escrow.seller.as_str() {
        return Err(Error::invalid("escrow", "the intent is between others"));
    }
    let text =
        serde_json::to_string(escrow).map_err(|e| Error::invalid("escrow", e.to_string()))?;
    if read(tx, &intent.key)?.is_some_and(|known| known != *escrow) {
        let (key, differs) = (intent.key.clone(), crate::journal::Difference::Entries);
        return Err(Error::KeyReused { key, differs });
    }
    let mut held = Vec::new();
    for (n, amount) in escrow.milestones.iter().enumerate() {
        let mut part = intent.clone();
        part.key = Escrow::milestone_key(&intent.key, n)?;
        part.amount_max = *amount;
        match authorize(tx, cache, &part)? {
            answer @ Authorization::Held { .. } => held.push(answer),
            refused => {
                for before in 0..n {
                    release(tx, &Escrow::milestone_key(&intent.key, before)?)?;
                }
                return Ok(vec![refused]);
            }
        }
    }
    let statement = "INSERT INTO pay_escrow VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    run(tx, statement, params![intent.key.as_str(), text])?;
    Ok(held)
}

/// Pays a milestone: the buyer says the work is done.
///
/// # Errors
/// `Denied` for anybody else, `Conflict` while it is in dispute or if it is over.
pub fn accept_milestone(
    tx: &mut Tx<'_>,
    escrow: &IdempotencyKey,
    n: usize,
    by: &Principal,
) -> Result<SpendHold> {
    let (parties, key, amount) = milestone(tx, escrow, n)?;
    only(by, &[&parties.buyer], "only the buyer accepts")?;
    if is_disputed(tx, &key)? {
        return Err(Error::NotAnApprover {
            who: by.clone(),
            reason: "the arbiter decides in a dispute",
        });
    }
    capture(tx, &key, amount)
}

/// Opens a dispute about a milestone: from here on it does not expire and the arbiter decides.
///
/// # Errors
/// `Denied` for anybody but buyer and seller, `Conflict` if it is over.
pub fn dispute_milestone(
    tx: &mut Tx<'_>,
    escrow: &IdempotencyKey,
    n: usize,
    by: &Principal,
) -> Result<SpendHold> {
    let (parties, key, _amount) = milestone(tx, escrow, n)?;
    only(
        by,
        &[&parties.buyer, &parties.seller],
        "only the parties dispute",
    )?;
    let hold = submit(tx, &key)?;
    run(
        tx,
        "INSERT INTO pay_dispute VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![key.as_str(), by.as_str(), tx.now().as_unix_ms()],
    )?;
    Ok(hold)
}

/// Decides a dispute: so much to the seller, the rest back to the buyer.
///
/// # Errors
/// `Denied` for anybody but the arbiter, `Conflict` if there is no dispute or it is decided
/// otherwise, `Invalid` for more than the milestone.
pub fn decide_milestone(
    tx: &mut Tx<'_>,
    escrow: &IdempotencyKey,
    n: usize,
    by: &Principal,
    to_seller: Amount,
) -> Result<SpendHold> {
    let (parties, key, _amount) = milestone(tx, escrow, n)?;
    only(by, &[&parties.arbiter], "only the arbiter decides")?;
    if !is_disputed(tx, &key)? {
        return Err(Error::KeyNotFound { key });
    }
    capture(tx, &key, to_seller)
}

fn only(by: &Principal, allowed: &[&Principal], reason: &'static str) -> Result<()> {
    if allowed.contains(&by) {
        return Ok(());
    }
    let who = by.clone();
    Err(Error::NotAnApprover { who, reason })
}

fn milestone(
    tx: &Tx<'_>,
    escrow: &IdempotencyKey,
    n: usize,
) -> Result<(Escrow, IdempotencyKey, Amount)> {
    let found = read(tx, escrow)?;
    let parties = found.ok_or_else(|| Error::KeyNotFound {
        key: escrow.clone(),
    })?;
    let amount = parties.milestones.get(n).copied();
    let amount = amount.ok_or_else(|| Error::invalid("milestone", "there is none"))?;
    let key = Escrow::milestone_key(escrow, n)?;
    find(tx, &key)?;
    Ok((parties, key, amount))
}

fn is_disputed(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<bool> {
    tx.sql()
        .prepare_cached("SELECT 1 FROM pay_dispute WHERE spend = ?1")
        .and_then(|mut select| select.exists([key.as_str()]))
        .map_err(|e| sql("read a dispute")(e).into())
}

fn read(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<Escrow>> {
    let text: Option<String> = tx
        .sql()
        .prepare_cached("SELECT escrow FROM pay_escrow WHERE key = ?1")
        .and_then(|mut select| {
            select
                .query_row([key.as_str()], |row| row.get(0))
                .optional()
        })
        .map_err(sql("read an escrow"))?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| Error::corrupt(format!("a stored escrow: {e}")))
}
