//! The reaper: whatever nothing moves any more is moved to an end.

use std::sync::atomic::{AtomicI64, Ordering};

use agent_core::store::{Tx, sql};
use agent_core::{ErrorKind, Failure, Retry, RunId, Scope, TaskId, Timestamp};
use rusqlite::{Params, params};

use super::rows::{Bits, run_bits};
use super::{control, requests, tasks};
use crate::error::Result;
use crate::inbox::{NewRequest, Severity};
use crate::stuck::{Stuck, Why};
use crate::task::{Status, Task};

/// The most tasks one sweep ends or moves: it is one transaction.
const BATCH_MAX: usize = 1_000;

const OVERDUE: &str = "
    SELECT id, run FROM orch_task WHERE deadline_ms <= ?1 AND stage <> 'undo'
        AND status NOT IN ('completed', 'failed', 'canceled', 'rejected')
    UNION SELECT id, run FROM orch_task WHERE wall_ms <= ?1
        AND status IN ('ready', 'delayed', 'leased')";
const UNANSWERED: &str = "
    SELECT r.task, r.run FROM orch_request r JOIN orch_task t ON t.id = r.task
    WHERE r.answer IS NULL AND t.status IN ('completed', 'failed', 'canceled', 'rejected')
        AND r.id NOT IN (SELECT request FROM orch_outbox WHERE request IS NOT NULL)";
/// What `finish::is_waiting` says no to, in one query: parked tasks may be many.
const IDLE: &str = "
    SELECT t.id, t.run FROM orch_task t WHERE t.status = 'parked'
        AND NOT EXISTS (SELECT 1 FROM orch_request r WHERE r.task = t.id AND r.answer IS NULL
            AND NOT EXISTS (SELECT 1 FROM orch_outbox o WHERE o.request = r.id))
        AND NOT EXISTS (SELECT 1 FROM orch_wait w WHERE w.task = t.id AND w.state = 'open')
        AND NOT EXISTS (SELECT 1 FROM orch_task c WHERE c.parent = t.id AND c.is_joined
            AND c.status NOT IN ('completed', 'failed', 'canceled', 'rejected'))";
const LATE: &str = "SELECT id, run FROM orch_task WHERE status = 'delayed' AND not_before_ms <= ?1";
const LAPSED: &str = "SELECT id, run FROM orch_task WHERE status = 'leased' AND lease_ms <= ?1";

/// How often everything that waits is looked at, in milliseconds: nothing parks without something
/// to wait for, so this finds only what an earlier version or a person at the file left behind.
const LOOK_EVERY_MS: i64 = 10_000;

/// Ends overdue tasks, and now and then wakes tasks that wait for nothing and closes questions of
/// ended tasks.
pub(super) fn reap(tx: &mut Tx<'_>, scope: &Scope, looked: &AtomicI64) -> Result<u64> {
    let now = tx.now().as_unix_ms();
    let mut n = 0_u64;
    for (id, _run) in find(tx, OVERDUE, [now])? {
        let ended = control::end(tx, &scope.actor, id, Status::Failed, &overdue())?;
        n = n.saturating_add(u64::from(ended));
    }
    let last = looked.load(Ordering::Relaxed);
    if (last..last.saturating_add(LOOK_EVERY_MS)).contains(&now) {
        return Ok(n);
    }
    looked.store(now, Ordering::Relaxed);
    for (id, _run) in find(tx, IDLE, [])? {
        tasks::wake(tx, id)?;
        n = n.saturating_add(1);
    }
    for (id, _run) in find(tx, UNANSWERED, [])? {
        let task = tasks::load(tx, id)?;
        n = n.saturating_add(requests::close(tx, &scope.actor, &task)?);
    }
    Ok(n)
}

/// Returns the next moment at which a task is overdue.
pub(super) fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>> {
    let next: Option<i64> = tx
        .sql()
        .prepare_cached(
            "SELECT min(due) FROM (
                SELECT min(deadline_ms) AS due FROM orch_task WHERE deadline_ms IS NOT NULL
                    AND stage <> 'undo'
                    AND status NOT IN ('completed', 'failed', 'canceled', 'rejected')
                UNION ALL SELECT min(wall_ms) FROM orch_task WHERE wall_ms IS NOT NULL
                    AND status IN ('ready', 'delayed', 'leased'))",
        )
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(sql("find the next overdue task"))?;
    Ok(next.map(Timestamp::from_unix_ms))
}

fn overdue() -> Failure {
    let fix = "give it more time, or split it";
    let message = "the task did not end in its time";
    Failure::new(
        ErrorKind::TimedOut,
        Retry::Never,
        "orch.deadline",
        message,
        fix,
    )
}

fn find(tx: &Tx<'_>, query: &str, key: impl Params) -> Result<Vec<(TaskId, RunId)>> {
    let mut statement = tx
        .sql()
        .prepare_cached(&format!("{query} LIMIT {BATCH_MAX}"))
        .map_err(sql("find what nothing moves"))?;
    let rows = statement.query_map(key, |row| {
        let (task, run): (Bits, Bits) = (row.get(0)?, row.get(1)?);
        Ok((TaskId::from_bits(task.0), RunId::from_bits(run.0)))
    });
    Ok(rows
        .and_then(Iterator::collect)
        .map_err(sql("find what nothing moves"))?)
}

/// Lists the tasks of a run that should have moved and did not.
pub(super) fn stuck(tx: &Tx<'_>, run: RunId) -> Result<Vec<Stuck>> {
    let now = tx.now().as_unix_ms();
    let mut stuck = Vec::new();
    for (why, query) in [
        (Why::Overdue, OVERDUE),
        (Why::NotPromoted, LATE),
        (Why::LeaseLapsed, LAPSED),
    ] {
        let found = find(tx, query, [now])?.into_iter();
        stuck.extend(
            found
                .filter(|(_, of)| *of == run)
                .map(|(id, _)| Stuck::new(id, why)),
        );
    }
    for (why, query) in [
        (Why::AsksAfterItsEnd, UNANSWERED),
        (Why::WaitsForNothing, IDLE),
    ] {
        let found = find(tx, query, [])?.into_iter();
        stuck.extend(
            found
                .filter(|(_, of)| *of == run)
                .map(|(id, _)| Stuck::new(id, why)),
        );
    }
    Ok(stuck)
}

/// Asks a person about each task that waits for a pool nobody runs; what was asked before fails.
pub(super) fn orphans(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: RunId,
    pool: &str,
    until: Timestamp,
) -> Result<u64> {
    const READY: &str = "SELECT id, run FROM orch_task
        WHERE run = ?1 AND pool = ?2 AND status = 'ready'";
    let found = find(tx, READY, params![run_bits(run), pool])?;
    for (id, _run) in &found {
        let task = tasks::load(tx, *id)?;
        let request = requests::ask(tx, scope, &about_pool(&task, until))?;
        if request.answer.is_some() {
            control::end(tx, &scope.actor, *id, Status::Failed, &no_pool(pool))?;
        } else {
            tasks::set_status(tx, &task, Status::Parked)?;
        }
    }
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}

fn no_pool(pool: &str) -> Failure {
    let message = format!("no pool `{pool}` is running");
    let fix = "add the pool to the fleet and submit the task again";
    Failure::new(
        ErrorKind::NotFound,
        Retry::Never,
        "orch.no_pool",
        &message,
        fix,
    )
}

fn about_pool(task: &Task, until: Timestamp) -> NewRequest {
    let question = format!(
        "{} waits for pool `{}`, which the fleet does not have. Is it being added?",
        task.key, task.pool
    );
    let name = format!("no_pool/{}", task.pool);
    let options = [crate::decide::TRY_AGAIN, crate::decide::GIVE_UP];
    let mut request = NewRequest::new(task.run, task.id, name, question, &options, until);
    request.severity = Severity::High;
    request.reject = Some(crate::decide::GIVE_UP.to_owned());
    request
}
