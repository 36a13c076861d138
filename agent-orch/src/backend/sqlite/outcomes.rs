//! Outcomes of steps: recorded once, with the money of the try settled.

use agent_core::store::{Tx, sql};
use agent_core::{IdempotencyKey, Scope};
use rusqlite::params;
use serde_json::{Value, json};

use super::claim::{self, Held};
use super::events::{self, Body, Entry};
use super::money;
use super::rows::{Hash, column, task_bits, to_json, unsigned};
use super::steps::{INSERT, REPLACE, Row, find, hold_key, put};
use crate::error::{Error, Result};
use crate::journal::{Outcome, Pass, StepKey};
use crate::machine::{
    OutcomeDecision, StepState, decide_outcome, state_after, step_key, step_key_at,
};
use crate::task::{Lease, Task};

/// An outcome, worked out in the caller's task.
pub(super) struct Settlement {
    pass: Pass,
    outcome: Outcome,
    result: String,
    body: Body,
}

impl Settlement {
    pub(super) fn new(pass: Pass, outcome: Outcome) -> Result<Self> {
        let result = match &outcome.result {
            Ok(value) => value.to_string(),
            Err(failure) => to_json(failure)?,
        };
        if result.len() > Outcome::RESULT_BYTES_MAX {
            return Err(Error::invalid(
                "outcome",
                "the result is over 4 MiB; return where it lies",
            ));
        }
        let mut payload = json!({
            "step": pass.step.name, "ordinal": pass.step.ordinal, "try": pass.n_try,
            "cost": outcome.cost, "result": agent_core::Digest::of_bytes(result.as_bytes()),
            "failure": outcome.result.as_ref().err(),
            "usage": outcome.usage.iter()
                .map(|r| json!({"resource": r.resource, "usage": r.usage}))
                .collect::<Vec<Value>>(),
        });
        // Without a record of its own the intent stands in the record of the outcome.
        if let (None, Value::Object(members)) = (pass.intent, &mut payload) {
            members.insert("effect".to_owned(), json!(*pass.effect));
            members.insert("digest".to_owned(), json!(pass.digest));
            members.insert("key".to_owned(), json!(pass.key));
        }
        Ok(Self {
            body: Body::new(&payload),
            pass,
            outcome,
            result,
        })
    }
}

/// Records how an effect ended and settles its money.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    settlement: &Settlement,
) -> Result<()> {
    let Settlement {
        pass,
        outcome,
        result,
        ..
    } = settlement;
    let held = claim::check_lease(tx, lease)?;
    // A first try that left no intent has no row, unless it was settled already.
    let mut row = Row {
        state: StepState::after(&outcome.result),
        is_held: false,
        outcome: Some(result),
    };
    let is_first = matches!(decide_outcome(None, pass), OutcomeDecision::Record { .. });
    if is_first && put(tx, INSERT, lease, pass, &row)? {
        return record_outcome(tx, scope, lease, held, row.state, settlement);
    }
    let known = find(tx, lease, &pass.step)?;
    let OutcomeDecision::Record { is_held } = decide_outcome(known.as_ref(), pass) else {
        let name = format!("{}#{}", pass.step.name, pass.step.ordinal);
        return Err(Error::not_found("open intent of step", name));
    };
    let state = state_after(known.as_ref(), pass.class, &outcome.result);
    (row.state, row.is_held) = (state, is_held);
    put(tx, REPLACE, lease, pass, &row)?;
    // What may have been spent stays held until somebody knows.
    if is_held && state != StepState::Unknown {
        let own = step_key(lease, &pass.step, &pass.digest)?;
        money::settle(tx, &hold_key(&own, pass.n_try)?, outcome.cost)?;
    }
    record_outcome(tx, scope, lease, held, state, settlement)
}

/// Meters what was consumed and appends the record of an outcome.
fn record_outcome(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    held: Held,
    state: StepState,
    settlement: &Settlement,
) -> Result<()> {
    let Settlement {
        pass,
        outcome,
        body,
        ..
    } = settlement;
    for record in &outcome.usage {
        money::meter(tx, scope, record)?;
    }
    let mut entry = Entry::of(scope, state.event(), &pass.effect.action, Value::Null);
    (entry.task, entry.fence, entry.cause) = (Some(lease.task), Some(lease.fence), pass.intent);
    entry.code = outcome
        .result
        .as_ref()
        .err()
        .map_or("", |failure| failure.code.as_str());
    entry.run = Some(held.run);
    events::append_body(tx, &entry, Some(held.correlation), body)?;
    Ok(())
}

/// An intent without an outcome whose money is held.
pub(super) struct OpenHold {
    pub(super) name: String,
    pub(super) hold: IdempotencyKey,
    pub(super) intent: u64,
}

/// Releases the money of intents that no round will ever resolve.
pub(super) fn abandon(tx: &mut Tx<'_>, task: &Task) -> Result<()> {
    for open in open_holds(tx, task)? {
        money::release(tx, &open.hold)?;
    }
    Ok(())
}

/// Finds what a task's round holds.
pub(super) fn open_holds(tx: &Tx<'_>, task: &Task) -> Result<Vec<OpenHold>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT stage, name, ordinal, digest, n_try, intent FROM orch_step
             WHERE task = ?1 AND round = ?2 AND state IN ('intended', 'unknown') AND is_held",
        )
        .map_err(sql("find open intents"))?;
    let mut rows = statement
        .query(params![task_bits(task.id), task.round])
        .map_err(sql("find open intents"))?;
    let mut open = Vec::new();
    while let Some(row) = rows.next().map_err(sql("find open intents"))? {
        let name: String = column(row, "name")?;
        let step = StepKey::new(name.clone(), column(row, "ordinal")?);
        let stage = column::<String>(row, "stage")?.parse()?;
        let digest = column::<Hash>(row, "digest")?.0;
        let key = step_key_at(task.id, task.round, stage, &step, &digest)?;
        open.push(OpenHold {
            name,
            hold: hold_key(&key, column(row, "n_try")?)?,
            intent: unsigned(column(row, "intent")?),
        });
    }
    Ok(open)
}
