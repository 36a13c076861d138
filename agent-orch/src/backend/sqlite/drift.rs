//! Steps whose effect is not the recorded one: what was recorded, by whom, and what replaces it.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Scope};
use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::claim::check_lease;
use super::events::{self, Entry};
use super::rows::{Hash, from_json, signed, task_bits};
use super::{fork, requests, steps, undo, waits};
use crate::drift::{Drifted, Migration, RecordedStep};
use crate::error::{Error, Result};
use crate::journal::{Outcome, StepKey};
use crate::machine::StepState;
use crate::task::Lease;

/// Returns a step of this round if it is done.
pub(super) fn recorded(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<Option<RecordedStep>> {
    let found: Option<(Hash, Option<String>, i64)> = tx
        .sql()
        .prepare_cached(
            "SELECT digest, outcome, fence FROM orch_step
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5
               AND state = 'done'",
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
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
        })
        .map_err(sql("read a step"))?;
    let Some((digest, outcome, fence)) = found else {
        return Ok(None);
    };
    let value = from_json(outcome.as_deref().unwrap_or("null"))?;
    let spec = spec_of(tx, lease, fence)?;
    Ok(Some(RecordedStep::new(digest.0, value, spec)))
}

/// Returns the configuration the run was last opened with before a lease was taken: that of the
/// host that held it.
fn spec_of(tx: &Tx<'_>, lease: &Lease, fence: i64) -> Result<Option<Digest>> {
    let payload: Option<String> = tx
        .sql()
        .prepare_cached(
            "SELECT b.body FROM orch_event leased, orch_event opened, orch_body b
             WHERE leased.task = ?1 AND leased.fence = ?2 AND leased.kind = 'task.leased'
               AND opened.seq < leased.seq AND opened.run = leased.run
               AND opened.kind IN ('run.started', 'run.resumed') AND b.seq = opened.seq
             ORDER BY opened.seq DESC LIMIT 1",
        )
        .and_then(|mut s| {
            s.query_row(params![task_bits(lease.task), fence], |row| row.get(0))
                .optional()
        })
        .map_err(sql("find who recorded a step"))?;
    let payload: Option<Value> = payload.as_deref().map(from_json).transpose()?;
    let spec = payload.as_ref().and_then(|p| p.get("spec")?.as_str());
    Ok(spec.map(str::parse).transpose()?)
}

/// Replaces what a done step recorded, or forgets it so that it is done anew.
pub(super) fn migrate(
    tx: &Tx<'_>,
    scope: &Scope,
    drifted: &Drifted,
    migration: &Migration,
) -> Result<()> {
    let (lease, step) = (&drifted.lease, &drifted.step);
    check_lease(tx, lease)?;
    let known = recorded(tx, lease, step)?.filter(|k| k.digest == drifted.recorded.digest);
    if known.is_none() {
        return Err(Error::not_found("done step", display(step)));
    }
    let digest = drifted.effect.digest()?;
    let (how, result, forgotten) = match migration {
        Migration::Keep(value) => (
            "keep",
            Some(keep(tx, lease, step, digest, value)?),
            Vec::new(),
        ),
        Migration::Redo => {
            forget(tx, lease, step)?;
            ("redo", None, vec![(step.name.clone(), step.ordinal)])
        }
        Migration::Fork => ("fork", None, branch(tx, lease, step)?),
        Migration::Fail => return Err(Error::invalid("migration", "there is nothing to change")),
    };
    let payload = json!({
        "step": step.name, "ordinal": step.ordinal, "spec": drifted.recorded.spec, "how": how,
        "from": drifted.recorded.digest, "to": digest, "result": result, "forgotten": forgotten,
    });
    let mut entry = Entry::of(scope, "step.migrated", &drifted.effect.action, payload);
    (entry.task, entry.fence) = (Some(lease.task), Some(lease.fence));
    events::append(tx, &entry)?;
    Ok(())
}

fn display(step: &StepKey) -> String {
    format!("{}#{}", step.name, step.ordinal)
}

fn keep(
    tx: &Tx<'_>,
    lease: &Lease,
    step: &StepKey,
    digest: Digest,
    value: &Value,
) -> Result<Digest> {
    let outcome = value.to_string();
    if outcome.len() > Outcome::RESULT_BYTES_MAX {
        return Err(Error::invalid("migration", "the value is over 4 MiB"));
    }
    tx.sql()
        .prepare_cached(
            "UPDATE orch_step SET digest = ?6, outcome = ?7, fence = ?8
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                step.name,
                step.ordinal,
                Hash(digest),
                outcome,
                signed(lease.fence.0),
            ])
        })
        .map_err(sql("migrate a step"))?;
    Ok(Digest::of_bytes(outcome.as_bytes()))
}

/// Has a step done anew: the next try may be another effect and has its own key.
fn forget(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<()> {
    let Some(known) = steps::find(tx, lease, step)? else {
        return Ok(());
    };
    undo::set_aside(tx, lease, step, &known.digest)?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_step SET state = 'forgotten'
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                step.name,
                step.ordinal
            ])
        })
        .map_err(sql("forget a step"))?;
    Ok(())
}

/// Forgets a step and what the round recorded after it, and returns which steps.
fn branch(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<Vec<(String, u32)>> {
    let end = events::next(tx)?;
    let then = fork::then(tx, lease.task, end)?;
    let (round, stage) = (lease.round, lease.stage);
    let drifted = (round, stage, step.name.clone(), step.ordinal);
    let first = then.steps.get(&drifted).map(|step| step.first);
    let first = first.ok_or_else(|| Error::not_found("done step", display(step)))?;
    let mut forgotten = Vec::new();
    for (name, known) in &then.steps {
        if (name.0, name.1) != (round, stage) || known.first < first {
            continue;
        }
        let later = StepKey::new(name.2.clone(), name.3);
        if StepState::of_name(&known.state).is_some_and(StepState::is_open) {
            return Err(Error::WrongState {
                task: lease.task,
                verb: "fork",
                state: format!("in doubt about step {}", display(&later)),
            });
        }
        forget(tx, lease, &later)?;
        forgotten.push((name.2.clone(), name.3));
    }
    forget_waits(tx, lease, first, end)?;
    Ok(forgotten)
}

/// Lets the waits and questions begin anew that a task began after a record.
fn forget_waits(tx: &Tx<'_>, lease: &Lease, after: u64, end: u64) -> Result<()> {
    let mut began = Vec::new();
    events::of_task(tx, lease.task, end, |record| {
        if record.seq > after {
            began.push((record.seq, record.kind.clone(), record.payload.clone()));
        }
        Ok(())
    })?;
    for (seq, kind, payload) in began {
        let id = |name| payload.as_ref().and_then(|p| p.get(name)).cloned();
        match kind.as_str() {
            "wait.began" => waits::forget(tx, named(lease, seq, id("wait"))?)?,
            "request.asked" => requests::forget(tx, named(lease, seq, id("request"))?)?,
            _ => {}
        }
    }
    Ok(())
}

/// Reads the id that a record names.
fn named<T: DeserializeOwned>(lease: &Lease, seq: u64, id: Option<Value>) -> Result<T> {
    let id = id.and_then(|id| serde_json::from_value(id).ok());
    let task = lease.task;
    id.ok_or(Error::HistoryGone { task, seq })
}
