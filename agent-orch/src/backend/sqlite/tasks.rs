//! Tasks: submission, claims, leases and transitions.

use std::collections::BTreeMap;

use agent_core::store::{Tx, sql};
use agent_core::{
    AgentId, AttemptId, Env, Failure, Fence, Principal, RunId, Scope, TaskId, Timestamp,
};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{Bits, column, from_json, run_bits, signed, task_bits, to_json, unsigned};
use super::{requests, steps};
use crate::error::{Error, Result};
use crate::journal::{ClaimRequest, Counts};
use crate::recovery::Class;
use crate::task::{Claim, Lease, NewTask, Stage, Status, Task, Transition};

/// Adds tasks that are not there yet.
pub(super) fn submit(tx: &Tx<'_>, scope: &Scope, run: RunId, tasks: &[NewTask]) -> Result<u64> {
    let mut added = 0_u64;
    for task in tasks {
        let input = task.input.to_string();
        if task.key.is_empty() || task.key.len() > NewTask::KEY_BYTES_MAX {
            return Err(Error::invalid("task.key", "a key has 1 to 8192 bytes"));
        }
        if input.len() > NewTask::INPUT_BYTES_MAX || task.priority > NewTask::PRIORITY_MAX {
            return Err(Error::invalid(
                "task",
                "the input is over 1 MiB or the priority over 4",
            ));
        }
        let id = task.id(run);
        let inserted = tx
            .sql()
            .prepare_cached(
                "INSERT OR IGNORE INTO orch_task
                 (id, run, key, input, stage, status, pool, home, priority, created_ms, updated_ms)
                 VALUES (?1, ?2, ?3, ?4, 'work', 'ready', ?5, ?5, ?6, ?7, ?7)",
            )
            .and_then(|mut s| {
                s.execute(params![
                    task_bits(id),
                    run_bits(run),
                    task.key,
                    input,
                    task.pool,
                    task.priority,
                    tx.now().as_unix_ms(),
                ])
            })
            .map_err(sql("add a task"))?;
        if inserted == 1 {
            count(tx, run, Stage::Work, Status::Ready, 1)?;
            added = added.saturating_add(1);
        }
    }
    if added > 0 {
        let entry = Entry::of(scope, "tasks.submitted", "", json!({ "added": added }));
        events::append(
            tx,
            &Entry {
                run: Some(run),
                ..entry
            },
        )?;
    }
    Ok(added)
}

/// Moves one task from one cell of the counts to another.
fn count(tx: &Tx<'_>, run: RunId, stage: Stage, status: Status, by: i64) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO orch_count VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET n = n + excluded.n",
        )
        .and_then(|mut s| s.execute(params![run_bits(run), stage.name(), status.name(), by]))
        .map_err(sql("count tasks"))?;
    Ok(())
}

/// Counts the tasks of a run.
pub(super) fn counts(tx: &Tx<'_>, run: RunId) -> Result<Counts> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT stage, status, n FROM orch_count WHERE run = ?1 AND n > 0")
        .map_err(sql("count tasks"))?;
    let mut rows = statement
        .query([run_bits(run)])
        .map_err(sql("count tasks"))?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next().map_err(sql("count tasks"))? {
        let (stage, status): (String, String) = (column(row, "stage")?, column(row, "status")?);
        counts.insert(
            (stage.parse()?, status.parse()?),
            unsigned(column(row, "n")?),
        );
    }
    Ok(Counts(counts))
}

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
    let fence: i64 = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_task SET status = 'leased', owner = ?2, fence = fence + 1, lease_ms = ?3,
                attempts = attempts + 1, updated_ms = ?4 WHERE id = ?1 RETURNING fence",
        )
        .and_then(|mut s| {
            s.query_row(
                params![Bits(id), owner, until.as_unix_ms(), tx.now().as_unix_ms()],
                |row| row.get(0),
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

/// Ends a lease and moves the task on.
pub(super) fn finish(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    transition: Transition,
) -> Result<()> {
    check_lease(tx, lease)?;
    let before = load(tx, lease.task)?;
    let mut after = before.clone();
    let step = apply(&mut after, lease, transition)?;
    if after.status == Status::Parked && !requests::is_waiting(tx, after.id)? {
        // The answer came before the task could wait for it.
        after.status = Status::Ready;
    }
    if after.round != before.round || after.status.is_terminal() {
        steps::abandon(tx, &before)?;
    }
    store(tx, &before, &after, step.not_before, step.avoid)?;
    let code = step
        .failure
        .as_ref()
        .map_or("", |failure| failure.code.as_str());
    let mut entry = Entry::of(scope, step.event, before.stage.name(), step.payload);
    (entry.run, entry.task, entry.fence) = (Some(before.run), Some(before.id), Some(lease.fence));
    entry.code = code;
    events::append(tx, &entry)?;
    Ok(())
}

/// What a transition writes beside the task itself.
struct Step {
    event: &'static str,
    payload: Value,
    failure: Option<Failure>,
    not_before: Option<Timestamp>,
    avoid: Option<AgentId>,
}

impl Step {
    fn new(event: &'static str, payload: Value) -> Self {
        Self {
            event,
            payload,
            failure: None,
            not_before: None,
            avoid: None,
        }
    }

    fn failed(event: &'static str, failure: Failure) -> Self {
        let payload = json!({ "failure": failure });
        Self {
            failure: Some(failure),
            ..Self::new(event, payload)
        }
    }
}

/// Computes the next state of a task; pure.
fn apply(task: &mut Task, lease: &Lease, transition: Transition) -> Result<Step> {
    let wrong = |verb| Error::WrongState {
        task: lease.task,
        verb,
        state: task.stage.to_string(),
    };
    let stage = task.stage;
    Ok(match transition {
        Transition::Verify { output, pool } if stage == Stage::Work => {
            let payload = json!({ "output": output });
            task.output = Some(output);
            task.author = Some(lease.owner);
            (task.stage, task.status, task.pool) = (Stage::Verify, Status::Ready, pool);
            Step::new("task.done", payload)
        }
        Transition::Verify { .. } => return Err(wrong("be handed to a verifier")),
        Transition::Accept { .. } if task.author == Some(lease.owner) => {
            let target = task.id.to_string();
            return Err(
                agent_core::Error::denied(target, "an author accepted its own work").into(),
            );
        }
        Transition::Accept { evidence, lane } if stage == Stage::Verify => {
            match lane {
                Some(lane) => {
                    (task.stage, task.status, task.pool) = (Stage::Merge, Status::Ready, lane);
                }
                None => task.status = Status::Completed,
            }
            Step::new("task.verified", json!({ "evidence": evidence }))
        }
        Transition::Accept { .. } => return Err(wrong("be accepted")),
        Transition::Land { evidence } if stage == Stage::Merge => {
            task.status = Status::Completed;
            Step::new("task.landed", json!({ "evidence": evidence }))
        }
        Transition::Land { .. } => return Err(wrong("land")),
        Transition::End { status, .. } if !status.is_terminal() => {
            return Err(wrong("end in a state that is no end"));
        }
        other => stop(task, lease, other),
    })
}

/// Computes the next state of a task that does not go forward; pure.
fn stop(task: &mut Task, lease: &Lease, transition: Transition) -> Step {
    match transition {
        Transition::Correct {
            feedback,
            failure,
            same_agent,
        } => {
            let avoid = if same_agent {
                None
            } else {
                task.author.or(Some(lease.owner))
            };
            correct(task, feedback, &failure);
            Step {
                avoid,
                ..Step::failed("task.corrected", failure)
            }
        }
        Transition::Retry { failure, at } => {
            note(task, &failure);
            task.status = Status::Delayed;
            Step {
                not_before: Some(at),
                ..Step::failed("task.retried", failure)
            }
        }
        Transition::Release => {
            task.status = Status::Ready;
            Step::new("task.released", Value::Null)
        }
        Transition::Park { failure } => {
            task.status = Status::Parked;
            match failure {
                Some(failure) => {
                    note(task, &failure);
                    Step::failed("task.parked", failure)
                }
                None => Step::new("task.parked", Value::Null),
            }
        }
        Transition::End { status, failure } => {
            note(task, &failure);
            task.status = status;
            Step::failed(end_event(status), failure)
        }
        // Going forward is decided before.
        _ => Step::new("task.unchanged", Value::Null),
    }
}

const fn end_event(status: Status) -> &'static str {
    match status {
        Status::Canceled => "task.canceled",
        Status::Rejected => "task.rejected",
        _ => "task.failed",
    }
}

/// Counts a failure against its class and keeps it as the reason.
fn note(task: &mut Task, failure: &Failure) {
    let n = task.failures.entry(Class::of(failure)).or_default();
    *n = n.saturating_add(1);
    task.failure = Some(failure.clone());
}

/// Sends a task back to work in a new round.
pub(super) fn correct(task: &mut Task, feedback: Value, failure: &Failure) {
    note(task, failure);
    task.round = task.round.saturating_add(1);
    (task.stage, task.status) = (Stage::Work, Status::Ready);
    task.pool.clone_from(&task.home);
    (task.author, task.output) = (None, None);
    task.feedback.push(feedback);
    let excess = task.feedback.len().saturating_sub(Task::FEEDBACK_MAX);
    task.feedback.drain(..excess);
}

/// Writes a task's next state and counts the move.
fn store(
    tx: &Tx<'_>,
    before: &Task,
    after: &Task,
    not_before: Option<Timestamp>,
    avoid: Option<AgentId>,
) -> Result<()> {
    let failure = after.failure.as_ref().map(to_json).transpose()?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET stage = ?2, status = ?3, pool = ?4, round = ?5, author = ?6,
                avoid = ?7, output = ?8, feedback = ?9, failures = ?10, failure = ?11,
                not_before_ms = ?12, updated_ms = ?13, owner = NULL, lease_ms = NULL
             WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(after.id),
                after.stage.name(),
                after.status.name(),
                after.pool,
                after.round,
                after.author.map(|agent| Bits(agent.to_bits())),
                avoid.map(|agent| Bits(agent.to_bits())),
                after.output.as_ref().map(Value::to_string),
                Value::Array(after.feedback.clone()).to_string(),
                serde_json::to_string(&after.failures).unwrap_or_default(),
                failure,
                not_before.map(Timestamp::as_unix_ms),
                tx.now().as_unix_ms(),
            ])
        })
        .map_err(sql("move a task on"))?;
    count(tx, before.run, before.stage, before.status, -1)?;
    count(tx, after.run, after.stage, after.status, 1)
}

/// Changes only the status of a task that nobody holds.
pub(super) fn set_status(tx: &Tx<'_>, task: &Task, status: Status) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET status = ?2, owner = NULL, lease_ms = NULL, not_before_ms = NULL,
                updated_ms = ?3 WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(task.id),
                status.name(),
                tx.now().as_unix_ms()
            ])
        })
        .map_err(sql("change a task's status"))?;
    count(tx, task.run, task.stage, task.status, -1)?;
    count(tx, task.run, task.stage, status, 1)
}

/// Ends a parked task because a person said no.
pub(super) fn reject(tx: &mut Tx<'_>, task: &Task, by: &Principal) -> Result<()> {
    steps::abandon(tx, task)?;
    set_status(tx, task, Status::Rejected)?;
    let entry = Entry {
        kind: end_event(Status::Rejected),
        subject: task.stage.name(),
        code: "",
        actor: by,
        run: Some(task.run),
        task: Some(task.id),
        fence: None,
        cause: None,
        payload: Value::Null,
    };
    events::append(tx, &entry)?;
    Ok(())
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

/// Reads a task.
pub(super) fn load(tx: &Tx<'_>, id: TaskId) -> Result<Task> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT * FROM orch_task WHERE id = ?1")
        .map_err(sql("read a task"))?;
    let mut rows = statement
        .query([task_bits(id)])
        .map_err(sql("read a task"))?;
    match rows.next().map_err(sql("read a task"))? {
        Some(row) => parse(row),
        None => Err(Error::not_found("task", id.to_string())),
    }
}

fn parse(row: &Row<'_>) -> Result<Task> {
    let text = |name| column::<String>(row, name);
    let agent = |name| -> Result<Option<AgentId>> {
        Ok(column::<Option<Bits>>(row, name)?.map(|bits| AgentId::from_bits(bits.0)))
    };
    let json = |name| -> Result<Option<Value>> {
        column::<Option<String>>(row, name)?
            .as_deref()
            .map(from_json)
            .transpose()
    };
    Ok(Task {
        id: TaskId::from_bits(column::<Bits>(row, "id")?.0),
        run: RunId::from_bits(column::<Bits>(row, "run")?.0),
        key: text("key")?,
        input: from_json(&text("input")?)?,
        stage: text("stage")?.parse()?,
        status: text("status")?.parse()?,
        pool: text("pool")?,
        home: text("home")?,
        round: column(row, "round")?,
        attempts: column(row, "attempts")?,
        author: agent("author")?,
        output: json("output")?,
        feedback: from_json(&text("feedback")?)?,
        failures: from_json(&text("failures")?)?,
        failure: column::<Option<String>>(row, "failure")?
            .as_deref()
            .map(from_json)
            .transpose()?,
    })
}
