//! What is written down of payments, refunds and events at Stripe.

mod event;
mod refund;

use agent_core::store::{Db, Tx, sql};
use agent_core::{Amount, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::id::IntentId;
use crate::backend::sqlite::statement::run;
use crate::error::{Error, Result};

pub(super) use event::{forget_seen, is_seen, mark_seen};
pub(super) use refund::{RefundEntry, begin_refund, note_refund, refund_of, refunded};

const LAYER: &str = "pay_stripe";

const STEPS: &[&str] = &["
CREATE TABLE pay_stripe_payment (
    payment TEXT PRIMARY KEY,
    payee TEXT NOT NULL,
    amount TEXT NOT NULL,
    state INTEGER NOT NULL,
    intent TEXT UNIQUE,
    code TEXT,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE pay_stripe_refund (
    refund TEXT PRIMARY KEY,
    payment TEXT NOT NULL,
    amount TEXT NOT NULL,
    state INTEGER NOT NULL,
    reference TEXT,
    code TEXT,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pay_stripe_refund_payment ON pay_stripe_refund (payment);

CREATE TABLE pay_stripe_event (
    id TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_stripe_event_at ON pay_stripe_event (at_ms);

CREATE TABLE pay_stripe_meter (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    through INTEGER NOT NULL
) STRICT;
INSERT INTO pay_stripe_meter VALUES (1, 0);
CREATE TABLE pay_stripe_metered (
    identifier TEXT PRIMARY KEY,
    usage INTEGER NOT NULL,
    state INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    reason TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_stripe_metered_usage ON pay_stripe_metered (usage);
"];

pub(super) async fn migrate(db: &Db) -> Result<()> {
    Ok(db.migrate(LAYER, STEPS).await?)
}

/// How far a payment or refund is. The numbers are stored; the final ones are the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    New = 0,
    Created = 1,
    Confirming = 2,
    Settled = 3,
    Failed = 4,
}

impl State {
    const fn number(self) -> i64 {
        match self {
            Self::New => 0,
            Self::Created => 1,
            Self::Confirming => 2,
            Self::Settled => 3,
            Self::Failed => 4,
        }
    }

    fn of(number: i64) -> Result<Self> {
        let all = [
            Self::New,
            Self::Created,
            Self::Confirming,
            Self::Settled,
            Self::Failed,
        ];
        let found = all.into_iter().find(|state| state.number() == number);
        found.ok_or_else(|| Error::corrupt("a state of a payment at Stripe"))
    }
}

/// A payment as it is written down. `amount` is what was asked for, and what was taken once it is
/// settled.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) amount: Amount,
    pub(super) state: State,
    pub(super) intent: Option<IntentId>,
    pub(super) code: String,
    pub(super) at: Timestamp,
}

fn amount(text: &str) -> Result<Amount> {
    text.parse()
        .map_err(|_form| Error::corrupt("an amount of a payment at Stripe"))
}

fn columns<T>(row: rusqlite::Result<T>) -> Result<T> {
    Ok(row.map_err(sql("read a payment at Stripe"))?)
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let intent: Option<String> = columns(row.get(2))?;
    let text: String = columns(row.get(0))?;
    let code: Option<String> = columns(row.get(3))?;
    Ok(Entry {
        amount: amount(&text)?,
        state: State::of(columns(row.get(1))?)?,
        intent: intent.map(IntentId::new).transpose()?,
        code: code.unwrap_or_default(),
        at: Timestamp::from_unix_ms(columns(row.get(4))?),
    })
}

pub(super) fn find(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<Option<Entry>> {
    let select = "SELECT amount, state, intent, code, at_ms FROM pay_stripe_payment \
                  WHERE payment = ?1";
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        select
            .query_row([id.as_str()], |row| Ok(entry(row)))
            .optional()
    });
    found.map_err(sql("read a payment at Stripe"))?.transpose()
}

fn known(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<Entry> {
    find(tx, id)?.ok_or_else(|| Error::corrupt("a payment at Stripe that is not written down"))
}

/// Writes a payment down, or finds it; the first payee and amount count.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    id: &IdempotencyKey,
    payee: &str,
    amount: Amount,
) -> Result<Entry> {
    run(
        tx,
        "INSERT INTO pay_stripe_payment VALUES (?1, ?2, ?3, 0, NULL, NULL, ?4) \
         ON CONFLICT (payment) DO NOTHING",
        params![
            id.as_str(),
            payee,
            amount.to_string(),
            tx.now().as_unix_ms()
        ],
    )?;
    known(tx, id)
}

/// Notes what Stripe calls the payment; the first name counts.
pub(super) fn created(tx: &mut Tx<'_>, id: &IdempotencyKey, intent: &IntentId) -> Result<Entry> {
    run(
        tx,
        "UPDATE pay_stripe_payment SET state = 1, intent = ?2, at_ms = ?3 \
         WHERE payment = ?1 AND state = 0",
        params![id.as_str(), intent.as_str(), tx.now().as_unix_ms()],
    )?;
    known(tx, id)
}

/// Notes that it is about to be confirmed; true for one caller only.
pub(super) fn confirming(tx: &mut Tx<'_>, id: &IdempotencyKey) -> Result<bool> {
    let n_rows = run(
        tx,
        "UPDATE pay_stripe_payment SET state = 2, at_ms = ?2 WHERE payment = ?1 AND state = 1",
        params![id.as_str(), tx.now().as_unix_ms()],
    )?;
    Ok(n_rows == 1)
}

/// Notes that the money moved. What is final stays.
pub(super) fn settled(tx: &mut Tx<'_>, id: &IdempotencyKey, moved: Amount) -> Result<Entry> {
    run(
        tx,
        "UPDATE pay_stripe_payment SET state = 3, amount = ?2, at_ms = ?3 \
         WHERE payment = ?1 AND state < 3",
        params![id.as_str(), moved.to_string(), tx.now().as_unix_ms()],
    )?;
    known(tx, id)
}

/// Notes that the money did not move, of payments that are not beyond `up_to`.
pub(super) fn failed(
    tx: &mut Tx<'_>,
    id: &IdempotencyKey,
    code: &str,
    up_to: State,
) -> Result<Entry> {
    run(
        tx,
        "UPDATE pay_stripe_payment SET state = 4, code = ?2, at_ms = ?3 \
         WHERE payment = ?1 AND state < 3 AND state <= ?4",
        params![id.as_str(), code, tx.now().as_unix_ms(), up_to.number()],
    )?;
    known(tx, id)
}

/// Returns whose payment a name of Stripe is.
pub(super) fn payment_of(tx: &Tx<'_>, intent: &str) -> Result<Option<IdempotencyKey>> {
    let select = "SELECT payment FROM pay_stripe_payment WHERE intent = ?1";
    let found: Option<String> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| select.query_row([intent], |row| row.get(0)).optional())
        .map_err(sql("read a payment at Stripe"))?;
    Ok(found.map(IdempotencyKey::new).transpose()?)
}
