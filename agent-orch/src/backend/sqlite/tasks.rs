//! Tasks: counting, reading and writing their rows.

use std::collections::BTreeMap;

use agent_core::store::{Tx, sql};
use agent_core::{AgentId, Principal, RunId, TaskId, Timestamp};
use rusqlite::{Row, params};
use serde_json::{Map, Value};

use super::events::{self, Entry};

use super::rows::{Bits, column, from_json, run_bits, task_bits, to_json, unsigned};
use super::{due, queue, trees, waits};
use crate::error::{Error, Result};
use crate::history::{delta, payload};
use crate::journal::Counts;
use crate::machine::rest;
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

/// Writes a task's next state, counts the move and returns what changed, for its audit record.
pub(super) fn store(tx: &Tx<'_>, before: &Task, after: &mut Task) -> Result<Map<String, Value>> {
    rest(after);
    waits::close(tx, before, after)?;
    let failure = after.failure.as_ref().map(to_json).transpose()?;
    let spot = queue::spot(tx, task_bits(after.id))?;
    let moved = spot.moved(after, after.avoid.map(|agent| Bits(agent.to_bits())));
    let line = queue::shift(tx, &spot, &moved)?;
    let rises = due::rises(tx, moved.run, moved.rank)?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET stage = ?2, status = ?3, pool = ?4, round = ?5, author = ?6,
                avoid = ?7, output = ?8, feedback = ?9, failures = ?10, failure = ?11,
                not_before_ms = ?12, updated_ms = ?13, owner = NULL, lease_ms = NULL,
                home = ?14, retries = ?15, choices = ?16, ends_as = ?17,
                line = ?18, rises_ms = ?19, paused_from = ?20, is_pausing = ?21
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
                after.avoid.map(|agent| Bits(agent.to_bits())),
                after.output.as_ref().map(Value::to_string),
                Value::Array(after.feedback.clone()).to_string(),
                serde_json::to_string(&after.failures).unwrap_or_default(),
                failure,
                after.not_before.map(Timestamp::as_unix_ms),
                tx.now().as_unix_ms(),
                after.home,
                after.retries,
                serde_json::to_string(&after.choices).unwrap_or_default(),
                after.ends_as.map(Status::name),
                line,
                rises,
                after.paused_from.map(Status::name),
                after.is_pausing,
            ])
        })
        .map_err(sql("move a task on"))?;
    count(tx, before.run, before.stage, before.status, -1)?;
    count(tx, after.run, after.stage, after.status, 1)?;
    Ok(delta(before, after))
}

/// Changes only the status of a task that nobody holds, without a record: the caller's own record
/// says what changed, which is returned.
pub(super) fn move_to(tx: &Tx<'_>, task: &Task, status: Status) -> Result<Map<String, Value>> {
    let mut after = task.clone();
    (after.status, after.not_before) = (status, None);
    rest(&mut after);
    let spot = queue::spot(tx, task_bits(task.id))?;
    let line = queue::shift(tx, &spot, &spot.with_status(after.status))?;
    let rises = due::rises(tx, spot.run, spot.rank)?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET status = ?2, owner = NULL, lease_ms = NULL, not_before_ms = NULL,
                updated_ms = ?3, line = ?4, rises_ms = ?5, paused_from = ?6, is_pausing = ?7
             WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(task.id),
                after.status.name(),
                tx.now().as_unix_ms(),
                line,
                rises,
                after.paused_from.map(Status::name),
                after.is_pausing,
            ])
        })
        .map_err(sql("change a task's status"))?;
    count(tx, task.run, task.stage, task.status, -1)?;
    count(tx, task.run, task.stage, after.status, 1)?;
    Ok(delta(task, &after))
}

/// Changes only the status of a task that nobody holds, and records it.
pub(super) fn set_status(tx: &Tx<'_>, task: &Task, status: Status) -> Result<()> {
    let set = move_to(tx, task, status)?;
    moved(tx, task, set)
}

/// Records that a task moved by itself.
pub(super) fn moved(tx: &Tx<'_>, task: &Task, set: Map<String, Value>) -> Result<()> {
    let by = Principal::host();
    let entry = Entry {
        kind: "task.moved",
        subject: task.stage.name(),
        code: "",
        actor: &by,
        run: Some(task.run),
        task: Some(task.id),
        fence: None,
        cause: None,
        payload: payload(Value::Null, set),
    };
    events::append(tx, &entry)?;
    Ok(())
}

/// Notes that something a task may wait for has happened: a parked task becomes ready, one that
/// is about to park does not.
pub(super) fn wake(tx: &Tx<'_>, id: TaskId) -> Result<()> {
    tx.sql()
        .prepare_cached("UPDATE orch_task SET wakes = wakes + 1 WHERE id = ?1")
        .and_then(|mut s| s.execute([task_bits(id)]))
        .map_err(sql("wake a task"))?;
    let task = load(tx, id)?;
    match (task.status, task.paused_from) {
        (Status::Parked, _) => {
            trees::go_on(tx, &task)?;
            set_status(tx, &task, Status::Ready)
        }
        (Status::Paused, Some(Status::Parked)) => {
            trees::go_on(tx, &task)?;
            let mut after = task.clone();
            after.paused_from = Some(Status::Ready);
            let set = store(tx, &task, &mut after)?;
            moved(tx, &task, set)
        }
        _ => Ok(()),
    }
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
    let task = |name| -> Result<Option<TaskId>> {
        Ok(column::<Option<Bits>>(row, name)?.map(|bits| TaskId::from_bits(bits.0)))
    };
    let moment = |name| -> Result<Option<Timestamp>> {
        Ok(column::<Option<i64>>(row, name)?.map(Timestamp::from_unix_ms))
    };
    let id = TaskId::from_bits(column::<Bits>(row, "id")?.0);
    Ok(Task {
        id,
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
        parent: task("parent")?,
        root: task("root")?.unwrap_or(id),
        depth: column(row, "depth")?,
        is_detached: column(row, "is_detached")?,
        deadline: moment("deadline_ms")?,
        not_before: moment("not_before_ms")?,
        avoid: agent("avoid")?,
        paused_from: column::<Option<String>>(row, "paused_from")?
            .map(|name| name.parse())
            .transpose()?,
        is_pausing: column(row, "is_pausing")?,
    })
}
