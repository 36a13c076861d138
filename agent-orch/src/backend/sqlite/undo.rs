//! Undo actions: armed with the intent of their step, run in reverse when a task ends without
//! success.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, EffectClass, Failure, IdempotencyKey, TaskId};
use rusqlite::{Row, params};

use super::fork;
use super::rows::{Hash, column, damaged, from_json, signed, task_bits, to_json, unsigned};
use crate::error::Result;
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
             WHERE u.task = ?1 AND (?2 OR u.on_end) AND s.state <> 'failed'
             UNION ALL
             SELECT 1 FROM orch_undo_aside WHERE task = ?1 AND (?2 OR on_end) LIMIT 1",
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

/// Keeps the undo action of a step that is about to be forgotten, if it has one: what the step did
/// stays done.
pub(super) fn set_aside(tx: &Tx<'_>, lease: &Lease, step: &StepKey, digest: &Digest) -> Result<()> {
    let own = step_key_at(lease.task, lease.round, lease.stage, step, digest)?;
    let key = fork::key_of(tx, lease, step)?.unwrap_or(own);
    let at = (task_bits(lease.task), lease.round, lease.stage.name());
    tx.sql()
        .prepare_cached(
            "INSERT INTO orch_undo_aside
             SELECT task, u.intent, round, stage, name, ordinal, class, effect, on_end, ?6, outcome
             FROM orch_undo u JOIN orch_step s USING (task, round, stage, name, ordinal)
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5
               AND s.state = 'done'",
        )
        .and_then(|mut s| {
            s.execute(params![
                at.0,
                at.1,
                at.2,
                step.name,
                step.ordinal,
                key.as_str()
            ])
        })
        .map_err(sql("set an undo action aside"))?;
    tx.sql()
        .prepare_cached(
            "DELETE FROM orch_undo
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5",
        )
        .and_then(|mut s| s.execute(params![at.0, at.1, at.2, step.name, step.ordinal]))
        .map_err(sql("set an undo action aside"))?;
    Ok(())
}

const LIST: &str = "
    SELECT u.round, u.stage, u.name, u.ordinal, u.class, u.effect, s.digest, k.key, u.intent,
           NULL AS forgotten, CASE s.state WHEN 'done' THEN s.outcome END AS outcome
    FROM orch_undo u JOIN orch_step s USING (task, round, stage, name, ordinal)
    LEFT JOIN orch_fork_key k USING (task, round, stage, name, ordinal)
    WHERE u.task = ?1 AND s.state <> 'failed'
    UNION ALL
    SELECT round, stage, name, ordinal, class, effect, NULL, key, intent, intent, outcome
    FROM orch_undo_aside WHERE task = ?1
    ORDER BY intent DESC";

/// Returns the steps of a task to undo, the latest first.
pub(super) fn list(tx: &Tx<'_>, task: TaskId) -> Result<Vec<Undo>> {
    let mut statement = tx
        .sql()
        .prepare_cached(LIST)
        .map_err(sql("read undo actions"))?;
    let mut rows = statement
        .query([task_bits(task)])
        .map_err(sql("read undo actions"))?;
    let mut undos = Vec::new();
    while let Some(row) = rows.next().map_err(sql("read undo actions"))? {
        undos.push(read(row, task)?);
    }
    Ok(undos)
}

fn read(row: &Row<'_>, task: TaskId) -> Result<Undo> {
    let (round, stage) = (column(row, "round")?, column::<String>(row, "stage")?);
    let (stage, step): (Stage, _) = (
        stage.parse()?,
        StepKey::new(column::<String>(row, "name")?, column(row, "ordinal")?),
    );
    let digest: Option<Hash> = column(row, "digest")?;
    let key: Option<String> = column(row, "key")?;
    let key = match (key, digest) {
        (Some(key), _) => IdempotencyKey::new(key)?,
        (None, Some(digest)) => step_key_at(task, round, stage, &step, &digest.0)?,
        (None, None) => return Err(damaged("an undo action has no key".to_owned())),
    };
    let outcome: Option<String> = column(row, "outcome")?;
    let forgotten: Option<i64> = column(row, "forgotten")?;
    Ok(Undo {
        round,
        stage,
        step,
        class: from_json::<EffectClass>(&column::<String>(row, "class")?)?,
        key,
        effect: from_json(&column::<String>(row, "effect")?)?,
        result: outcome.as_deref().map(from_json).transpose()?,
        forgotten: forgotten.map(unsigned),
    })
}
