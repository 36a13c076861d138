//! Steps whose effect is not the recorded one: what was recorded, by whom, and what replaces it.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Scope};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use super::claim::check_lease;
use super::events::{self, Entry};
use super::rows::{Hash, from_json, signed, task_bits};
use crate::drift::{Drifted, Migration, RecordedStep};
use crate::error::{Error, Result};
use crate::journal::{Outcome, StepKey};
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

/// Replaces what a done step recorded, or forgets it so that it is done again.
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
        let name = format!("{}#{}", step.name, step.ordinal);
        return Err(Error::not_found("done step", name));
    }
    let digest = drifted.effect.digest()?;
    let how = match migration {
        Migration::Keep(value) => {
            keep(tx, lease, step, digest, value)?;
            "keep"
        }
        Migration::Redo => {
            forget(tx, lease, step)?;
            "redo"
        }
        Migration::Fail => return Err(Error::invalid("migration", "there is nothing to change")),
    };
    let payload = json!({
        "step": step.name, "ordinal": step.ordinal, "how": how, "spec": drifted.recorded.spec,
        "from": drifted.recorded.digest, "to": digest,
    });
    let mut entry = Entry::of(scope, "step.migrated", &drifted.effect.action, payload);
    (entry.task, entry.fence) = (Some(lease.task), Some(lease.fence));
    events::append(tx, &entry)?;
    Ok(())
}

fn keep(tx: &Tx<'_>, lease: &Lease, step: &StepKey, digest: Digest, value: &Value) -> Result<()> {
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
    Ok(())
}

fn forget(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<()> {
    // A step that a fork carried over acted under its origin's key; the one done again has its own.
    for table in ["orch_step", "orch_fork_key"] {
        let text = format!(
            "DELETE FROM {table}
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5"
        );
        tx.sql()
            .prepare_cached(&text)
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
    }
    Ok(())
}
