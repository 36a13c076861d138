//! The tables of both sides: what is signed before it is sent, and what came of what was taken.

use agent_core::store::{Db, Tx, sql};
use rusqlite::{OptionalExtension, Params, Row};

use crate::error::{Error, Result};

const STEPS: &[&str] = &[
    "
CREATE TABLE pay_x402_sale (
    key TEXT PRIMARY KEY,
    payment TEXT NOT NULL,
    asked TEXT NOT NULL,
    state INTEGER NOT NULL,
    n_tries INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pay_x402_sale_open ON pay_x402_sale (at_ms) WHERE state = 0 AND n_tries > 0;

CREATE TABLE pay_x402_purchase (
    id TEXT PRIMARY KEY,
    state INTEGER NOT NULL,
    intent TEXT,
    request TEXT NOT NULL,
    asked TEXT NOT NULL,
    amount TEXT NOT NULL,
    payment TEXT,
    n_sent INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    answer TEXT,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE pay_x402_refund (
    id TEXT PRIMARY KEY,
    of TEXT NOT NULL,
    asked TEXT NOT NULL,
    payment TEXT NOT NULL,
    amount TEXT NOT NULL,
    atoms TEXT NOT NULL,
    state INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pay_x402_refund_of ON pay_x402_refund (of);
",
    "
ALTER TABLE pay_x402_sale ADD COLUMN work INTEGER NOT NULL DEFAULT 0;
DROP INDEX pay_x402_sale_open;
CREATE INDEX pay_x402_sale_open ON pay_x402_sale (at_ms)
    WHERE (state = 0 AND (n_tries > 0 OR work = 1)) OR (state = 2 AND work = 1);
",
    // When a payment can be carried out no more. What is over: sold, taken back, or never tried.
    "
ALTER TABLE pay_x402_sale ADD COLUMN ends_ms INTEGER NOT NULL DEFAULT 0;
UPDATE pay_x402_sale SET ends_ms = 1000 * min(9000000000000, coalesce(
    CAST(json_extract(payment, '$.payload.authorization.validBefore') AS INTEGER), 9000000000000));
CREATE INDEX pay_x402_sale_over ON pay_x402_sale (ends_ms)
    WHERE (state = 1 AND work = 1 AND payment <> '') OR (state = 2 AND work = 2)
    OR (state = 0 AND n_tries = 0 AND work = 0);
",
];

/// Creates or migrates the tables of payments by x402, and those of the layer they stand on.
pub(super) async fn migrate(db: &Db) -> Result<()> {
    crate::backend::sqlite::migrate(db).await?;
    Ok(db.migrate("pay-x402", STEPS).await?)
}

pub(super) fn one<T>(
    tx: &Tx<'_>,
    query: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let found = tx
        .sql()
        .prepare_cached(query)
        .and_then(|mut select| select.query_row(values, read).optional());
    Ok(found.map_err(sql("read a payment"))?)
}

/// Reads what this module wrote as JSON.
pub(super) fn stored<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_form| Error::corrupt("a stored payment is not readable"))
}
