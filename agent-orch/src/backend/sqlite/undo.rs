//! Undo actions: armed with the intent of their step, run in reverse when a task ends without
//! success.

use agent_core::store::{Tx, sql};
use agent_core::{EffectClass, Failure, TaskId};
use rusqlite::params;

use super::rows::{Hash, from_json, signed, task_bits, to_json};
use crate::error::{Error, Result};
use crate::journal::{Pass, StepKey};
use crate::machine::{self, Moved, step_key_at};
use crate::task::{Lease, Stage, Status, Task, Transition};
use crate::undo::{NewUndo, Undo};

/// Keeps the undo action of a step whose intent is recorded.
pub(super) fn arm(tx: &Tx<'_>, lease: &Lease, pass: &Pass, undo: &NewUndo) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "INSERT OR REPLACE INTO orch_undo VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                pass.step.name,
                pass.step.ordinal,
                signed(pass.intent.unwrap_or(0)),
                to_json(&pass.class).unwrap_or_default(),
                to_json(&undo.effect).unwrap_or_default(),
                undo.on_end,
            ])
        })
        .map_err(sql("keep an undo action"))?;
    Ok(())
}

/// Returns whether a task has steps to undo: `always`, or only where its pool wants that at every
/// end without success.
fn is_armed(tx: &Tx<'_>, task: TaskId, always: bool) -> Result<bool> {
    Ok(tx
        .sql()
        .prepare_cached(
            "SELECT 1 FROM orch_undo u JOIN orch_step s USING (task, round, stage, name, ordinal)
             WHERE u.task = ?1 AND (?2 OR u.on_end) AND s.state <> 'failed' LIMIT 1",
        )
        .and_then(|mut s| s.exists(params![task_bits(task), always]))
        .map_err(sql("look for undo actions"))?)
}

/// Returns the step of a task that is about to end without success to where it is undone, if it has
/// something to undo and is not there yet.
pub(super) fn begin(
    tx: &Tx<'_>,
    task: &mut Task,
    status: Status,
    failure: Failure,
) -> Result<Option<Moved>> {
    if task.stage == Stage::Undo || !is_armed(tx, task.id, false)? {
        return Ok(None);
    }
    Ok(Some(machine::unwind(task, status, failure)))
}

/// Applies a transition: one that ends a task without success undoes its steps first.
pub(super) fn apply(
    tx: &Tx<'_>,
    task: &mut Task,
    lease: &Lease,
    transition: Transition,
) -> Result<Moved> {
    let transition = match transition {
        Transition::End { status, failure } if status.is_terminal() => {
            match begin(tx, task, status, failure.clone())? {
                Some(step) => return Ok(step),
                None => Transition::End { status, failure },
            }
        }
        Transition::Unwind { failure } if !is_armed(tx, task.id, true)? => Transition::End {
            status: Status::Failed,
            failure,
        },
        other => other,
    };
    machine::apply(task, lease, transition)
}

/// Returns the steps of a task to undo, the latest first.
pub(super) fn list(tx: &Tx<'_>, task: TaskId) -> Result<Vec<Undo>> {
    type Row = (
        u32,
        String,
        String,
        u32,
        String,
        String,
        Hash,
        String,
        Option<String>,
    );
    let rows: Vec<Row> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT round, stage, name, ordinal, u.class, u.effect, s.digest, s.state, s.outcome
                 FROM orch_undo u JOIN orch_step s USING (task, round, stage, name, ordinal)
                 WHERE u.task = ?1 AND s.state <> 'failed' ORDER BY u.intent DESC",
            )
            .map_err(sql("read undo actions"))?;
        let rows = statement.query_map([task_bits(task)], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(8)?,
            ))
        });
        rows.and_then(Iterator::collect)
            .map_err(sql("read undo actions"))?
    };
    let read = |(round, stage, name, ordinal, class, effect, digest, state, outcome): Row| {
        let (stage, step): (Stage, _) = (stage.parse()?, StepKey::new(name, ordinal));
        let class: EffectClass = from_json(&class)?;
        let result = match (state.as_str(), outcome) {
            ("done", Some(outcome)) => Some(from_json(&outcome)?),
            _ => None,
        };
        Ok::<_, Error>(Undo {
            key: step_key_at(task, round, stage, &step, &digest.0)?,
            round,
            stage,
            step,
            class,
            effect: from_json(&effect)?,
            result,
        })
    };
    rows.into_iter().map(read).collect()
}
