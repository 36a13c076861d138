//! Answers that are given again: the idempotency rules of the Agentic Commerce Protocol
//! (version 2026-04-17) for whoever serves requests that move money.

use std::time::Duration;

use agent_core::store::{Tx, sql};
use agent_core::{Digest, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::super::statement::run;
use crate::error::{Error, Result};
use crate::journal::Difference;

/// An answer as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status or another small number.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The longest body kept in bytes.
    pub const BODY_BYTES_MAX: usize = 1 << 20;

    /// Creates an answer.
    #[must_use]
    pub const fn new(status: u16, body: String) -> Self {
        Self { status, body }
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request that was answered must not run again"]
#[non_exhaustive]
pub enum Begin {
    /// Run it, then [`finish`].
    Run,
    /// Give this answer again, marked as replayed.
    Replay(Answer),
}

/// Begins a request of `scope` (who asks, and for which operation) under its key, or finds its
/// answer. Call it in the transaction that does what the request is for, or let `lease` be longer
/// than the request can run: after that it may run again.
///
/// # Errors
/// `Conflict`: [`Error::KeyReused`] for a key with another body, [`Error::InFlight`] while the
/// first call runs.
pub fn begin(
    tx: &mut Tx<'_>,
    scope: &str,
    key: &IdempotencyKey,
    request: &Digest,
    lease: Duration,
) -> Result<Begin> {
    type Row = ([u8; 32], Option<u16>, Option<String>, i64);
    if scope.is_empty() || scope.len() > 512 {
        return Err(Error::invalid("scope", "1 to 512 bytes"));
    }
    let row: Option<Row> = tx
        .sql()
        .prepare_cached(
            "SELECT request, status, body, lease_ms FROM pay_replay WHERE scope = ?1 AND key = ?2",
        )
        .and_then(|mut select| {
            let read =
                |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            select
                .query_row(params![scope, key.as_str()], read)
                .optional()
        })
        .map_err(sql("find an answer"))?;
    let now = tx.now();
    if let Some((before, status, body, lease_ms)) = row {
        if Digest::from_bytes(before) != *request {
            let (key, differs) = (key.clone(), Difference::Entries);
            return Err(Error::KeyReused { key, differs });
        }
        if let (Some(status), Some(body)) = (status, body) {
            return Ok(Begin::Replay(Answer { status, body }));
        }
        let lease = Timestamp::from_unix_ms(lease_ms);
        if now < lease {
            let retry_after = lease.since(now);
            return Err(Error::InFlight {
                key: key.clone(),
                retry_after,
            });
        }
    }
    run(
        tx,
        "INSERT OR REPLACE INTO pay_replay VALUES (?1, ?2, ?3, NULL, NULL, ?4, ?5)",
        params![
            scope,
            key.as_str(),
            request.as_bytes(),
            now.as_unix_ms(),
            now.after(lease).as_unix_ms()
        ],
    )?;
    Ok(Begin::Run)
}

/// Keeps the answer of a request that began. One with a status of 500 or more is not kept: the
/// key is free again.
///
/// # Errors
/// `NotFound` if the request did not begin, `Invalid` for a body that is too long.
pub fn finish(tx: &mut Tx<'_>, scope: &str, key: &IdempotencyKey, answer: &Answer) -> Result<()> {
    if answer.body.len() > Answer::BODY_BYTES_MAX {
        return Err(Error::invalid("answer", "a body of at most 1 MiB"));
    }
    let of = "WHERE scope = ?1 AND key = ?2 AND status IS NULL";
    let n_rows = if answer.status >= 500 {
        run(
            tx,
            &format!("DELETE FROM pay_replay {of}"),
            params![scope, key.as_str()],
        )?
    } else {
        let statement = format!("UPDATE pay_replay SET status = ?3, body = ?4 {of}");
        run(
            tx,
            &statement,
            params![scope, key.as_str(), answer.status, answer.body],
        )?
    };
    match n_rows {
        0 => Err(Error::KeyNotFound { key: key.clone() }),
        _ => Ok(()),
    }
}

/// Keeps an answer that was given until a moment at least, whatever [`purge`] is asked for: call it after
/// [`finish`] where the request can be made until then. A key that has no answer stays as it is.
///
/// # Errors
/// Those of the store.
pub fn keep_until(
    tx: &mut Tx<'_>,
    scope: &str,
    key: &IdempotencyKey,
    until: Timestamp,
) -> Result<()> {
    // The lease of what is answered has no other use.
    let update = "UPDATE pay_replay SET lease_ms = max(lease_ms, ?3) \
                  WHERE scope = ?1 AND key = ?2 AND status IS NOT NULL";
    run(tx, update, params![scope, key.as_str(), until.as_unix_ms()])?;
    Ok(())
}

/// The shortest time answers are kept: a day.
const KEPT_MIN: Duration = Duration::from_secs(86_400);

/// Returns since when answers are kept that are kept so long, or as long as they must be, in ms.
pub(crate) fn kept_since(now: Timestamp, kept: Duration) -> i64 {
    let kept_ms = i64::try_from(kept.max(KEPT_MIN).as_millis()).unwrap_or(i64::MAX);
    now.as_unix_ms().saturating_sub(kept_ms)
}

/// Forgets at most `limit` answers older than `kept` whose scope begins with `prefix`, and returns how
/// many. They are kept a day at least, whatever `kept` says. Who keeps answers in a store says when its
/// own may go: for others an answer may be what keeps a payment from being used twice.
///
/// # Errors
/// `Invalid` for an empty prefix; those of the store.
pub fn purge(tx: &mut Tx<'_>, prefix: &str, kept: Duration, limit: usize) -> Result<usize> {
    if prefix.is_empty() {
        return Err(Error::invalid("prefix", "the beginning of scopes"));
    }
    let (now_ms, before_ms) = (tx.now().as_unix_ms(), kept_since(tx.now(), kept));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // A range of the primary key: what others keep may be much, and is not read. No text that begins
    // with the prefix is beyond the last character after it.
    run(
        tx,
        "DELETE FROM pay_replay WHERE (scope, key) IN (SELECT scope, key FROM pay_replay \
         WHERE scope >= ?1 AND scope < ?1 || char(1114111) \
         AND +at_ms < ?2 AND lease_ms < ?3 LIMIT ?4)",
        params![prefix, before_ms, now_ms, limit],
    )
}
