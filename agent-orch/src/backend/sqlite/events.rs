//! The audit chain's rows.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Event, Fence, Principal, RunId, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::rows::{Bits, Hash, column, damaged, from_json, run_bits, signed, task_bits, unsigned};
use super::{agents, audit};
use crate::audit::{
    Audit, Checker, Correlation, EventQuery, RECORD_VERSION, Record, Verification, broken, genesis,
};
use crate::error::Result;

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
    let correlation = correlation(tx, entry)?;
    append_body(tx, entry, correlation, &Body::new(&entry.payload))
}

/// Appends a host's own record, and has the registry follow what it says.
pub(super) fn note(tx: &Tx<'_>, event: Event) -> Result<u64> {
    agents::fold(tx, &event)?;
    let entry = Entry {
        kind: &event.kind,
        subject: "",
        code: "",
        actor: &event.actor,
        run: event.run,
        task: event.task,
        fence: event.fence,
        cause: None,
        payload: event.payload,
    };
    append(tx, &entry)
}

/// What a record belongs to: the root of its task, itself for a task there is none of, or its run.
fn correlation(tx: &Tx<'_>, entry: &Entry<'_>) -> Result<Option<Correlation>> {
    let Some(task) = entry.task else {
        return Ok(entry.run.map(Correlation::Run));
    };
    let root: Option<Option<Bits>> = tx
        .sql()
        .prepare_cached("SELECT root FROM orch_task WHERE id = ?1")
        .and_then(|mut s| s.query_row([task_bits(task)], |row| row.get(0)).optional())
        .map_err(sql("find the root of a task"))?;
    let root = root
        .flatten()
        .map_or(task, |root| TaskId::from_bits(root.0));
    Ok(Some(Correlation::Task(root)))
}

/// Appends one record with the given body in place of the entry's payload.
pub(super) fn append_body(
    tx: &Tx<'_>,
    entry: &Entry<'_>,
    correlation: Option<Correlation>,
    body: &Body,
) -> Result<u64> {
    let db = tx.sql();
    let (last, previous) = last(tx)?;
    let mut record = Record {
        version: RECORD_VERSION,
        seq: last.saturating_add(1),
        at: tx.now(),
        kind: entry.kind.to_owned(),
        subject: entry.subject.to_owned(),
        code: entry.code.to_owned(),
        actor: entry.actor.clone(),
        run: entry.run,
        task: entry.task,
        correlation,
        fence: entry.fence,
        cause: entry.cause,
        payload_hash: body.hash,
        payload: None,
        body: None,
        previous,
        hash: previous,
    };
    record.hash = record.chained(&previous).unwrap_or(previous);
    db.prepare_cached("INSERT INTO orch_body VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![signed(record.seq), body.text]))
        .map_err(sql("keep a payload"))?;
    db.prepare_cached(
        "INSERT INTO orch_event
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
            record.version,
            record.correlation.map(|root| Bits(root.to_bits())),
        ])
    })
    .map_err(sql("append an audit record"))?;
    db.prepare_cached("INSERT OR REPLACE INTO orch_head VALUES (1, ?1, ?2)")
        .and_then(|mut s| s.execute(params![signed(record.seq), Hash(record.hash)]))
        .map_err(sql("move the end of the audit chain"))?;
    Ok(record.seq)
}

/// Returns the end of the chain.
pub(super) fn last(tx: &Tx<'_>) -> Result<(u64, Digest)> {
    Ok(head(tx)?.unwrap_or_else(|| (0, genesis())))
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

/// Returns the hash of a record.
pub(super) fn hash_of(tx: &Tx<'_>, seq: u64) -> Result<Option<Digest>> {
    let hash = tx
        .sql()
        .prepare_cached("SELECT hash FROM orch_event WHERE seq = ?1")
        .and_then(|mut s| s.query_row([signed(seq)], |row| row.get(0)).optional())
        .map_err(sql("read the hash of a record"))?;
    Ok(hash.map(|Hash(hash)| hash))
}

/// Reads a count that is never negative; one that is was altered.
fn counted(n: i64) -> Result<u64> {
    u64::try_from(n).map_err(|_negative| damaged("a count is negative".to_owned()))
}

/// Reads a record whose predecessor has the given hash.
fn record(row: &Row<'_>, previous: Digest) -> Result<Record> {
    let actor: String = column(row, "actor")?;
    let body: Option<String> = column(row, "body")?;
    let task = column::<Option<Bits>>(row, "task")?.map(|bits| TaskId::from_bits(bits.0));
    let correlation = column::<Option<Bits>>(row, "correlation")?.map(|Bits(bits)| match task {
        Some(_) => Correlation::Task(TaskId::from_bits(bits)),
        None => Correlation::Run(RunId::from_bits(bits)),
    });
    Ok(Record {
        version: column(row, "version")?,
        seq: counted(column(row, "seq")?)?,
        at: Timestamp::from_unix_ms(column(row, "at_ms")?),
        kind: column(row, "kind")?,
        subject: column(row, "subject")?,
        code: column(row, "code")?,
        actor: Principal::new(&actor).map_err(|e| damaged(e.to_string()))?,
        run: column::<Option<Bits>>(row, "run")?.map(|bits| RunId::from_bits(bits.0)),
        task,
        correlation,
        fence: column::<Option<i64>>(row, "fence")?
            .map(counted)
            .transpose()?
            .map(Fence),
        cause: column::<Option<i64>>(row, "cause")?
            .map(counted)
            .transpose()?,
        payload_hash: column::<Hash>(row, "payload")?.0,
        payload: None,
        body,
        previous,
        hash: column::<Hash>(row, "hash")?.0,
    })
}

/// Reads a record of [`SELECT`] with its payload.
fn whole(row: &Row<'_>) -> Result<Record> {
    let previous = column::<Option<Hash>>(row, "previous")?.map_or_else(genesis, |hash| hash.0);
    let mut record = record(row, previous)?;
    record.payload = record.body.as_deref().map(from_json).transpose()?;
    Ok(record)
}

/// Records with the text of their payload and the hash before theirs.
const SELECT: &str = "SELECT e.*, b.body,
        (SELECT p.hash FROM orch_event p WHERE p.seq = e.seq - 1) AS previous
     FROM orch_event e LEFT JOIN orch_body b ON b.seq = e.seq";

/// Returns the place the next record will have.
pub(super) fn next(tx: &Tx<'_>) -> Result<u64> {
    Ok(last(tx)?.0.saturating_add(1))
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
        each(&whole(row)?)?;
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
        page.push(whole(row)?);
    }
    Ok(page)
}

/// Recomputes the chain from its first record, or from a root that is trusted.
pub(super) fn verify(tx: &Tx<'_>, how: Verification) -> Result<Audit> {
    let start = how.start().map(|root| (root.seq, root.head));
    let mut checker = Checker::new(how)?;
    if let Some((seq, hash)) = start
        && hash_of(tx, seq)? != Some(hash)
    {
        return broken(seq, "is not the one a signed root stands for");
    }
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT e.*, b.body FROM orch_event e LEFT JOIN orch_body b ON b.seq = e.seq
             WHERE e.seq > ?1 OR (?1 = 0 AND e.seq <= 0) ORDER BY e.seq",
        )
        .map_err(sql("read the audit chain"))?;
    let mut rows = statement
        .query([signed(checker.last().0)])
        .map_err(sql("read the audit chain"))?;
    while let Some(row) = rows.next().map_err(sql("read the audit chain"))? {
        let Ok(found) = record(row, checker.last().1) else {
            return checker.broken_next("cannot be read");
        };
        checker.record(&found)?;
    }
    let (seq, hash) = checker.last();
    audit::compare_roots(tx, &checker, start.map_or(0, |(seq, _)| seq))?;
    match head(tx)? {
        Some((head_seq, _)) if head_seq > seq => checker.broken_next("was cut off"),
        Some((head_seq, head)) if head_seq == seq && head == hash => checker.finish(),
        None if seq == 0 => checker.finish(),
        _ => broken(seq, "is not the end the chain was closed with"),
    }
}
