//! Pausing, resuming and canceling tasks with what they delegated.

use agent_core::store::{Tx, sql};
use agent_core::{EffectClass, Failure, Principal, Scope, TaskId};
use rusqlite::{OptionalExtension, params};
use serde_json::{Map, Value, json};

use super::events::{self, Entry};
use super::rows::{Bits, from_json, run_bits, signed, task_bits};
use super::{money, outcomes, tasks, trees, undo};
use crate::error::{Error, Result};
use crate::history;
use crate::machine::end_event;
use crate::task::{Status, Task};
use crate::tree::{Control, Controlled, Target, canceled};

/// Does one thing to all tasks of a target, in one transaction.
pub(super) fn control(
    tx: &mut Tx<'_>,
    scope: &Scope,
    target: Target,
    control: &Control,
) -> Result<Controlled> {
    let by = &scope.actor;
    let mut done = Controlled::default();
    for id in targets(tx, target)? {
        let changed = match control {
            Control::Pause => pause(tx, by, id)?,
            Control::Resume => resume(tx, by, id)?,
            Control::Cancel { reason } => cancel(tx, by, id, &canceled(reason))?,
        };
        if changed {
            done.changed.push(id);
        }
    }
    if let (Target::Run(run), false) = (target, done.changed.is_empty()) {
        let payload = json!({ "did": control.name(), "tasks": done.changed.len() });
        let mut entry = Entry::of(scope, "run.controlled", control.name(), payload);
        entry.run = Some(run);
        events::append(tx, &entry)?;
    }
    Ok(done)
}

/// The tasks of a target that have not ended, those at the top first.
fn targets(tx: &Tx<'_>, target: Target) -> Result<Vec<TaskId>> {
    const OPEN: &str = "status NOT IN ('completed', 'failed', 'canceled', 'rejected')";
    let (query, key) = match target {
        Target::Run(run) => (
            format!("SELECT id FROM orch_task WHERE run = ?1 AND {OPEN} ORDER BY depth, seq"),
            run_bits(run),
        ),
        Target::Task(task) => (
            format!(
                "WITH RECURSIVE tree(id) AS (
                    SELECT id FROM orch_task WHERE id = ?1
                    UNION SELECT t.id FROM orch_task t JOIN tree ON t.parent = tree.id
                    WHERE NOT t.is_detached)
                 SELECT t.id FROM orch_task t JOIN tree USING (id) WHERE t.{OPEN}
                 ORDER BY t.depth, t.seq"
            ),
            task_bits(task),
        ),
    };
    exists(tx, target)?;
    let mut statement = tx
        .sql()
        .prepare_cached(&query)
        .map_err(sql("find the tasks of a tree"))?;
    let rows = statement.query_map([key], |row| row.get::<_, Bits>(0));
    let ids: Vec<Bits> = rows
        .and_then(Iterator::collect)
        .map_err(sql("find the tasks of a tree"))?;
    Ok(ids.iter().map(|id| TaskId::from_bits(id.0)).collect())
}

fn exists(tx: &Tx<'_>, target: Target) -> Result<()> {
    let (query, key, what, name) = match target {
        Target::Run(run) => (
            "SELECT 1 FROM orch_run WHERE id = ?1",
            run_bits(run),
            "run",
            run.to_string(),
        ),
        Target::Task(task) => (
            "SELECT 1 FROM orch_task WHERE id = ?1",
            task_bits(task),
            "task",
            task.to_string(),
        ),
    };
    let found = tx
        .sql()
        .prepare_cached(query)
        .and_then(|mut s| s.exists([key]))
        .map_err(sql("look for a target"))?;
    if found {
        Ok(())
    } else {
        Err(Error::not_found(what, name))
    }
}

fn pause(tx: &Tx<'_>, by: &Principal, id: TaskId) -> Result<bool> {
    let before = tasks::load(tx, id)?;
    if before.is_pausing || before.status == Status::Paused {
        return Ok(false);
    }
    if before.status == Status::Parked {
        trees::go_on(tx, &before)?;
    }
    let mut after = before.clone();
    after.is_pausing = true;
    let set = if before.status == Status::Leased {
        want_back(tx, &before, true)?;
        history::delta(&before, &after)
    } else {
        tasks::store(tx, &before, &mut after)?
    };
    record(tx, by, "task.paused", &before, Value::Null, set)?;
    Ok(true)
}

fn resume(tx: &Tx<'_>, by: &Principal, id: TaskId) -> Result<bool> {
    let before = tasks::load(tx, id)?;
    let mut after = before.clone();
    after.is_pausing = false;
    let set = match (before.status, before.paused_from) {
        (Status::Leased, _) if before.is_pausing => {
            want_back(tx, &before, false)?;
            history::delta(&before, &after)
        }
        (Status::Paused, from) => {
            trees::go_on(tx, &before)?;
            after.status = from.unwrap_or(Status::Ready);
            after.paused_from = None;
            tasks::store(tx, &before, &mut after)?
        }
        _ => return Ok(false),
    };
    record(tx, by, "task.resumed", &before, Value::Null, set)?;
    Ok(true)
}

/// Notes on a held task that it is to be given back, or not.
fn want_back(tx: &Tx<'_>, task: &Task, is_wanted: bool) -> Result<()> {
    tx.sql()
        .prepare_cached("UPDATE orch_task SET is_pausing = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![task_bits(task.id), is_wanted]))
        .map_err(sql("ask for a task back"))?;
    Ok(())
}

/// Cancels a task that has not ended, and by that what it delegated.
pub(super) fn cancel(
    tx: &mut Tx<'_>,
    by: &Principal,
    id: TaskId,
    failure: &Failure,
) -> Result<bool> {
    end(tx, by, id, Status::Canceled, failure)
}

/// Ends a task from outside, whatever its state and whoever holds it. One with steps to undo goes
/// there first, once.
pub(super) fn end(
    tx: &mut Tx<'_>,
    by: &Principal,
    id: TaskId,
    status: Status,
    failure: &Failure,
) -> Result<bool> {
    let before = tasks::load(tx, id)?;
    if before.status.is_terminal() {
        return Ok(false);
    }
    free_money(tx, by, &before)?;
    let mut after = before.clone();
    (after.paused_from, after.is_pausing, after.not_before) = (None, false, None);
    let begun = undo::begin(tx, &mut after, status, failure.clone())?;
    if begun.is_none() {
        (after.status, after.failure) = (status, Some(failure.clone()));
    }
    let set = tasks::store(tx, &before, &mut after)?;
    tx.sql()
        .prepare_cached("UPDATE orch_task SET fence = fence + 1 WHERE id = ?1")
        .and_then(|mut s| s.execute([task_bits(id)]))
        .map_err(sql("fence a task off"))?;
    let (kind, payload) = match begun {
        Some(moved) => {
            trees::give_time_to_undo(tx, id)?;
            (moved.event, moved.payload)
        }
        None => (end_event(status), json!({ "failure": failure })),
    };
    record(tx, by, kind, &before, payload, set)?;
    trees::follow(tx, by, &before, &after)?;
    Ok(true)
}

fn record(
    tx: &Tx<'_>,
    by: &Principal,
    kind: &str,
    task: &Task,
    payload: Value,
    set: Map<String, Value>,
) -> Result<()> {
    let code = payload.get("failure").and_then(|f| f.get("code"));
    let code = code.and_then(Value::as_str).unwrap_or_default().to_owned();
    let entry = Entry {
        kind,
        subject: task.stage.name(),
        code: &code,
        actor: by,
        run: Some(task.run),
        task: Some(task.id),
        fence: None,
        cause: None,
        payload: history::payload(payload, set),
    };
    events::append(tx, &entry)?;
    Ok(())
}

/// Frees the money of open effects by their class. What is pure or idempotent can be bought again,
/// and nobody will. An effect that may have happened and cannot be undone may have cost what is
/// held: that stays held, is recorded, and lapses with the hold unless a person settles it.
fn free_money(tx: &mut Tx<'_>, by: &Principal, task: &Task) -> Result<()> {
    for open in outcomes::open_holds(tx, task)? {
        let class = class_of(tx, open.intent)?;
        if matches!(class, Some(EffectClass::Pure | EffectClass::Idempotent)) {
            money::release(tx, &open.hold)?;
            continue;
        }
        let payload = json!({ "step": open.name, "hold": open.hold, "class": class });
        let entry = Entry {
            kind: "effect.abandoned",
            subject: &open.name,
            code: "orch.in_doubt",
            actor: by,
            run: Some(task.run),
            task: Some(task.id),
            fence: None,
            cause: Some(open.intent),
            payload,
        };
        events::append(tx, &entry)?;
    }
    Ok(())
}

/// The class an intent was recorded with, unless its payload was erased.
fn class_of(tx: &Tx<'_>, intent: u64) -> Result<Option<EffectClass>> {
    let body: Option<String> = tx
        .sql()
        .prepare_cached("SELECT body FROM orch_body WHERE seq = ?1")
        .and_then(|mut s| s.query_row([signed(intent)], |row| row.get(0)).optional())
        .map_err(sql("read an intent"))?;
    let Some(body) = body else { return Ok(None) };
    let payload: Value = from_json(&body)?;
    let class = payload.get("effect").and_then(|effect| effect.get("class"));
    Ok(class.and_then(|class| serde_json::from_value(class.clone()).ok()))
}
