//! The audit chain's rows.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Fence, Principal, RunId, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::rows::{Bits, Hash, column, damaged, from_json, run_bits, signed, task_bits, unsigned};
use crate::audit::{Audit, EventQuery, Record, genesis};
use crate::error::{Error, Result};

/// What is to be appended; the chain adds place, time and hash.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: &'a str,
    pub(super) subject: &'a str,
    pub(super) code: &'a str,
    pub(super) actor: &'a Principal,
    pub(super) run: Option<RunId>,
    pub(super) task: Option<TaskId>,
    pub(super) fence: Option<Fence>,
    pub(super) cause: Option<u64>,
    pub(super) payload: Value,
}

impl<'a> Entry<'a> {
    /// An entry about a task of the scope's actor.
    pub(super) fn of(scope: &'a Scope, kind: &'a str, subject: &'a str, payload: Value) -> Self {
        Self {
            kind,
            subject,
            code: "",
            actor: &scope.actor,
            run: scope.run,
            task: scope.task,
            fence: scope.fence,
            cause: None,
            payload,
        }
    }
}

/// The text of a payload and its hash, worked out before the writer's turn.
#[derive(Debug)]
pub(super) struct Body {
    text: String,
    hash: Digest,
}

impl Body {
    pub(super) fn new(payload: &Value) -> Self {
        let text = payload.to_string();
        let hash = Digest::of_bytes(text.as_bytes());
        Self { text, hash }
    }
}

/// Appends one record and returns its place.
pub(super) fn append(tx: &Tx<'_>, entry: &Entry<'_>) -> Result<u64> {
    append_body(tx, entry, &Body::new(&entry.payload))
}

/// Appends one record with the given body in place of the entry's payload.
pub(super) fn append_body(tx: &Tx<'_>, entry: &Entry<'_>, body: &Body) -> Result<u64> {
    let db = tx.sql();
    let (last, previous) = head(tx)?.unwrap_or_else(|| (0, genesis()));
    let mut record = Record {
        seq: last.saturating_add(1),
        at: tx.now(),
        kind: entry.kind.to_owned(),
        subject: entry.subject.to_owned(),
        code: entry.code.to_owned(),
        actor: entry.actor.clone(),
        run: entry.run,
        task: entry.task,
        fence: entry.fence,
        cause: entry.cause,
        payload_hash: body.hash,
        payload: None,
        hash: previous,
    };
    record.hash = record.chained(&previous);
    db.prepare_cached("INSERT OR IGNORE INTO orch_payload VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![Hash(record.payload_hash), body.text]))
        .map_err(sql("keep a payload"))?;
    db.prepare_cached(
        "INSERT INTO orch_event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )
    .and_then(|mut s| {
        s.execute(params![
            signed(record.seq),
            record.at.as_unix_ms(),
            record.kind,
            record.subject,
            record.code,
            record.actor.as_str(),
            record.run.map(run_bits),
            record.task.map(task_bits),
            record.fence.map(|fence| signed(fence.0)),
            record.cause.map(signed),
            Hash(record.payload_hash),
            Hash(record.hash),
        ])
    })
    .map_err(sql("append an audit record"))?;
    db.prepare_cached("INSERT OR REPLACE INTO orch_head VALUES (1, ?1, ?2)")
        .and_then(|mut s| s.execute(params![signed(record.seq), Hash(record.hash)]))
        .map_err(sql("move the end of the audit chain"))?;
    Ok(record.seq)
}

fn head(tx: &Tx<'_>) -> Result<Option<(u64, Digest)>> {
    Ok(tx
        .sql()
        .prepare_cached("SELECT seq, hash FROM orch_head WHERE id = 1")
        .and_then(|mut s| {
            s.query_row([], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Hash>(1)?))
            })
            .optional()
        })
        .map_err(sql("read the end of the audit chain"))?
        .map(|(seq, hash)| (unsigned(seq), hash.0)))
}

fn record(row: &Row<'_>) -> Result<Record> {
    let actor: String = column(row, "actor")?;
    let body: Option<String> = column(row, "body")?;
    Ok(Record {
        seq: unsigned(column(row, "seq")?),
        at: Timestamp::from_unix_ms(column(row, "at_ms")?),
        kind: column(row, "kind")?,
        subject: column(row, "subject")?,
        code: column(row, "code")?,
        actor: Principal::new(&actor).map_err(|e| damaged(e.to_string()))?,
        run: column::<Option<Bits>>(row, "run")?.map(|bits| RunId::from_bits(bits.0)),
        task: column::<Option<Bits>>(row, "task")?.map(|bits| TaskId::from_bits(bits.0)),
        fence: column::<Option<i64>>(row, "fence")?.map(|fence| Fence(unsigned(fence))),
        cause: column::<Option<i64>>(row, "cause")?.map(unsigned),
        payload_hash: column::<Hash>(row, "payload")?.0,
        payload: body.as_deref().map(from_json).transpose()?,
        hash: column::<Hash>(row, "hash")?.0,
    })
}

const SELECT: &str =
    "SELECT e.*, p.body FROM orch_event e LEFT JOIN orch_payload p ON p.hash = e.payload";

/// Returns the place the next record will have.
pub(super) fn next(tx: &Tx<'_>) -> Result<u64> {
    Ok(head(tx)?.map_or(0, |(seq, _)| seq).saturating_add(1))
}

/// Reads the records of a task up to one, in order.
pub(super) fn of_task(
    tx: &Tx<'_>,
    task: TaskId,
    until: u64,
    mut each: impl FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let mut statement = tx
        .sql()
        .prepare_cached(&format!(
            "{SELECT} WHERE e.task = ?1 AND e.seq <= ?2 ORDER BY e.seq"
        ))
        .map_err(sql("read a task's records"))?;
    let mut rows = statement
        .query(params![task_bits(task), signed(until)])
        .map_err(sql("read a task's records"))?;
    while let Some(row) = rows.next().map_err(sql("read a task's records"))? {
        each(&record(row)?)?;
    }
    Ok(())
}

/// Returns one page of records.
pub(super) fn page(tx: &Tx<'_>, query: &EventQuery) -> Result<Vec<Record>> {
    let narrowed = match query.task {
        Some(_) => "e.task = ?2 AND (?3 IS NULL OR e.run = ?3)",
        None => "?2 IS NULL AND (?3 IS NULL OR e.run = ?3)",
    };
    let text = format!("{SELECT} WHERE e.seq > ?1 AND {narrowed} ORDER BY e.seq LIMIT ?4");
    let mut statement = tx
        .sql()
        .prepare_cached(&text)
        .map_err(sql("read audit records"))?;
    let limit = i64::try_from(EventQuery::PAGE_MAX).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![
            signed(query.after),
            query.task.map(task_bits),
            query.run.map(run_bits),
            limit
        ])
        .map_err(sql("read audit records"))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next().map_err(sql("read audit records"))? {
        page.push(record(row)?);
    }
    Ok(page)
}

/// Recomputes the chain from its first record.
pub(super) fn verify(tx: &Tx<'_>) -> Result<Audit> {
    let broken = |seq, found| Err(Error::AuditBroken { seq, found });
    let mut statement = tx
        .sql()
        .prepare(&format!("{SELECT} ORDER BY e.seq"))
        .map_err(sql("read the audit chain"))?;
    let mut rows = statement.query([]).map_err(sql("read the audit chain"))?;
    let (mut seq, mut previous) = (0_u64, genesis());
    while let Some(row) = rows.next().map_err(sql("read the audit chain"))? {
        let expected = seq.saturating_add(1);
        let Ok(found) = record(row) else {
            return broken(expected, "cannot be read");
        };
        if found.seq != expected {
            return broken(expected, "is missing");
        }
        if found.chained(&previous) != found.hash {
            return broken(expected, "was altered or moved");
        }
        let body: Option<String> = column(row, "body")?;
        if body.is_some_and(|body| Digest::of_bytes(body.as_bytes()) != found.payload_hash) {
            return broken(expected, "has an altered payload");
        }
        (seq, previous) = (found.seq, found.hash);
    }
    match head(tx)? {
        Some((head_seq, _)) if head_seq > seq => broken(seq.saturating_add(1), "was cut off"),
        Some((head_seq, hash)) if head_seq == seq && hash == previous => {
            Ok(Audit::new(seq, previous))
        }
        None if seq == 0 => Ok(Audit::new(0, previous)),
        _ => broken(seq, "is not the end the chain was closed with"),
    }
}
