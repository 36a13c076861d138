//! Leases: claiming, renewing, checking and taking back.

use agent_core::store::{Tx, sql};
use agent_core::{AttemptId, Env, Fence, RunId, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, ToSql, params};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{Bits, run_bits, signed, task_bits, unsigned};
use super::tasks::{count, load, move_to, set_status};
use super::{admission, agents, queue};
use crate::audit::Correlation;
use crate::error::{Error, Result};
use crate::history;
use crate::journal::{ClaimRequest, Swept};
use crate::task::{Claim, Lease, Status, Task};

/// Makes delayed tasks ready whose time has come, at most one batch, the earliest first.
pub(super) fn promote(tx: &Tx<'_>) -> Result<u64> {
    let due: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT id FROM orch_task WHERE status = 'delayed' AND not_before_ms <= ?1
                 ORDER BY not_before_ms LIMIT ?2",
            )
            .map_err(sql("find delayed tasks"))?;
        let key = params![tx.now().as_unix_ms(), Swept::BATCH_MAX];
        let rows = statement.query_map(key, |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("find delayed tasks"))?
    };
    for id in &due {
        set_status(tx, &load(tx, TaskId::from_bits(id.0))?, Status::Ready)?;
    }
    Ok(u64::try_from(due.len()).unwrap_or(u64::MAX))
}

/// Returns whether a claim may find something: a read, so that looking in vain writes nothing.
pub(super) fn may_find(tx: &Tx<'_>, request: &ClaimRequest) -> Result<bool> {
    if queue::head(tx, request)?.is_some() {
        return Ok(true);
    }
    Ok(tx
        .sql()
        .prepare_cached(
            "SELECT 1 FROM orch_task WHERE status = 'delayed' AND not_before_ms <= ?1 LIMIT 1",
        )
        .and_then(|mut s| s.exists([tx.now().as_unix_ms()]))
        .map_err(sql("find delayed tasks"))?)
}

/// How many tasks without a budget one claim parks before it comes back empty; the next goes on.
const PARKED_MAX: usize = 64;

/// Gives the next ready task to an agent.
pub(super) fn claim(
    tx: &Tx<'_>,
    env: &Env,
    scope: &Scope,
    request: &ClaimRequest,
) -> Result<Option<Claim>> {
    agents::refuse_retired(tx, request.owner)?;
    promote(tx)?;
    for _ in 0..PARKED_MAX {
        let Some(head) = queue::head(tx, request)? else {
            return Ok(None);
        };
        let task = load(tx, TaskId::from_bits(head.id.0))?;
        if admission::is_covered(tx, scope, request, &task)? {
            queue::charge(tx, head)?;
            return Ok(Some(lease(tx, env, scope, request, task)?));
        }
    }
    Ok(None)
}

fn lease(
    tx: &Tx<'_>,
    env: &Env,
    scope: &Scope,
    request: &ClaimRequest,
    mut task: Task,
) -> Result<Claim> {
    let (id, owner) = (task_bits(task.id), Bits(request.owner.to_bits()));
    let until = tx.now().after(request.lease);
    let spot = queue::spot(tx, id)?;
    queue::shift(tx, &spot, &spot.with_status(Status::Leased))?;
    let (fence, wakes): (i64, i64) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_task SET status = 'leased', owner = ?2, fence = fence + 1, lease_ms = ?3,
                attempts = attempts + 1, updated_ms = ?4, line = NULL
             WHERE id = ?1 RETURNING fence, wakes",
        )
        .and_then(|mut s| {
            s.query_row(
                params![id, owner, until.as_unix_ms(), tx.now().as_unix_ms()],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
        .map_err(sql("lease a task"))?;
    agents::touch(tx, request.owner)?;
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
    let payload = json!({
        "stage": task.stage, "round": task.round, "attempt": lease.attempt,
        "set": { "status": task.status, "attempts": task.attempts },
    });
    let mut entry = Entry::of(scope, "task.leased", &request.pool, payload);
    entry.run = Some(task.run);
    entry.task = Some(task.id);
    entry.fence = Some(lease.fence);
    events::append(tx, &entry)?;
    Ok(Claim { task, lease })
}

/// What a lease that holds says of its task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The run of the task.
    pub(super) run: RunId,
    /// What its audit records belong to.
    pub(super) correlation: Correlation,
    /// Whether somebody wants the task back.
    pub(super) is_wanted_back: bool,
}

/// Returns an error unless the lease still holds.
pub(super) fn check_lease(tx: &Tx<'_>, lease: &Lease) -> Result<Held> {
    let held: Option<(Bits, Option<Bits>, bool)> = tx
        .sql()
        .prepare_cached(
            "SELECT run, root, is_pausing FROM orch_task
             WHERE id = ?1 AND status = 'leased' AND fence = ?2 AND lease_ms > ?3",
        )
        .and_then(|mut s| {
            s.query_row(
                params![
                    task_bits(lease.task),
                    signed(lease.fence.0),
                    tx.now().as_unix_ms()
                ],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
        })
        .map_err(sql("check a lease"))?;
    let (run, root, is_wanted_back) = held.ok_or_else(|| lost(lease))?;
    let root = root.map_or(lease.task, |root| TaskId::from_bits(root.0));
    Ok(Held {
        run: RunId::from_bits(run.0),
        correlation: Correlation::Task(root),
        is_wanted_back,
    })
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
    let held = match all_of {
        Some(run) => held(
            tx,
            "SELECT id FROM orch_task WHERE status = 'leased' AND run = ?1",
            run_bits(run),
        )?,
        None => held(
            tx,
            "SELECT id FROM orch_task WHERE status = 'leased' AND lease_ms <= ?1",
            tx.now().as_unix_ms(),
        )?,
    };
    for id in &held {
        let task = load(tx, TaskId::from_bits(id.0))?;
        let set = move_to(tx, &task, Status::Ready)?;
        let payload = history::payload(Value::Null, set);
        let mut entry = Entry::of(scope, "lease.ended", &task.pool, payload);
        (entry.run, entry.task) = (Some(task.run), Some(task.id));
        events::append(tx, &entry)?;
    }
    Ok(u64::try_from(held.len()).unwrap_or(u64::MAX))
}

fn held(tx: &Tx<'_>, query: &str, key: impl ToSql) -> Result<Vec<Bits>> {
    let mut statement = tx
        .sql()
        .prepare_cached(query)
        .map_err(sql("find leases to end"))?;
    let rows = statement.query_map([key], |row| row.get(0));
    Ok(rows
        .and_then(Iterator::collect)
        .map_err(sql("find leases to end"))?)
}
