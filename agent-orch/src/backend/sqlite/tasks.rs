//! Tasks: counting, reading and writing their rows.

use std::collections::BTreeMap;

use agent_core::store::{Tx, sql};
use agent_core::{AgentId, RunId, TaskId, Timestamp};
use rusqlite::{Row, params};
use serde_json::Value;

use super::rows::{Bits, column, from_json, run_bits, task_bits, to_json, unsigned};
use super::{due, queue, waits};
use crate::error::{Error, Result};
use crate::journal::Counts;
use crate::task::{Stage, Status, Task};

/// Moves one task from one cell of the counts to another.
pub(super) fn count(tx: &Tx<'_>, run: RunId, stage: Stage, status: Status, by: i64) -> Result<()> {
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

/// Writes a task's next state and counts the move.
pub(super) fn store(
    tx: &Tx<'_>,
    before: &Task,
    after: &Task,
    not_before: Option<Timestamp>,
    avoid: Option<AgentId>,
) -> Result<()> {
    waits::close(tx, before, after)?;
    let failure = after.failure.as_ref().map(to_json).transpose()?;
    let spot = queue::spot(tx, task_bits(after.id))?;
    let moved = spot.moved(after, avoid.map(|agent| Bits(agent.to_bits())));
    let line = queue::shift(tx, &spot, &moved)?;
    let rises = due::rises(tx, moved.run, moved.rank)?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET stage = ?2, status = ?3, pool = ?4, round = ?5, author = ?6,
                avoid = ?7, output = ?8, feedback = ?9, failures = ?10, failure = ?11,
                not_before_ms = ?12, updated_ms = ?13, owner = NULL, lease_ms = NULL,
                home = ?14, retries = ?15, choices = ?16, ends_as = ?17,
                line = ?18, rises_ms = ?19
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
                after.home,
                after.retries,
                serde_json::to_string(&after.choices).unwrap_or_default(),
                after.ends_as.map(Status::name),
                line,
                rises,
            ])
        })
        .map_err(sql("move a task on"))?;
    count(tx, before.run, before.stage, before.status, -1)?;
    count(tx, after.run, after.stage, after.status, 1)
}

/// Changes only the status of a task that nobody holds.
pub(super) fn set_status(tx: &Tx<'_>, task: &Task, status: Status) -> Result<()> {
    if status.is_terminal() {
        let ended = Task {
            status,
            ..task.clone()
        };
        waits::close(tx, task, &ended)?;
    }
    let spot = queue::spot(tx, task_bits(task.id))?;
    let line = queue::shift(tx, &spot, &spot.with_status(status))?;
    let rises = due::rises(tx, spot.run, spot.rank)?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET status = ?2, owner = NULL, lease_ms = NULL, not_before_ms = NULL,
                updated_ms = ?3, line = ?4, rises_ms = ?5 WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(task.id),
                status.name(),
                tx.now().as_unix_ms(),
                line,
                rises,
            ])
        })
        .map_err(sql("change a task's status"))?;
    count(tx, task.run, task.stage, task.status, -1)?;
    count(tx, task.run, task.stage, status, 1)
}

/// Notes that something a task may wait for has happened: a parked task becomes ready, one that
/// is about to park does not.
pub(super) fn wake(tx: &Tx<'_>, id: TaskId) -> Result<()> {
    tx.sql()
        .prepare_cached("UPDATE orch_task SET wakes = wakes + 1 WHERE id = ?1")
        .and_then(|mut s| s.execute([task_bits(id)]))
        .map_err(sql("wake a task"))?;
    let task = load(tx, id)?;
    if task.status == Status::Parked {
        set_status(tx, &task, Status::Ready)?;
    }
    Ok(())
}

/// Returns how often a task was woken.
pub(super) fn wakes(tx: &Tx<'_>, id: TaskId) -> Result<u64> {
    let wakes = tx
        .sql()
        .prepare_cached("SELECT wakes FROM orch_task WHERE id = ?1")
        .and_then(|mut s| s.query_row([task_bits(id)], |row| row.get(0)))
        .map_err(sql("read a task"))?;
    Ok(unsigned(wakes))
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
        priority: column(row, "rank")?,
        fair_key: text("fair")?,
        round: column(row, "round")?,
        attempts: column(row, "attempts")?,
        author: agent("author")?,
        output: json("output")?,
        feedback: from_json(&text("feedback")?)?,
        failures: from_json(&text("failures")?)?,
        retries: column(row, "retries")?,
        choices: from_json(&text("choices")?)?,
        ends_as: column::<Option<String>>(row, "ends_as")?
            .map(|status| status.parse())
            .transpose()?,
        failure: column::<Option<String>>(row, "failure")?
            .as_deref()
            .map(from_json)
            .transpose()?,
    })
}
