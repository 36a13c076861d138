//! Waits: beginning one, looking whether it has ended, waking tasks whose moment came.

mod rows;

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Scope, Timestamp};
use rusqlite::params;
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{Bits, Hash, run_bits, task_bits, to_json};
use super::{claim, signals, tasks};
use crate::error::{Error, Result};
use crate::task::{Lease, Task};
use crate::wait::{First, Happened, NewWait, Resolution, Source, Wait, WaitId};
use rows::{Outcome, Row, Stored, load};

pub(super) use rows::{is_waiting, of_task, open};

/// The most waits one sweep wakes; the rest are due in the next one, which follows at once.
const RING_MAX: i64 = 4_096;

/// Begins a wait or finds it, and ends it if one of its sources has happened.
pub(super) fn wait(tx: &Tx<'_>, scope: &Scope, lease: &Lease, new: &NewWait) -> Result<Wait> {
    claim::check_lease(tx, lease)?;
    new.check()?;
    let id = WaitId::of(lease, &new.step);
    let digest = digest(&new.sources)?;
    let row = match load(tx, id)? {
        Some(row) if row.digest != digest => {
            return Err(Error::Drift {
                task: lease.task,
                name: new.step.name.clone(),
                ordinal: new.step.ordinal,
            });
        }
        Some(row) => row,
        None => begin(tx, scope, lease, new, digest)?,
    };
    if row.wait.first.is_some() {
        return Ok(row.wait);
    }
    let Some((at, source, signal)) = earliest(tx, &row)? else {
        return Ok(row.wait);
    };
    let happened = match signal {
        Some(seq) => signals::take(tx, lease.task, seq, id)?,
        None => what_ended(tx, &row, source)?,
    };
    end(tx, scope, lease, &row, First { source, happened }, at)
}

/// Digests what a resumed attempt must wait for again: the sources without their moments, which
/// the first look fixed.
fn digest(sources: &[Source]) -> Result<Digest> {
    let kinds: Vec<Stored> = sources
        .iter()
        .map(|source| match source {
            Source::Due(_) => Stored::Due(0),
            other => Stored::of(other, Timestamp::EPOCH),
        })
        .collect();
    Ok(Digest::of_json(&kinds)?)
}

fn begin(tx: &Tx<'_>, scope: &Scope, lease: &Lease, new: &NewWait, digest: Digest) -> Result<Row> {
    let id = WaitId::of(lease, &new.step);
    for source in &new.sources {
        if let Source::Awakeable(other) = source {
            let known = load(tx, *other)?.filter(|row| row.wait.task == lease.task);
            known.ok_or_else(|| Error::not_found("awakeable of this task", other.to_string()))?;
        }
    }
    let stored = |source| Stored::of(source, tx.now());
    let sources: Vec<Stored> = new.sources.iter().map(stored).collect();
    let due = sources.iter().filter_map(|source| match source {
        Stored::Due(ms) => Some(*ms),
        _ => None,
    });
    let run = tasks::load(tx, lease.task)?.run;
    tx.sql()
        .prepare_cached(
            "INSERT INTO orch_wait
             (id, run, task, round, stage, name, ordinal, digest, sources, due_ms, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .and_then(|mut s| {
            s.execute(params![
                Bits(id.to_bits()),
                run_bits(run),
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                new.step.name,
                new.step.ordinal,
                Hash(digest),
                to_json(&sources).unwrap_or_default(),
                due.min(),
                tx.now().as_unix_ms(),
            ])
        })
        .map_err(sql("begin a wait"))?;
    let payload = json!({
        "wait": id, "step": new.step.name, "ordinal": new.step.ordinal, "sources": sources,
    });
    let mut entry = Entry::of(scope, "wait.began", &new.step.name, payload);
    (entry.run, entry.task, entry.fence) = (Some(run), Some(lease.task), Some(lease.fence));
    events::append(tx, &entry)?;
    load(tx, id)?.ok_or_else(|| Error::not_found("wait", id.to_string()))
}

/// Finds the source that happened first: when, which, and the signal if it is one.
fn earliest(tx: &Tx<'_>, row: &Row) -> Result<Option<(Timestamp, usize, Option<i64>)>> {
    let mut first: Option<(Timestamp, usize, Option<i64>)> = None;
    for (place, source) in row.wait.sources.iter().enumerate() {
        let mut signal = None;
        let at = match source {
            Source::Due(due) => Some(due.at(tx.now())).filter(|at| *at <= tx.now()),
            Source::Answer => row.answered,
            Source::Awakeable(id) => match load(tx, *id)? {
                Some(other) => other
                    .answered
                    .or_else(|| other.wait.due().filter(|at| *at <= tx.now())),
                None => None,
            },
            Source::Signal(name) => match signals::next(tx, row.wait.task, name)? {
                Some((seq, at)) => {
                    signal = Some(seq);
                    Some(at)
                }
                None => None,
            },
        };
        if let Some(at) = at
            && first.is_none_or(|(earlier, ..)| at < earlier)
        {
            first = Some((at, place, signal));
        }
    }
    Ok(first)
}

/// Returns what a source that is no signal came to.
fn what_ended(tx: &Tx<'_>, row: &Row, place: usize) -> Result<Happened> {
    let answer = match row.wait.sources.get(place) {
        Some(Source::Answer) => row.answer.clone(),
        Some(Source::Awakeable(id)) => load(tx, *id)?.and_then(|other| other.answer),
        _ => None,
    };
    Ok(answer.unwrap_or(Happened::Due))
}

/// Records what ended a wait.
fn end(
    tx: &Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    row: &Row,
    first: First,
    at: Timestamp,
) -> Result<Wait> {
    let outcome = to_json(&Outcome {
        source: first.source,
        happened: first.happened.clone(),
    })?;
    tx.sql()
        .prepare_cached("UPDATE orch_wait SET state = 'done', outcome = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![Bits(row.wait.id.to_bits()), outcome]))
        .map_err(sql("end a wait"))?;
    let payload = json!({
        "wait": row.wait.id, "step": row.wait.step.name, "ordinal": row.wait.step.ordinal,
        "source": first.source, "at": at, "result": Digest::of_bytes(outcome.as_bytes()),
    });
    let mut entry = Entry::of(scope, "wait.ended", &row.wait.step.name, payload);
    (entry.run, entry.task, entry.fence) =
        (Some(row.wait.run), Some(lease.task), Some(lease.fence));
    events::append(tx, &entry)?;
    Ok(Wait {
        first: Some(first),
        ..row.wait.clone()
    })
}

/// Answers an awakeable once.
pub(super) fn resolve(
    tx: &Tx<'_>,
    scope: &Scope,
    id: WaitId,
    resolution: &Resolution,
) -> Result<Wait> {
    let row = load(tx, id)?
        .filter(|row| row.wait.sources.contains(&Source::Answer))
        .ok_or_else(|| Error::not_found("awakeable", id.to_string()))?;
    let refused = |state: &str| Error::WrongState {
        task: row.wait.task,
        verb: "take this answer",
        state: state.to_owned(),
    };
    let by = resolution.by.clone();
    let (answer, kind) = match resolution.result.clone() {
        Ok(value) => (Happened::Resolved { value, by }, "wait.resolved"),
        Err(failure) => (Happened::Rejected { failure, by }, "wait.rejected"),
    };
    match &row.answer {
        Some(given) if given.clone().into_answer() == resolution.result => return Ok(row.wait),
        Some(_) => return Err(refused("already answered otherwise")),
        None if row.wait.due().is_some_and(|due| due <= tx.now()) => {
            return Err(refused("past its deadline"));
        }
        None if row.state != "open" => return Err(refused("no longer waiting")),
        None => {}
    }
    let stored = to_json(&answer)?;
    if stored.len() > Resolution::VALUE_BYTES_MAX {
        let reason = "the value is over 256 KiB; send where it lies";
        return Err(Error::invalid("resolution", reason));
    }
    let payload = json!({ "wait": id, "result": Digest::of_bytes(stored.as_bytes()) });
    tx.sql()
        .prepare_cached("UPDATE orch_wait SET answer = ?2, answered_ms = ?3 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![Bits(id.to_bits()), stored, tx.now().as_unix_ms()]))
        .map_err(sql("answer an awakeable"))?;
    tasks::wake(tx, row.wait.task)?;
    let mut entry = Entry::of(scope, kind, &row.wait.step.name, payload);
    (entry.run, entry.task, entry.actor) =
        (Some(row.wait.run), Some(row.wait.task), &resolution.by);
    events::append(tx, &entry)?;
    Ok(row.wait)
}

/// Wakes the tasks of waits whose moment came.
pub(super) fn ring(tx: &Tx<'_>, scope: &Scope) -> Result<u64> {
    let due: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "UPDATE orch_wait SET is_rung = 1 WHERE id IN (
                    SELECT id FROM orch_wait
                    WHERE state = 'open' AND is_rung = 0 AND due_ms <= ?1
                    ORDER BY due_ms LIMIT ?2)
                 RETURNING id",
            )
            .map_err(sql("find waits that are due"))?;
        let rows = statement.query_map(params![tx.now().as_unix_ms(), RING_MAX], |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("find waits that are due"))?
    };
    for id in &due {
        let Some(row) = load(tx, WaitId::from_bits(id.0))? else {
            continue;
        };
        tasks::wake(tx, row.wait.task)?;
        let payload = json!({ "wait": row.wait.id });
        let mut entry = Entry::of(scope, "wait.due", &row.wait.step.name, payload);
        (entry.run, entry.task) = (Some(row.wait.run), Some(row.wait.task));
        events::append(tx, &entry)?;
    }
    Ok(u64::try_from(due.len()).unwrap_or(u64::MAX))
}

/// Returns the next moment at which [`ring`] has something to do.
pub(super) fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>> {
    let next: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT min(due_ms) FROM orch_wait WHERE state = 'open' AND is_rung = 0")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(sql("find the next wait that is due"))?;
    Ok(next.map(Timestamp::from_unix_ms))
}

/// Closes the waits of a stage or round that is over, and forgets the signals of a task that is.
pub(super) fn close(tx: &Tx<'_>, before: &Task, after: &Task) -> Result<()> {
    let is_over = after.status.is_terminal();
    if !is_over && (after.round, after.stage) == (before.round, before.stage) {
        return Ok(());
    }
    tx.sql()
        .prepare_cached("UPDATE orch_wait SET state = 'closed' WHERE task = ?1 AND state = 'open'")
        .and_then(|mut s| s.execute([task_bits(after.id)]))
        .map_err(sql("close waits"))?;
    if is_over {
        signals::forget(tx, after.id)?;
    }
    Ok(())
}

/// Lets a wait begin anew; the signal it took is there again.
pub(super) fn forget(tx: &Tx<'_>, id: WaitId) -> Result<()> {
    let id = Bits(id.to_bits());
    for text in [
        "UPDATE orch_signal SET wait = NULL WHERE wait = ?1",
        "DELETE FROM orch_wait WHERE id = ?1",
    ] {
        tx.sql()
            .prepare_cached(text)
            .and_then(|mut s| s.execute([id]))
            .map_err(sql("forget a wait"))?;
    }
    Ok(())
}
