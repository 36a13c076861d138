//! The row of a channel.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, Asset, IdempotencyKey, Principal, Timestamp};
use rusqlite::{OptionalExtension, params};

use crate::authority::SpendHold;
use crate::error::{Error, Result};
use crate::mpp::receipt::Receipt;
use crate::mpp::request::write_units;
use crate::mpp::server::METHOD;

/// The tables of the server, beside those of the ledger.
pub(in crate::mpp) const SCHEMA: &[&str] = &[
    "
CREATE TABLE pay_mpp_channel (
    channel TEXT PRIMARY KEY,
    buyer TEXT NOT NULL,
    spend TEXT NOT NULL,
    asset TEXT NOT NULL,
    deposit INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    is_closed INTEGER NOT NULL,
    ends_ms INTEGER NOT NULL,
    busy_key TEXT,
    busy_units INTEGER,
    busy_ms INTEGER,
    CHECK (0 <= spent AND spent <= accepted AND accepted <= deposit)
) STRICT;
CREATE INDEX pay_mpp_channel_ends ON pay_mpp_channel (ends_ms) WHERE is_closed = 0;
",
    "
CREATE INDEX pay_mpp_channel_over ON pay_mpp_channel (ends_ms) WHERE is_closed = 1;
",
    // Whose it is; empty where an earlier version opened it.
    "
ALTER TABLE pay_mpp_channel ADD COLUMN scope TEXT NOT NULL DEFAULT '';
DROP INDEX pay_mpp_channel_over;
CREATE INDEX pay_mpp_channel_over ON pay_mpp_channel (scope, ends_ms) WHERE is_closed = 1;
",
];

/// A request that runs.
#[derive(Clone, Debug)]
pub(super) struct Busy {
    pub(super) key: IdempotencyKey,
    pub(super) units: Amount,
    pub(super) until: Timestamp,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Row {
    channel: String,
    pub(super) buyer: Principal,
    pub(super) spend: IdempotencyKey,
    pub(super) deposit: Amount,
    pub(super) accepted: Amount,
    pub(super) spent: Amount,
    pub(super) is_closed: bool,
    pub(super) ends_at: Timestamp,
    pub(super) busy: Option<Busy>,
    cut_off: Option<IdempotencyKey>,
}

impl Row {
    pub(super) fn open(
        channel: &str,
        buyer: &Principal,
        hold: &SpendHold,
        ends_at: Timestamp,
    ) -> Self {
        let nothing = Amount::zero(hold.amount.asset());
        Self {
            channel: channel.to_owned(),
            buyer: buyer.clone(),
            spend: hold.key.clone(),
            deposit: hold.amount,
            accepted: nothing,
            spent: nothing,
            is_closed: false,
            ends_at,
            busy: None,
            cut_off: None,
        }
    }

    /// Returns the request that runs. One that did not end in its time is given up, and what it
    /// took is given back.
    pub(super) fn settle_busy(&mut self, now: Timestamp) -> Result<Option<Busy>> {
        match self.busy.take() {
            Some(busy) if now < busy.until => {
                self.busy = Some(busy.clone());
                Ok(Some(busy))
            }
            Some(busy) => {
                self.spent = self.spent.minus(busy.units)?;
                self.cut_off = Some(busy.key);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Returns whether the request that was given up has this key.
    pub(super) fn was_cut_off_at(&self, key: &IdempotencyKey) -> bool {
        self.cut_off.as_ref() == Some(key)
    }

    pub(super) fn receipt(&self, at: Timestamp) -> Result<Receipt> {
        let mut receipt = Receipt::new(METHOD, at, self.channel.clone());
        receipt.spent = Some(write_units(self.spent)?);
        receipt.accepted_cumulative = Some(write_units(self.accepted)?);
        Ok(receipt)
    }
}

pub(super) fn find(tx: &Tx<'_>, channel: &str) -> Result<Option<Row>> {
    let operation = "find a channel";
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Result<Row>> {
        let texts: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
        let units: [i64; 3] = [row.get(4)?, row.get(5)?, row.get(6)?];
        let (is_closed, ends_ms) = (row.get(7)?, row.get(8)?);
        let busy: (Option<String>, Option<i64>, Option<i64>) =
            (row.get(9)?, row.get(10)?, row.get(11)?);
        Ok(build(texts, units, is_closed, ends_ms, busy))
    };
    let found = tx
        .sql()
        .prepare_cached("SELECT * FROM pay_mpp_channel WHERE channel = ?1")
        .and_then(|mut select| select.query_row(params![channel], read).optional())
        .map_err(sql(operation))?;
    found.transpose()
}

fn build(
    [channel, buyer, spend, asset]: [String; 4],
    units: [i64; 3],
    is_closed: bool,
    ends_ms: i64,
    (busy_key, busy_units, busy_ms): (Option<String>, Option<i64>, Option<i64>),
) -> Result<Row> {
    let damaged = |_form| Error::corrupt(format!("channel {channel} is damaged"));
    let asset: Asset = asset.parse().map_err(damaged)?;
    let [deposit, accepted, spent] = units.map(|n| Amount::from_units(n.into(), asset));
    let busy = match (busy_key, busy_units, busy_ms) {
        (Some(key), Some(units), Some(ms)) => Some(Busy {
            key: IdempotencyKey::new(key).map_err(damaged)?,
            units: Amount::from_units(units.into(), asset),
            until: Timestamp::from_unix_ms(ms),
        }),
        _ => None,
    };
    Ok(Row {
        buyer: Principal::new(&buyer).map_err(damaged)?,
        spend: IdempotencyKey::new(spend).map_err(damaged)?,
        deposit,
        accepted,
        spent,
        is_closed,
        ends_at: Timestamp::from_unix_ms(ends_ms),
        busy,
        cut_off: None,
        channel,
    })
}

pub(super) fn insert(tx: &Tx<'_>, row: &Row, scope: &str) -> Result<()> {
    let statement = "INSERT INTO pay_mpp_channel VALUES \
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, NULL, NULL, ?10)";
    let values = params![
        row.channel,
        row.buyer.as_str(),
        row.spend.as_str(),
        row.deposit.asset().to_string(),
        row.deposit.units_i64()?,
        row.accepted.units_i64()?,
        row.spent.units_i64()?,
        row.is_closed,
        row.ends_at.as_unix_ms(),
        scope
    ];
    tx.sql()
        .prepare_cached(statement)
        .and_then(|mut insert| insert.execute(values))
        .map_err(sql("open a channel"))?;
    Ok(())
}

pub(super) fn update(tx: &Tx<'_>, row: &Row) -> Result<()> {
    let statement = "UPDATE pay_mpp_channel SET deposit = ?2, accepted = ?3, spent = ?4, \
                     is_closed = ?5, busy_key = ?6, busy_units = ?7, busy_ms = ?8 \
                     WHERE channel = ?1";
    let busy = row.busy.as_ref();
    let busy_units = busy.map(|busy| busy.units.units_i64()).transpose()?;
    let values = params![
        row.channel,
        row.deposit.units_i64()?,
        row.accepted.units_i64()?,
        row.spent.units_i64()?,
        row.is_closed,
        busy.map(|busy| busy.key.as_str()),
        busy_units,
        busy.map(|busy| busy.until.as_unix_ms())
    ];
    tx.sql()
        .prepare_cached(statement)
        .and_then(|mut update| update.execute(values))
        .map_err(sql("change a channel"))?;
    Ok(())
}

/// Lists open channels whose time is over.
pub(super) fn ended(tx: &Tx<'_>, limit: usize) -> Result<Vec<String>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let now_ms = tx.now().as_unix_ms();
    tx.sql()
        .prepare_cached(
            "SELECT channel FROM pay_mpp_channel WHERE is_closed = 0 AND ends_ms <= ?1 \
             ORDER BY ends_ms LIMIT ?2",
        )
        .and_then(|mut select| {
            let rows = select.query_map(params![now_ms, limit], |row| row.get(0))?;
            rows.collect()
        })
        .map_err(|error| sql("list ended channels")(error).into())
}
