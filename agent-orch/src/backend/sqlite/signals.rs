//! Signals: kept in the order they came until a wait takes them.

use agent_core::store::{Tx, sql};
use agent_core::{Principal, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{Bits, damaged, from_json, signed, task_bits};
use super::{tasks, waits};
use crate::error::{Error, Result};
use crate::wait::{Happened, Signal, Source, WaitId};

/// Keeps a signal for a task and wakes it if it waits for one; returns whether it was not there.
pub(super) fn send(tx: &Tx<'_>, scope: &Scope, id: TaskId, signal: &Signal) -> Result<bool> {
    signal.check()?;
    let payload = signal.payload.to_string();
    let task = tasks::load(tx, id)?;
    let wrong = |state: String| Error::WrongState {
        task: id,
        verb: "take this signal",
        state,
    };
    if task.status.is_terminal() {
        return Err(wrong(task.status.to_string()));
    }
    if let Some((name, known)) = find(tx, id, signal)? {
        return if (name.as_str(), known.as_str()) == (signal.name.as_str(), payload.as_str()) {
            Ok(false)
        } else {
            Err(wrong("holding another one of the same key".to_owned()))
        };
    }
    let seq = last(tx, id)?.saturating_add(1);
    if seq > signed(Signal::PER_TASK_MAX) {
        return Err(Error::LimitReached {
            what: "signals of one task",
            limit: Signal::PER_TASK_MAX,
        });
    }
    let unread_max = u64::try_from(Signal::UNREAD_MAX).unwrap_or(u64::MAX);
    if n_unread(tx, id, &signal.name)? >= signed(unread_max) {
        return Err(Error::LimitReached {
            what: "unread signals of one name",
            limit: unread_max,
        });
    }
    let by = signal.by.as_ref().unwrap_or(&scope.actor);
    tx.sql()
        .prepare_cached("INSERT INTO orch_signal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)")
        .and_then(|mut s| {
            s.execute(params![
                task_bits(id),
                seq,
                signal.name,
                signal.key.as_str(),
                payload,
                by.as_str(),
                tx.now().as_unix_ms(),
            ])
        })
        .map_err(sql("keep a signal"))?;
    let is_awaited = waits::of_task(tx, id)?
        .iter()
        .flat_map(|wait| &wait.sources)
        .any(|source| matches!(source, Source::Signal(name) if *name == signal.name));
    if is_awaited {
        tasks::wake(tx, id)?;
    }
    let payload = json!({ "name": signal.name, "key": signal.key, "payload": signal.payload });
    let mut entry = Entry::of(scope, "signal.sent", &signal.name, payload);
    (entry.run, entry.task, entry.actor) = (Some(task.run), Some(id), by);
    events::append(tx, &entry)?;
    Ok(true)
}

fn find(tx: &Tx<'_>, task: TaskId, signal: &Signal) -> Result<Option<(String, String)>> {
    Ok(tx
        .sql()
        .prepare_cached("SELECT name, payload FROM orch_signal WHERE task = ?1 AND key = ?2")
        .and_then(|mut s| {
            s.query_row(params![task_bits(task), signal.key.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
        })
        .map_err(sql("find a signal"))?)
}

fn last(tx: &Tx<'_>, task: TaskId) -> Result<i64> {
    let last: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT max(seq) FROM orch_signal WHERE task = ?1")
        .and_then(|mut s| s.query_row([task_bits(task)], |row| row.get(0)))
        .map_err(sql("count signals"))?;
    Ok(last.unwrap_or(0))
}

fn n_unread(tx: &Tx<'_>, task: TaskId, name: &str) -> Result<i64> {
    Ok(tx
        .sql()
        .prepare_cached(
            "SELECT count(*) FROM orch_signal WHERE task = ?1 AND name = ?2 AND wait IS NULL",
        )
        .and_then(|mut s| s.query_row(params![task_bits(task), name], |row| row.get(0)))
        .map_err(sql("count signals"))?)
}

/// Returns the next unread signal of a name and when it came.
pub(super) fn next(tx: &Tx<'_>, task: TaskId, name: &str) -> Result<Option<(i64, Timestamp)>> {
    Ok(tx
        .sql()
        .prepare_cached(
            "SELECT seq, at_ms FROM orch_signal
             WHERE task = ?1 AND name = ?2 AND wait IS NULL ORDER BY seq LIMIT 1",
        )
        .and_then(|mut s| {
            s.query_row(params![task_bits(task), name], |row| {
                Ok((row.get(0)?, Timestamp::from_unix_ms(row.get(1)?)))
            })
            .optional()
        })
        .map_err(sql("read a signal"))?)
}

/// Gives a signal to a wait.
pub(super) fn take(tx: &Tx<'_>, task: TaskId, seq: i64, wait: WaitId) -> Result<Happened> {
    let (payload, sender): (String, String) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_signal SET wait = ?3 WHERE task = ?1 AND seq = ?2 AND wait IS NULL
             RETURNING payload, sender",
        )
        .and_then(|mut s| {
            s.query_row(params![task_bits(task), seq, Bits(wait.to_bits())], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        })
        .map_err(sql("take a signal"))?;
    Ok(Happened::Signal {
        payload: from_json(&payload)?,
        by: Principal::new(&sender).map_err(|e| damaged(e.to_string()))?,
    })
}

/// Forgets the signals of a task that has ended.
pub(super) fn forget(tx: &Tx<'_>, task: TaskId) -> Result<()> {
    tx.sql()
        .prepare_cached("DELETE FROM orch_signal WHERE task = ?1")
        .and_then(|mut s| s.execute([task_bits(task)]))
        .map_err(sql("forget signals"))?;
    Ok(())
}
