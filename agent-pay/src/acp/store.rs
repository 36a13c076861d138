//! Sessions, tokens and events in the store.

mod purge;

use agent_core::store::{Db, Tx, sql};
use agent_core::{Digest, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::card::Allowance;
use super::session::{Session, SessionStatus};
use crate::backend::sqlite;
use crate::backend::sqlite::statement::run;
use crate::backend::sqlite::turn::Turns;
use crate::error::{Error, Result};

pub(super) use purge::{ended_tokens, purge_sessions, remove_token};

const LAYER: &str = "pay_acp";

const STEPS: &[&str] = &[
    "
CREATE TABLE pay_acp_session (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    is_paying INTEGER NOT NULL,
    doc TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_acp_session_paying ON pay_acp_session (id) WHERE is_paying = 1;

CREATE TABLE pay_acp_token (
    token TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    vault TEXT NOT NULL,
    allowance TEXT NOT NULL,
    used_by TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE pay_acp_event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE pay_acp_purchase (
    payment TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    amount TEXT NOT NULL,
    state INTEGER NOT NULL,
    code TEXT,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX pay_acp_purchase_session ON pay_acp_purchase (session) WHERE state < 3;
",
    "
ALTER TABLE pay_acp_session ADD COLUMN ends_ms INTEGER;
CREATE INDEX pay_acp_session_ends ON pay_acp_session (ends_ms) WHERE ends_ms IS NOT NULL;
ALTER TABLE pay_acp_token ADD COLUMN ends_ms INTEGER;
CREATE INDEX pay_acp_token_ends ON pay_acp_token (ends_ms) WHERE ends_ms IS NOT NULL;
",
    // When what was there before that ends, or it is never forgotten.
    "
UPDATE pay_acp_session SET ends_ms = json_extract(doc, '$.expires') WHERE ends_ms IS NULL
    AND json_extract(doc, '$.status') NOT IN ('completed', 'complete_in_progress');
UPDATE pay_acp_token SET ends_ms = unixepoch(json_extract(allowance, '$.expires_at')) * 1000
    WHERE ends_ms IS NULL;
",
];

pub(super) async fn migrate(db: &Db) -> Result<()> {
    // The answers that are replayed are kept by the authority's tables.
    sqlite::migrate(db).await?;
    Ok(db.migrate(LAYER, STEPS).await?)
}

/// A session and the version it was read at.
#[derive(Clone, Debug)]
pub(super) struct Versioned {
    pub(super) session: Session,
    pub(super) version: i64,
}

fn write_doc(session: &Session) -> Result<String> {
    serde_json::to_string(session).map_err(|e| Error::invalid("session", e.to_string()))
}

fn read_doc(text: &str) -> Result<Session> {
    let session: Session = serde_json::from_str(text)
        .map_err(|e| Error::corrupt(format!("a stored checkout session: {e}")))?;
    if session.v == Session::VERSION {
        Ok(session)
    } else {
        Err(Error::corrupt("a checkout session of another version"))
    }
}

pub(super) fn insert(tx: &mut Tx<'_>, session: &Session) -> Result<()> {
    let insert = "INSERT INTO pay_acp_session VALUES (?1, 1, 0, ?2, ?3)";
    let ends_ms = session.ends().map(Timestamp::as_unix_ms);
    run(
        tx,
        insert,
        params![session.id, write_doc(session)?, ends_ms],
    )?;
    Ok(())
}

/// Returns a session of an owner; somebody else's is not there.
pub(super) fn find(tx: &Tx<'_>, id: &str, owner: Option<&str>) -> Result<Option<Versioned>> {
    let select = "SELECT version, doc FROM pay_acp_session WHERE id = ?1";
    let found: Option<(i64, String)> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_row([id], read).optional()
        })
        .map_err(sql("read a checkout"))?;
    let Some((version, doc)) = found else {
        return Ok(None);
    };
    let session = read_doc(&doc)?;
    let is_theirs = owner.is_none_or(|owner| owner == session.owner);
    Ok(is_theirs.then_some(Versioned { session, version }))
}

/// Writes a session unless somebody else did since it was read, and returns whether it did.
pub(super) fn update(tx: &mut Tx<'_>, found: &Versioned) -> Result<bool> {
    let session = &found.session;
    let n_rows = run(
        tx,
        "UPDATE pay_acp_session SET version = version + 1, is_paying = ?3, doc = ?4, \
         ends_ms = ?5 WHERE id = ?1 AND version = ?2",
        params![
            session.id,
            found.version,
            i64::from(session.status == SessionStatus::CompleteInProgress),
            write_doc(session)?,
            session.ends().map(Timestamp::as_unix_ms)
        ],
    )?;
    Ok(n_rows == 1)
}

/// Sessions whose payment went out and has no known outcome.
const PAYING: Turns = Turns {
    list: "acp paying",
    select: "SELECT 0, id FROM pay_acp_session WHERE is_paying = 1 AND ?1 <= 0 AND id > ?2 \
             AND 0 < ?4 ORDER BY id LIMIT ?3",
};

/// Returns some of them, and others the next time.
pub(super) fn paying(tx: &Tx<'_>, limit: usize) -> Result<Vec<String>> {
    PAYING.next(tx, i64::MAX, limit, |row| row.get(1))
}

/// A token is kept by its digest: who reads the store cannot charge with it.
pub(super) fn token_digest(token: &str) -> String {
    Digest::of_bytes(token.as_bytes()).to_string()
}

pub(super) fn insert_token(
    tx: &mut Tx<'_>,
    token: &str,
    owner: &str,
    vault: &str,
    allowance: &Allowance,
) -> Result<()> {
    let text =
        serde_json::to_string(allowance).map_err(|e| Error::invalid("allowance", e.to_string()))?;
    let ends_ms = allowance.expires().map(Timestamp::as_unix_ms);
    run(
        tx,
        "INSERT INTO pay_acp_token VALUES (?1, ?2, ?3, ?4, NULL, ?5)",
        params![token_digest(token), owner, vault, text, ends_ms],
    )?;
    Ok(())
}

/// A token as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) vault: String,
    pub(super) allowance: Allowance,
    pub(super) is_used: bool,
}

pub(super) fn find_token(tx: &Tx<'_>, digest: &str, owner: &str) -> Result<Option<Token>> {
    type Found = (String, String, Option<String>);
    let select =
        "SELECT vault, allowance, used_by FROM pay_acp_token WHERE token = ?1 AND owner = ?2";
    let found: Option<Found> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            select.query_row([digest, owner], read).optional()
        })
        .map_err(sql("read a token"))?;
    let Some((vault, allowance, used_by)) = found else {
        return Ok(None);
    };
    let allowance = serde_json::from_str(&allowance)
        .map_err(|e| Error::corrupt(format!("a stored allowance: {e}")))?;
    Ok(Some(Token {
        vault,
        allowance,
        is_used: used_by.is_some(),
    }))
}

/// Uses a token up for a payment, or gives it back after one that failed for good.
pub(super) fn use_token(tx: &mut Tx<'_>, digest: &str, payment: Option<&str>) -> Result<()> {
    let update = "UPDATE pay_acp_token SET used_by = ?2 WHERE token = ?1";
    run(tx, update, params![digest, payment])?;
    Ok(())
}

pub(super) fn push_event(tx: &mut Tx<'_>, session: &str, body: &str) -> Result<()> {
    let insert = "INSERT INTO pay_acp_event (session, body) VALUES (?1, ?2)";
    run(tx, insert, params![session, body])?;
    Ok(())
}

pub(super) fn next_events(tx: &Tx<'_>, limit: usize) -> Result<Vec<(i64, String)>> {
    let select = "SELECT seq, body FROM pay_acp_event ORDER BY seq LIMIT ?1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let rows = select.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    Ok(found.map_err(sql("read events of orders"))?)
}

pub(super) fn remove_event(tx: &mut Tx<'_>, seq: i64) -> Result<()> {
    run(tx, "DELETE FROM pay_acp_event WHERE seq = ?1", [seq])?;
    Ok(())
}

/// A purchase of an agent: the payment, the session it completes, and how it ended. States are 1 for
/// sent, 2 for settled, 3 for failed.
#[derive(Clone, Debug)]
pub(super) struct Purchase {
    pub(super) session: String,
    pub(super) amount: String,
    pub(super) state: i64,
    pub(super) code: String,
    pub(super) at: Timestamp,
}

/// Writes a purchase down in a state and returns whether this did it. A payment has one session, and
/// a session one payment that did not fail: it is completed once, and by whom could not be told.
pub(super) fn begin_purchase(
    tx: &mut Tx<'_>,
    payment: &str,
    session: &str,
    amount: &str,
    (state, code): (i64, Option<&str>),
) -> Result<bool> {
    let n_rows = run(
        tx,
        "INSERT INTO pay_acp_purchase VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT DO NOTHING",
        params![payment, session, amount, state, code, tx.now().as_unix_ms()],
    )?;
    Ok(n_rows == 1)
}

pub(super) fn end_purchase(tx: &mut Tx<'_>, payment: &str, state: i64, code: &str) -> Result<()> {
    run(
        tx,
        "UPDATE pay_acp_purchase SET state = ?2, code = ?3 WHERE payment = ?1 AND state = 1",
        params![payment, state, code],
    )?;
    Ok(())
}

pub(super) fn find_purchase(tx: &Tx<'_>, payment: &str) -> Result<Option<Purchase>> {
    let select =
        "SELECT session, amount, state, code, at_ms FROM pay_acp_purchase WHERE payment = ?1";
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let read = |row: &rusqlite::Row<'_>| {
            let code: Option<String> = row.get(3)?;
            Ok(Purchase {
                session: row.get(0)?,
                amount: row.get(1)?,
                state: row.get(2)?,
                code: code.unwrap_or_default(),
                at: Timestamp::from_unix_ms(row.get(4)?),
            })
        };
        select.query_row([payment], read).optional()
    });
    Ok(found.map_err(sql("read a purchase"))?)
}
