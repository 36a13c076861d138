//! Schedules: which there are, and the tasks of those that are due.

use agent_core::store::{Tx, sql};
use agent_core::{Classify, ErrorKind, RunId, Scope, Timestamp};
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{column, from_json, run_bits, signed, task_bits, to_json, unsigned};
use super::submit;
use crate::error::{Error, Result};
use crate::fleet::{CatchUp, Overlap, Schedule, ScheduleChange, Scheduled};
use crate::task::Status;

/// The stored form of a schedule.
#[derive(Serialize, Deserialize)]
struct Body {
    cron: String,
    pool: String,
    input: Value,
    priority: u8,
    overlap: Overlap,
    catch_up: CatchUp,
}

/// Changes the schedules of a run.
pub(super) fn change(
    tx: &Tx<'_>,
    scope: &Scope,
    run: RunId,
    change: &ScheduleChange,
) -> Result<()> {
    match change {
        ScheduleChange::Set(name, schedule) => set(tx, scope, run, (name, schedule), false),
        ScheduleChange::Remove(name) => {
            if remove(tx, scope, run, name)? {
                Ok(())
            } else {
                Err(Error::not_found("schedule", name.as_str()))
            }
        }
        ScheduleChange::Manifest(schedules) => {
            for known in list(tx, run)? {
                if known.is_of_manifest && !schedules.contains_key(&known.name) {
                    remove(tx, scope, run, &known.name)?;
                }
            }
            schedules
                .iter()
                .try_for_each(|(name, schedule)| set(tx, scope, run, (name, schedule), true))
        }
    }
}

/// Adds or replaces a schedule. One that stays as it is keeps the moment it is due next, so that
/// what was missed meanwhile is found.
fn set(
    tx: &Tx<'_>,
    scope: &Scope,
    run: RunId,
    (name, schedule): (&str, &Schedule),
    is_of_manifest: bool,
) -> Result<()> {
    let known = list(tx, run)?;
    let same = known.iter().find(|known| known.name == name);
    if same.is_some_and(|k| k.schedule == *schedule && k.is_of_manifest == is_of_manifest) {
        return Ok(());
    }
    if same.is_none() && known.len() >= Schedule::PER_RUN_MAX {
        return Err(Error::LimitReached {
            what: "schedules of one run",
            limit: u64::try_from(Schedule::PER_RUN_MAX).unwrap_or(u64::MAX),
        });
    }
    let next = schedule
        .cron
        .next_after(tx.now())
        .ok_or_else(|| Error::invalid(format!("schedule.{name}.cron"), "it is never due"))?;
    let body = body(schedule)?;
    tx.sql()
        .prepare_cached(
            "INSERT INTO orch_schedule (run, name, body, is_of_manifest, next_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET body = excluded.body, next_ms = excluded.next_ms,
                is_of_manifest = excluded.is_of_manifest",
        )
        .and_then(|mut s| {
            s.execute(params![
                run_bits(run),
                name,
                body,
                is_of_manifest,
                next.as_unix_ms()
            ])
        })
        .map_err(sql("set a schedule"))?;
    let payload = json!({ "schedule": name, "body": body, "next": next });
    note(tx, scope, run, "schedule.set", name, payload)
}

fn body(schedule: &Schedule) -> Result<String> {
    to_json(&Body {
        cron: schedule.cron.to_string(),
        pool: schedule.pool.clone(),
        input: schedule.input.clone(),
        priority: schedule.priority,
        overlap: schedule.overlap,
        catch_up: schedule.catch_up,
    })
}

fn remove(tx: &Tx<'_>, scope: &Scope, run: RunId, name: &str) -> Result<bool> {
    let removed = tx
        .sql()
        .prepare_cached("DELETE FROM orch_schedule WHERE run = ?1 AND name = ?2")
        .and_then(|mut s| s.execute(params![run_bits(run), name]))
        .map_err(sql("remove a schedule"))?;
    if removed > 0 {
        note(tx, scope, run, "schedule.removed", name, Value::Null)?;
    }
    Ok(removed > 0)
}

/// Submits the tasks of the schedules of the scope's run that are due.
pub(super) fn fire(tx: &Tx<'_>, scope: &Scope) -> Result<u64> {
    let Some(run) = scope.run else {
        return Ok(0);
    };
    let due = query(
        tx,
        "SELECT * FROM orch_schedule WHERE run = ?1 AND next_ms <= ?2 ORDER BY next_ms, name",
        run,
        tx.now().as_unix_ms(),
    )?;
    let mut n_fired = 0_u64;
    for mut scheduled in due {
        let before = scheduled.n_fired;
        for at in scheduled.schedule.firings(scheduled.next, tx.now()) {
            fire_at(tx, scope, run, &mut scheduled, at)?;
        }
        n_fired = n_fired.saturating_add(scheduled.n_fired.saturating_sub(before));
        // An expression that is never due again was refused; eight years are searched.
        let next = scheduled.schedule.cron.next_after(tx.now());
        tx.sql()
            .prepare_cached(
                "UPDATE orch_schedule SET next_ms = ?3, last_ms = ?4, n_fired = ?5, n_skipped = ?6
                 WHERE run = ?1 AND name = ?2",
            )
            .and_then(|mut s| {
                s.execute(params![
                    run_bits(run),
                    scheduled.name,
                    next.map_or(i64::MAX, Timestamp::as_unix_ms),
                    scheduled.last.map(Timestamp::as_unix_ms),
                    signed(scheduled.n_fired),
                    signed(scheduled.n_skipped),
                ])
            })
            .map_err(sql("move a schedule on"))?;
    }
    Ok(n_fired)
}

fn fire_at(
    tx: &Tx<'_>,
    scope: &Scope,
    run: RunId,
    scheduled: &mut Scheduled,
    at: Timestamp,
) -> Result<()> {
    let name = scheduled.name.clone();
    let payload = json!({ "schedule": name, "due": at });
    if scheduled.schedule.overlap == Overlap::Skip && is_busy(tx, run, scheduled)? {
        scheduled.n_skipped = scheduled.n_skipped.saturating_add(1);
        return note(tx, scope, run, "schedule.skipped", &name, payload);
    }
    let task = scheduled.schedule.task(&name, at);
    match submit::submit(tx, scope, run, &[task]) {
        Ok(added) => {
            scheduled.n_fired = scheduled.n_fired.saturating_add(added);
            scheduled.last = Some(at);
            note(tx, scope, run, "schedule.fired", &name, payload)
        }
        // One schedule that may not add tasks keeps neither the others nor the sweep from going on.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::Exhausted | ErrorKind::Invalid | ErrorKind::Denied
            ) =>
        {
            let payload = json!({ "schedule": name, "due": at, "refused": e.to_string() });
            note(tx, scope, run, "schedule.refused", &name, payload)
        }
        Err(e) => Err(e),
    }
}

/// Returns whether the task of the last firing has not ended.
fn is_busy(tx: &Tx<'_>, run: RunId, scheduled: &Scheduled) -> Result<bool> {
    let Some(last) = scheduled.last else {
        return Ok(false);
    };
    let task = scheduled.schedule.task(&scheduled.name, last).id(run);
    let status: Option<String> = tx
        .sql()
        .prepare_cached("SELECT (SELECT status FROM orch_task WHERE id = ?1)")
        .and_then(|mut s| s.query_row([task_bits(task)], |row| row.get(0)))
        .map_err(sql("look at the last firing"))?;
    match status {
        Some(status) => Ok(!status.parse::<Status>()?.is_terminal()),
        None => Ok(false),
    }
}

/// Returns the next moment at which [`fire`] has something to do.
pub(super) fn next_due(tx: &Tx<'_>, scope: &Scope) -> Result<Option<Timestamp>> {
    let Some(run) = scope.run else {
        return Ok(None);
    };
    let next: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT min(next_ms) FROM orch_schedule WHERE run = ?1")
        .and_then(|mut s| s.query_row([run_bits(run)], |row| row.get(0)))
        .map_err(sql("find the next firing"))?;
    Ok(next.map(Timestamp::from_unix_ms))
}

/// Returns the schedules of a run by name.
pub(super) fn list(tx: &Tx<'_>, run: RunId) -> Result<Vec<Scheduled>> {
    query(
        tx,
        "SELECT * FROM orch_schedule WHERE run = ?1 AND next_ms <= ?2 ORDER BY name",
        run,
        i64::MAX,
    )
}

fn query(tx: &Tx<'_>, text: &str, run: RunId, until: i64) -> Result<Vec<Scheduled>> {
    let mut statement = tx
        .sql()
        .prepare_cached(text)
        .map_err(sql("list schedules"))?;
    let mut rows = statement
        .query(params![run_bits(run), until])
        .map_err(sql("list schedules"))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql("list schedules"))? {
        found.push(parse(row)?);
    }
    Ok(found)
}

fn parse(row: &Row<'_>) -> Result<Scheduled> {
    let body: Body = from_json(&column::<String>(row, "body")?)?;
    let mut schedule = Schedule::new(body.cron.parse()?, body.pool, body.input);
    (schedule.priority, schedule.overlap, schedule.catch_up) =
        (body.priority, body.overlap, body.catch_up);
    Ok(Scheduled {
        name: column(row, "name")?,
        schedule,
        is_of_manifest: column(row, "is_of_manifest")?,
        next: Timestamp::from_unix_ms(column(row, "next_ms")?),
        last: column::<Option<i64>>(row, "last_ms")?.map(Timestamp::from_unix_ms),
        n_fired: unsigned(column(row, "n_fired")?),
        n_skipped: unsigned(column(row, "n_skipped")?),
    })
}

fn note(
    tx: &Tx<'_>,
    scope: &Scope,
    run: RunId,
    kind: &str,
    name: &str,
    payload: Value,
) -> Result<()> {
    let mut entry = Entry::of(scope, kind, name, payload);
    entry.run = Some(run);
    events::append(tx, &entry)?;
    Ok(())
}
