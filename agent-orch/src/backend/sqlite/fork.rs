//! History and forks: what a task was, and runs that go on from there.

use std::collections::BTreeMap;

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Env, IdempotencyKey, RunId, Scope, TaskId};
use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{Bits, Hash, from_json, run_bits, signed, task_bits, unsigned};
use super::{requests, runs, submit, tasks, trees};
use crate::error::{Error, Result};
use crate::history::{self, StepThen, Then};
use crate::journal::{NewRun, Run, StepKey};
use crate::machine::StepState;
use crate::task::{Lease, NewTask, Status, Task};

/// Where a fork begins.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) run: RunId,
    /// The last audit record that counts.
    pub(super) at: u64,
}

/// Returns a task as it stood after a record.
pub(super) fn task_at(tx: &Tx<'_>, id: TaskId, at: u64) -> Result<Task> {
    let row = tasks::load(tx, id)?;
    let (born, pool) = birth(tx, id)?;
    if born > at {
        return Err(Error::not_found("task", format!("{id} at record {at}")));
    }
    let mut task = history::submitted(&row, pool);
    events::of_task(tx, id, at, |record| history::fold(&mut task, record))?;
    Ok(task)
}

/// The record of a task's submission, and the pool it was submitted to.
fn birth(tx: &Tx<'_>, id: TaskId) -> Result<(u64, String)> {
    Ok(tx
        .sql()
        .prepare_cached("SELECT born, coalesce(born_pool, home) FROM orch_task WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([task_bits(id)], |row| {
                Ok((unsigned(row.get(0)?), row.get(1)?))
            })
        })
        .map_err(sql("read when a task was submitted"))?)
}

/// Returns a task, its steps and its questions as they stood after a record.
pub(super) fn then(tx: &Tx<'_>, id: TaskId, at: u64) -> Result<Then> {
    let (_born, pool) = birth(tx, id)?;
    let mut then = Then::submitted(&tasks::load(tx, id)?, pool);
    events::of_task(tx, id, at, |record| then.fold(record))?;
    Ok(then)
}

/// Starts a run from what another was.
pub(super) fn fork(
    tx: &Tx<'_>,
    env: &Env,
    scope: &Scope,
    from: Origin,
    subject: &str,
    durability: &str,
) -> Result<Run> {
    runs::check_subject(subject)?;
    let origin = runs::load(tx, from.run)?;
    if from.at == 0 || from.at >= events::next(tx)? {
        let reason = "there is no such audit record to fork after";
        return Err(Error::invalid(format!("fork.at {}", from.at), reason));
    }
    if runs::find(tx, subject)?.is_some() {
        let reason = "an unfinished run has this subject";
        return Err(Error::invalid("fork.subject", reason));
    }
    let new = NewRun::new(subject, origin.spec, origin.meta);
    let mut run = runs::insert(tx, env, &new, durability)?;
    (run.forked_from, run.forked_at) = (Some(from.run), Some(from.at));
    tx.sql()
        .execute(
            "UPDATE orch_run SET forked_from = ?2, forked_at = ?3 WHERE id = ?1",
            params![run_bits(run.id), run_bits(from.run), signed(from.at)],
        )
        .map_err(sql("fork a run"))?;
    let payload = json!({
        "subject": subject, "from": from.run, "at": from.at, "durability": durability,
    });
    let mut entry = Entry::of(scope, "run.forked", "", payload);
    entry.run = Some(run.id);
    events::append(tx, &entry)?;
    carry_tasks(tx, scope, from, run.id)?;
    Ok(run)
}

fn carry_tasks(tx: &Tx<'_>, scope: &Scope, from: Origin, run: RunId) -> Result<()> {
    let mut thens = Vec::new();
    let mut new = Vec::new();
    for id in tasks_of(tx, from)? {
        let then = then(tx, id, from.at)?;
        new.push(again(tx, &then.task)?);
        thens.push(then);
    }
    submit::submit(tx, scope, run, &new)?;
    let ids: BTreeMap<TaskId, TaskId> = thens
        .iter()
        .zip(&new)
        .map(|(then, new)| (then.task.id, new.id(run)))
        .collect();
    for then in &thens {
        carry(tx, scope, then, run, from.at, &ids)?;
    }
    Ok(())
}

/// The tasks of a run that were there, parents first.
fn tasks_of(tx: &Tx<'_>, from: Origin) -> Result<Vec<TaskId>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT id FROM orch_task WHERE run = ?1 AND born <= ?2 ORDER BY depth, seq",
        )
        .map_err(sql("find the tasks of a run"))?;
    let rows = statement.query_map(params![run_bits(from.run), signed(from.at)], |row| {
        row.get::<_, Bits>(0)
    });
    let ids: Vec<Bits> = rows
        .and_then(Iterator::collect)
        .map_err(sql("find the tasks of a run"))?;
    Ok(ids.iter().map(|id| TaskId::from_bits(id.0)).collect())
}

/// Priority, wall in milliseconds, fairness key, limits and estimate.
type Submission = (u8, Option<u64>, String, String, Option<String>);

/// The submission of a task, again: its work and limits, with nothing used of them. A deadline is
/// a moment of the run it was set for and is not carried.
fn again(tx: &Tx<'_>, task: &Task) -> Result<NewTask> {
    let (priority, wall, fair, limits, estimate): Submission = tx
        .sql()
        .prepare_cached(
            "SELECT priority, max(0, wall_ms - created_ms), fair, limits, estimate
             FROM orch_task WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.query_row([task_bits(task.id)], |row| {
                let wall = row.get::<_, Option<i64>>(1)?.map(unsigned);
                Ok((row.get(0)?, wall, row.get(2)?, row.get(3)?, row.get(4)?))
            })
        })
        .map_err(sql("read a submission"))?;
    let tree: Option<(u32, Option<String>)> = tx
        .sql()
        .prepare_cached("SELECT retries_max, budget FROM orch_tree WHERE root = ?1")
        .and_then(|mut s| {
            s.query_row([task_bits(task.id)], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .map_err(sql("read a tree's limits"))?;
    let (_born, pool) = birth(tx, task.id)?;
    let mut new = NewTask::new(task.key.clone(), pool, task.input.clone());
    new.priority = priority;
    new.wall = wall.map(std::time::Duration::from_millis);
    new.fair_key = Some(fair);
    if !limits.is_empty() {
        new.limit_keys = from_json(&limits)?;
    }
    new.cost_estimate = estimate.as_deref().map(from_json).transpose()?;
    if let Some((retries, budget)) = tree {
        new.tree_retries = Some(retries);
        new.tree_budget = budget.map(|text| text.parse()).transpose()?;
    }
    Ok(new)
}

/// Puts a task of the fork where its origin stood.
fn carry(
    tx: &Tx<'_>,
    scope: &Scope,
    then: &Then,
    run: RunId,
    at: u64,
    ids: &BTreeMap<TaskId, TaskId>,
) -> Result<()> {
    let old = &then.task;
    let of = |id: TaskId| ids.get(&id).copied();
    let id = of(old.id).ok_or_else(|| Error::not_found("task", old.id.to_string()))?;
    if let Some(parent) = old.parent.and_then(of) {
        trees::adopt(tx, &tasks::load(tx, parent)?, id, old.is_detached)?;
    }
    let before = tasks::load(tx, id)?;
    for (request, answered) in &then.requests {
        requests::carry(tx, scope, *request, &before, *answered)?;
    }
    let mut after = Task {
        id,
        run,
        parent: before.parent,
        root: before.root,
        deadline: None,
        ..old.clone()
    };
    // Whoever held it is not there; what it waited for is waited for again.
    let waits = requests::is_waiting(tx, id)?;
    if old.status == Status::Leased || (old.status == Status::Parked && !waits) {
        after.status = Status::Ready;
    }
    tasks::store(tx, &before, &mut after)?;
    tx.sql()
        .prepare_cached("UPDATE orch_task SET attempts = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![task_bits(id), after.attempts]))
        .map_err(sql("fork a task"))?;
    for step in then.steps.values() {
        carry_step(tx, old.id, id, step)?;
    }
    let steps: Vec<&StepThen> = then.steps.values().collect();
    let payload = json!({ "from": old.id, "at": at, "steps": steps });
    let payload = history::payload(payload, history::whole(&after));
    let mut entry = Entry::of(scope, "task.forked", after.stage.name(), payload);
    (entry.run, entry.task, entry.fence) = (Some(run), Some(id), None);
    events::append(tx, &entry)?;
    Ok(())
}

/// Copies a step as it stood. Its money stays where it is held.
fn carry_step(tx: &Tx<'_>, from: TaskId, to: TaskId, step: &StepThen) -> Result<()> {
    let (round, stage, name, ordinal) = &step.name;
    let outcome: Option<String> = match &step.failure {
        Some(failure) => Some(failure.to_string()),
        None if step.state == StepState::Done.name() => tx
            .sql()
            .prepare_cached(
                "SELECT outcome FROM orch_step WHERE task = ?1 AND round = ?2 AND stage = ?3
                   AND name = ?4 AND ordinal = ?5
                   AND state IN ('done', 'forgotten')",
            )
            .and_then(|mut s| {
                s.query_row(
                    params![task_bits(from), round, stage.name(), name, ordinal],
                    |row| row.get(0),
                )
                .optional()
            })
            .map_err(sql("read a step"))?
            .flatten(),
        None => None,
    };
    // What it returned is kept by the step alone; one that was done anew since returned another.
    let is_its_own = match (&step.result, &outcome) {
        (Some(digest), Some(outcome)) if step.failure.is_none() => {
            *digest == Digest::of_bytes(outcome.as_bytes())
        }
        (Some(_), None) => step.state != StepState::Done.name(),
        _ => true,
    };
    if !is_its_own {
        let (task, seq) = (from, step.first);
        return Err(Error::HistoryGone { task, seq });
    }
    tx.sql()
        .prepare_cached(
            "INSERT INTO orch_step VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, 0, ?10)",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(to),
                round,
                stage.name(),
                name,
                ordinal,
                Hash(step.digest),
                step.state,
                step.n_try,
                signed(step.intent.unwrap_or(0)),
                outcome,
            ])
        })
        .map_err(sql("copy a step"))?;
    if StepState::of_name(&step.state).is_some_and(StepState::is_open) {
        tx.sql()
            .prepare_cached("INSERT INTO orch_fork_key VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut s| {
                s.execute(params![
                    task_bits(to),
                    round,
                    stage.name(),
                    name,
                    ordinal,
                    step.key
                ])
            })
            .map_err(sql("copy a step's key"))?;
    }
    Ok(())
}

/// Keeps the key under which a step acts, where it is not the one its name and effect make.
pub(super) fn keep_key(
    tx: &Tx<'_>,
    lease: &Lease,
    step: &StepKey,
    key: &IdempotencyKey,
) -> Result<()> {
    tx.sql()
        .prepare_cached("INSERT OR REPLACE INTO orch_fork_key VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .and_then(|mut s| {
            s.execute(params![
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                step.name,
                step.ordinal,
                key.as_str()
            ])
        })
        .map_err(sql("keep a step's key"))?;
    Ok(())
}

/// Returns the key under which a step acts, where it is not the one its name and effect make.
pub(super) fn key_of(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<Option<IdempotencyKey>> {
    let key: Option<String> = tx
        .sql()
        .prepare_cached(
            "SELECT key FROM orch_fork_key
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5",
        )
        .and_then(|mut s| {
            s.query_row(
                params![
                    task_bits(lease.task),
                    lease.round,
                    lease.stage.name(),
                    step.name,
                    step.ordinal
                ],
                |row| row.get(0),
            )
            .optional()
        })
        .map_err(sql("read a step's key"))?;
    Ok(key.map(IdempotencyKey::new).transpose()?)
}
