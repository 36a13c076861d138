//! Steps: intents and outcomes, with the money between them.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, EffectClass, IdempotencyKey, Retry, Scope, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use super::events::{self, Entry};
use super::rows::{Hash, from_json, signed, task_bits, to_json, unsigned};
use super::{claim, money};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Outcome, Pass, StepKey};
use crate::task::{Lease, Task};

/// A step as it is stored.
struct Row {
    digest: Digest,
    state: String,
    n_try: u32,
    intent: u64,
    is_held: bool,
    outcome: Option<String>,
}

fn find(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<Option<Row>> {
    tx.sql()
        .prepare_cached(
            "SELECT digest, state, n_try, intent, is_held, outcome FROM orch_step
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
                |row| {
                    Ok(Row {
                        digest: row.get::<_, Hash>(0)?.0,
                        state: row.get(1)?,
                        n_try: row.get(2)?,
                        intent: unsigned(row.get(3)?),
                        is_held: row.get(4)?,
                        outcome: row.get(5)?,
                    })
                },
            )
            .optional()
        })
        .map_err(sql("read a step"))
        .map_err(Error::from)
}

/// The key of a step: the same for every try and every process.
fn key(lease: &Lease, step: &StepKey, digest: &Digest) -> Result<IdempotencyKey> {
    let named = format!(
        "{}/{}/{}/{}/{}/{digest}",
        lease.task, lease.round, lease.stage, step.name, step.ordinal
    );
    Ok(IdempotencyKey::new(
        Digest::of_bytes(named.as_bytes()).to_string(),
    )?)
}

/// The key of the money held for one try; a try that failed was settled, so the next one needs
/// its own.
fn hold_key(key: &IdempotencyKey, n_try: u32) -> Result<IdempotencyKey> {
    Ok(IdempotencyKey::new(format!("{}.{n_try}", key.as_str()))?)
}

/// Records an intent, or answers with what is known of the step.
pub(super) fn intend(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    intent: &Intent,
) -> Result<Intended> {
    claim::check_lease(tx, lease)?;
    let Intent {
        step,
        effect,
        budget,
    } = intent;
    let digest = effect.digest()?;
    let key = key(lease, step, &digest)?;
    let known = find(tx, lease, step)?;
    let mut is_held = false;
    let mut pass = Pass {
        step: step.clone(),
        key,
        class: effect.class,
        n_try: 1,
        intent: 0,
    };
    if let Some(row) = &known {
        if row.digest != digest {
            let (task, name, ordinal) = (lease.task, step.name.clone(), step.ordinal);
            return Err(Error::Drift {
                task,
                name,
                ordinal,
            });
        }
        match row.state.as_str() {
            "done" => {
                let outcome = row.outcome.as_deref().unwrap_or("null");
                return Ok(Intended::Recorded(from_json(outcome)?));
            }
            "failed" => pass.n_try = row.n_try.saturating_add(1),
            _ => {
                (pass.n_try, pass.intent, is_held) = (row.n_try, row.intent, row.is_held);
                if !matches!(effect.class, EffectClass::Pure | EffectClass::Idempotent) {
                    return Ok(Intended::InDoubt(pass));
                }
            }
        }
    }
    if let (false, Some(path), Some(max)) = (is_held, budget, effect.cost_max)
        && !max.is_zero()
    {
        let expires = tx.now().after(money::HOLD_LASTS);
        money::hold(tx, &hold_key(&pass.key, pass.n_try)?, path, max, expires)?;
        is_held = true;
    }
    let payload = json!({
        "step": step.name, "ordinal": step.ordinal, "try": pass.n_try, "effect": effect,
        "digest": digest, "key": pass.key,
    });
    let mut entry = Entry::of(scope, "effect.intended", &effect.action, payload);
    (entry.task, entry.fence) = (Some(lease.task), Some(lease.fence));
    pass.intent = events::append(tx, &entry)?;
    record(tx, lease, &pass, digest, is_held)?;
    Ok(Intended::Go(pass))
}

/// Writes the row of an intended step.
fn record(tx: &Tx<'_>, lease: &Lease, pass: &Pass, digest: Digest, is_held: bool) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "INSERT OR REPLACE INTO orch_step
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'intended', ?7, ?8, ?9, ?10, NULL)",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                pass.step.name,
                pass.step.ordinal,
                Hash(digest),
                pass.n_try,
                signed(lease.fence.0),
                signed(pass.intent),
                is_held,
            ])
        })
        .map_err(sql("record an intent"))?;
    Ok(())
}

/// Records how an effect ended and settles its money.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    pass: &Pass,
    action: &str,
    outcome: &Outcome,
) -> Result<()> {
    claim::check_lease(tx, lease)?;
    let (state, kind, body, code) = match &outcome.result {
        Ok(value) => ("done", "effect.done", value.to_string(), ""),
        // Its money stays held until somebody knows whether it was spent.
        Err(failure) if failure.retry == Retry::Unknown => (
            "unknown",
            "effect.in_doubt",
            to_json(failure)?,
            failure.code.as_str(),
        ),
        Err(failure) => (
            "failed",
            "effect.failed",
            to_json(failure)?,
            failure.code.as_str(),
        ),
    };
    if body.len() > Outcome::RESULT_BYTES_MAX {
        return Err(Error::invalid(
            "outcome",
            "the result is over 4 MiB; return where it lies",
        ));
    }
    let held: Option<bool> = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_step SET state = ?7, outcome = ?8
             WHERE task = ?1 AND round = ?2 AND stage = ?3 AND name = ?4 AND ordinal = ?5
               AND n_try = ?6 AND state IN ('intended', 'unknown') RETURNING is_held",
        )
        .and_then(|mut s| {
            s.query_row(
                params![
                    task_bits(lease.task),
                    lease.round,
                    lease.stage.name(),
                    pass.step.name,
                    pass.step.ordinal,
                    pass.n_try,
                    state,
                    body
                ],
                |row| row.get(0),
            )
            .optional()
        })
        .map_err(sql("record an outcome"))?;
    let Some(held) = held else {
        let name = format!("{}#{}", pass.step.name, pass.step.ordinal);
        return Err(Error::not_found("open intent of step", name));
    };
    if held && state != "unknown" {
        money::settle(tx, &hold_key(&pass.key, pass.n_try)?, outcome.cost)?;
    }
    for record in &outcome.usage {
        money::meter(tx, scope, record)?;
    }
    let payload = json!({
        "step": pass.step.name, "ordinal": pass.step.ordinal, "try": pass.n_try,
        "cost": outcome.cost, "result": Digest::of_bytes(body.as_bytes()),
        "failure": outcome.result.as_ref().err(),
        "usage": outcome.usage.iter().map(|r| json!({"resource": r.resource, "usage": r.usage}))
            .collect::<Vec<Value>>(),
    });
    let mut entry = Entry::of(scope, kind, action, payload);
    (entry.task, entry.fence, entry.cause) =
        (Some(lease.task), Some(lease.fence), Some(pass.intent));
    entry.code = code;
    events::append(tx, &entry)?;
    Ok(())
}

/// Releases the money of intents that no round will ever resolve.
pub(super) fn abandon(tx: &mut Tx<'_>, task: &Task) -> Result<()> {
    let open: Vec<(String, String, u32, Hash, u32)> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT stage, name, ordinal, digest, n_try FROM orch_step
                 WHERE task = ?1 AND round = ?2 AND state IN ('intended', 'unknown') AND is_held",
            )
            .map_err(sql("find open intents"))?;
        let rows = statement.query_map(params![task_bits(task.id), task.round], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        });
        rows.and_then(Iterator::collect)
            .map_err(sql("find open intents"))?
    };
    for (stage, name, ordinal, digest, n_try) in open {
        let lease = Lease {
            task: task.id,
            fence: agent_core::Fence::default(),
            owner: agent_core::AgentId::from_bits(0),
            attempt: agent_core::AttemptId::from_bits(0),
            stage: stage.parse()?,
            round: task.round,
            until: Timestamp::EPOCH,
            wakes: 0,
        };
        let key = key(&lease, &StepKey::new(name, ordinal), &digest.0)?;
        money::release(tx, &hold_key(&key, n_try)?)?;
    }
    Ok(())
}

/// Returns the action of an intent, so that its outcome is recorded under the same subject.
pub(super) fn action_of(tx: &Tx<'_>, intent: u64) -> Result<String> {
    tx.sql()
        .prepare_cached("SELECT subject FROM orch_event WHERE seq = ?1")
        .and_then(|mut s| s.query_row([signed(intent)], |row| row.get(0)).optional())
        .map_err(sql("read an intent"))?
        .ok_or_else(|| Error::not_found("intent", intent.to_string()))
}
