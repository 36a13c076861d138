//! Signed roots and erasure.

use std::collections::BTreeMap;

use agent_core::store::{Tx, sql};
use agent_core::{RunId, Scope, TaskId, Timestamp};
use agent_identity::Signature;
use rusqlite::{Row, params};
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{Hash, column, damaged, run_bits, signed, task_bits, unsigned};
use super::tasks;
use crate::audit::{Audit, Checker, ErasePayloads, Erased, Root, broken};
use crate::error::{Error, Result};

/// What else a task's text lies in. `?1` is the task.
const TEXT_OF_TASK: &[&str] = &[
    "UPDATE orch_task SET input = 'null', output = NULL, feedback = '[]', failure = NULL,
        choices = '{}' WHERE id = ?1",
    "UPDATE orch_step SET outcome = NULL WHERE task = ?1",
    "DELETE FROM orch_request WHERE task = ?1",
    "DELETE FROM orch_undo WHERE task = ?1",
    "DELETE FROM orch_wait WHERE task = ?1",
    "DELETE FROM orch_signal WHERE task = ?1",
    // What was not delivered by then is not delivered; the next one of its key is.
    "DELETE FROM orch_outbox WHERE task = ?1",
    "UPDATE orch_outbox SET is_head = 1 WHERE is_head = 0 AND ?1 IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM orch_outbox o WHERE o.run = orch_outbox.run AND o.topic = orch_outbox.topic
            AND o.key = orch_outbox.key AND o.seq < orch_outbox.seq)",
];

/// Returns the end of the chain and what is signed of it.
pub(super) fn head(tx: &Tx<'_>) -> Result<Audit> {
    let (records, head) = events::last(tx)?;
    let (roots, signed): (i64, Option<i64>) = tx
        .sql()
        .prepare_cached("SELECT count(*), max(seq) FROM orch_root")
        .and_then(|mut s| s.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(sql("read the newest root"))?;
    Ok(Audit {
        roots: unsigned(roots),
        signed: unsigned(signed.unwrap_or(0)),
        ..Audit::new(records, head)
    })
}

/// Stores a root and takes note of it in the chain.
pub(super) fn seal(tx: &Tx<'_>, scope: &Scope, root: &Root) -> Result<u64> {
    root.check()?;
    let (end, _) = events::last(tx)?;
    let lag = end.saturating_sub(root.seq);
    if events::hash_of(tx, root.seq)? != Some(root.head)
        || usize::try_from(lag).map_or(true, |lag| lag >= Root::LAG_MAX)
    {
        return Err(Error::invalid(
            "root",
            "it does not stand for one of the latest records",
        ));
    }
    let payload = serde_json::to_value(root).map_err(|e| Error::invalid("root", e.to_string()))?;
    let record = events::append(tx, &Entry::of(scope, Root::KIND, "", payload))?;
    tx.sql()
        .prepare_cached("INSERT INTO orch_root VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .and_then(|mut s| {
            s.execute(params![
                signed(record),
                signed(root.seq),
                root.at.as_unix_ms(),
                Hash(root.head),
                root.signer.to_string(),
                root.signature.as_bytes().as_slice(),
            ])
        })
        .map_err(sql("store a root"))?;
    Ok(record)
}

/// Returns the roots that stand for more than `after` records, oldest first.
pub(super) fn roots(tx: &Tx<'_>, after: u64) -> Result<Vec<Root>> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT * FROM orch_root WHERE seq > ?1 ORDER BY record LIMIT ?2")
        .map_err(sql("read roots"))?;
    let limit = i64::try_from(Root::PAGE_MAX).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![signed(after), limit])
        .map_err(sql("read roots"))?;
    let mut roots = Vec::new();
    while let Some(row) = rows.next().map_err(sql("read roots"))? {
        roots.push(parse(row)?);
    }
    Ok(roots)
}

fn parse(row: &Row<'_>) -> Result<Root> {
    let signature: Vec<u8> = column(row, "signature")?;
    let signature = <[u8; 64]>::try_from(signature)
        .map_err(|_length| damaged("a signature has not 64 bytes".to_owned()))?;
    Ok(Root {
        seq: unsigned(column(row, "seq")?),
        head: column::<Hash>(row, "head")?.0,
        at: Timestamp::from_unix_ms(column(row, "at_ms")?),
        signer: column::<String>(row, "signer")?.parse()?,
        signature: Signature::from_bytes(signature),
    })
}

/// Compares the stored roots with those the chain took note of, in records after `start`.
pub(super) fn compare_roots(tx: &Tx<'_>, checker: &Checker, start: u64) -> Result<()> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT * FROM orch_root WHERE record > ?1 ORDER BY record")
        .map_err(sql("read roots"))?;
    let mut rows = statement
        .query([signed(start)])
        .map_err(sql("read roots"))?;
    let mut noted: BTreeMap<u64, &Root> = checker.roots().iter().map(|(n, r)| (*n, r)).collect();
    let (last, _) = checker.last();
    while let Some(row) = rows.next().map_err(sql("read roots"))? {
        let record = unsigned(column(row, "record")?);
        if record > last {
            return checker.broken_next("was cut off: a signed root knows it");
        }
        let same = noted.remove(&record);
        if same.is_none() || parse(row).ok().as_ref() != same {
            return broken(record, "has an altered root");
        }
    }
    match noted.keys().next() {
        Some(record) => broken(*record, "has a root that was removed"),
        None => Ok(()),
    }
}

/// Erases text and takes note of it in the chain.
pub(super) fn erase(tx: &Tx<'_>, scope: &Scope, what: ErasePayloads) -> Result<Erased> {
    let mut entry = Entry::of(scope, ErasePayloads::KIND, "", json!(what));
    let n_payloads = match what {
        ErasePayloads::Record(seq) => erase_record(tx, seq)?,
        ErasePayloads::Task(task) => {
            entry.task = Some(task);
            let task = tasks::load(tx, task)?;
            entry.run = Some(task.run);
            erase_task(tx, &task)?;
            delete_bodies(tx, "task = ?1", task_bits(task.id))?
        }
        ErasePayloads::Run(run) => {
            (entry.run, entry.task) = (Some(run), None);
            for task in tasks_of(tx, run)? {
                erase_task(tx, &tasks::load(tx, task)?)?;
            }
            delete_bodies(tx, "run = ?1", run_bits(run))?
        }
    };
    let record = events::append(tx, &entry)?;
    Ok(Erased::new(record, n_payloads))
}

fn erase_record(tx: &Tx<'_>, seq: u64) -> Result<u64> {
    let kind: String = tx
        .sql()
        .prepare_cached("SELECT kind FROM orch_event WHERE seq = ?1")
        .and_then(|mut s| s.query_row([signed(seq)], |row| row.get(0)))
        .map_err(|_absent| Error::not_found("audit record", seq.to_string()))?;
    if ErasePayloads::is_kept(&kind) {
        let reason = "erasures and signed roots hold the chain together";
        return Err(Error::invalid("erase", reason));
    }
    delete_bodies(tx, "seq = ?1", signed(seq))
}

/// Blanks what the tables of work say about a task that has ended.
fn erase_task(tx: &Tx<'_>, task: &crate::task::Task) -> Result<()> {
    if !task.status.is_terminal() {
        return Err(Error::WrongState {
            task: task.id,
            verb: "be erased",
            state: task.status.to_string(),
        });
    }
    for statement in TEXT_OF_TASK {
        tx.sql()
            .prepare_cached(statement)
            .and_then(|mut s| s.execute([task_bits(task.id)]))
            .map_err(sql("erase a task"))?;
    }
    Ok(())
}

fn tasks_of(tx: &Tx<'_>, run: RunId) -> Result<Vec<TaskId>> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT id FROM orch_task WHERE run = ?1")
        .map_err(sql("list the tasks of a run"))?;
    let ids = statement
        .query_map([run_bits(run)], |row| row.get::<_, super::rows::Bits>(0))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(sql("list the tasks of a run"))?;
    Ok(ids.into_iter().map(|id| TaskId::from_bits(id.0)).collect())
}

fn delete_bodies(tx: &Tx<'_>, narrowed: &str, by: impl rusqlite::ToSql) -> Result<u64> {
    let text = format!(
        "DELETE FROM orch_body WHERE seq IN
         (SELECT seq FROM orch_event WHERE {narrowed} AND kind NOT IN (?2, ?3))"
    );
    let n_deleted = tx
        .sql()
        .prepare_cached(&text)
        .and_then(|mut s| s.execute(params![by, ErasePayloads::KIND, Root::KIND]))
        .map_err(sql("erase payloads"))?;
    Ok(u64::try_from(n_deleted).unwrap_or(u64::MAX))
}
