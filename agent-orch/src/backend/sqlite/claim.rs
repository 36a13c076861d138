//! Leases: claiming, renewing, checking and taking back.

use agent_core::store::{Tx, sql};
use agent_core::{AttemptId, Env, Fence, RunId, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{Bits, run_bits, signed, task_bits, unsigned};
use super::tasks::{count, load, set_status};
use crate::error::{Error, Result};
use crate::journal::ClaimRequest;
use crate::task::{Claim, Lease, Status};

/// Makes delayed tasks ready whose time has come.
fn promote(tx: &Tx<'_>) -> Result<()> {
    let due: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT id FROM orch_task WHERE status = 'delayed' AND not_before_ms <= ?1",
            )
            .map_err(sql("find delayed tasks"))?;
        let rows = statement.query_map([tx.now().as_unix_ms()], |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("find delayed tasks"))?
    };
    for id in due {
        set_status(tx, &load(tx, TaskId::from_bits(id.0))?, Status::Ready)?;
    }
    Ok(())
}

/// Gives the most urgent ready task to an agent.
pub(super) fn claim(
    tx: &Tx<'_>,
    env: &Env,
    scope: &Scope,
    request: &ClaimRequest,
) -> Result<Option<Claim>> {
    promote(tx)?;
    let owner = Bits(request.owner.to_bits());
    let found: Option<Bits> = tx
        .sql()
        .prepare_cached(
            "SELECT id FROM orch_task
             WHERE status = 'ready' AND run = ?1 AND pool = ?2
               AND (stage <> 'verify' OR author IS NOT ?3) AND avoid IS NOT ?3
             ORDER BY priority, seq LIMIT 1",
        )
        .and_then(|mut s| {
            s.query_row(params![run_bits(request.run), request.pool, owner], |row| {
                row.get(0)
            })
            .optional()
        })
        .map_err(sql("find a ready task"))?;
    let Some(Bits(id)) = found else {
        return Ok(None);
    };
    let mut task = load(tx, TaskId::from_bits(id))?;
    let until = tx.now().after(request.lease);
    let (fence, wakes): (i64, i64) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_task SET status = 'leased', owner = ?2, fence = fence + 1, lease_ms = ?3,
                attempts = attempts + 1, updated_ms = ?4 WHERE id = ?1 RETURNING fence, wakes",
        )
        .and_then(|mut s| {
            s.query_row(
                params![Bits(id), owner, until.as_unix_ms(), tx.now().as_unix_ms()],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
        .map_err(sql("lease a task"))?;
    count(tx, task.run, task.stage, Status::Ready, -1)?;
    count(tx, task.run, task.stage, Status::Leased, 1)?;
    task.status = Status::Leased;
    task.attempts = task.attempts.saturating_add(1);
    let lease = Lease {
        task: task.id,
        fence: Fence(unsigned(fence)),
        owner: request.owner,
        attempt: AttemptId::generate(env),
        stage: task.stage,
        round: task.round,
        until,
        wakes: unsigned(wakes),
    };
    let payload = json!({ "stage": task.stage, "round": task.round, "attempt": lease.attempt });
    let mut entry = Entry::of(scope, "task.leased", &request.pool, payload);
    entry.run = Some(task.run);
    entry.task = Some(task.id);
    entry.fence = Some(lease.fence);
    events::append(tx, &entry)?;
    Ok(Some(Claim { task, lease }))
}

/// Returns an error unless the lease still holds.
pub(super) fn check_lease(tx: &Tx<'_>, lease: &Lease) -> Result<()> {
    let holds: Option<bool> = tx
        .sql()
        .prepare_cached(
            "SELECT status = 'leased' AND fence = ?2 AND lease_ms > ?3 FROM orch_task WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.query_row(
                params![task_bits(lease.task), signed(lease.fence.0), tx.now().as_unix_ms()],
                |row| row.get(0),
            )
            .optional()
        })
        .map_err(sql("check a lease"))?;
    if holds == Some(true) {
        Ok(())
    } else {
        Err(lost(lease))
    }
}

fn lost(lease: &Lease) -> Error {
    Error::LeaseLost {
        task: lease.task,
        fence: lease.fence,
    }
}

/// Extends a lease by its own length from now.
pub(super) fn heartbeat(tx: &Tx<'_>, lease: &Lease) -> Result<Timestamp> {
    check_lease(tx, lease)?;
    let until = tx.now().after(ClaimRequest::LEASE_DEFAULT).max(lease.until);
    tx.sql()
        .prepare_cached("UPDATE orch_task SET lease_ms = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![task_bits(lease.task), until.as_unix_ms()]))
        .map_err(sql("extend a lease"))?;
    Ok(until)
}

/// Takes back leases: those that have ended, or all of a run.
pub(super) fn take_back(tx: &Tx<'_>, scope: &Scope, all_of: Option<RunId>) -> Result<u64> {
    let held: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT id FROM orch_task
                 WHERE status = 'leased' AND (lease_ms <= ?1 OR run = ?2)",
            )
            .map_err(sql("find ended leases"))?;
        let rows = statement.query_map(
            params![tx.now().as_unix_ms(), all_of.map(run_bits)],
            |row| row.get(0),
        );
        rows.and_then(Iterator::collect)
            .map_err(sql("find ended leases"))?
    };
    for id in &held {
        let task = load(tx, TaskId::from_bits(id.0))?;
        set_status(tx, &task, Status::Ready)?;
        let entry = Entry::of(scope, "lease.ended", &task.pool, Value::Null);
        events::append(
            tx,
            &Entry {
                run: Some(task.run),
                task: Some(task.id),
                ..entry
            },
        )?;
    }
    Ok(u64::try_from(held.len()).unwrap_or(u64::MAX))
}
