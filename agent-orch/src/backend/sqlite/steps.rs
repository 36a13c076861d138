//! Steps: intents and outcomes, with the money between them.

use agent_core::store::{Tx, sql};
use agent_core::{IdempotencyKey, Scope};
use agent_identity::backend::SqliteGrantStore;
use agent_identity::grant_store::{Charge, ChargeMode};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use super::claim::{self, Held};
use super::events::{self, Body, Entry};
use super::rows::{Hash, damaged, from_json, signed, task_bits, unsigned};
use super::seen::Seen;
use super::{fork, money, undo};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Pass, StepKey};
use crate::machine::{
    IntentDecision, KnownStep, StepState, decide_intent, is_intent_durable, step_key, step_key_anew,
};
use crate::task::Lease;
use crate::undo::NewUndo;

/// Returns what is known of a step of a lease's round and stage.
pub(super) fn find(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<Option<KnownStep>> {
    let found = tx
        .sql()
        .prepare_cached(
            "SELECT digest, state, n_try, intent, is_held FROM orch_step
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
                    let state = StepState::of_name(row.get_ref(1)?.as_str()?);
                    let digest = row.get::<_, Hash>(0)?.0;
                    Ok(state.map(|state| (digest, state, row.get(2), row.get(3), row.get(4))))
                },
            )
            .optional()
        })
        .map_err(sql("read a step"))?;
    let Some(found) = found else {
        return Ok(None);
    };
    let (digest, state, n_try, intent, is_held) =
        found.ok_or_else(|| damaged("a step has a state nobody wrote".to_owned()))?;
    let mut known = KnownStep::new(digest, state, n_try.map_err(sql("read a step"))?);
    let intent: i64 = intent.map_err(sql("read a step"))?;
    known.intent = Some(unsigned(intent)).filter(|seq| *seq > 0);
    known.is_held = is_held.map_err(sql("read a step"))?;
    Ok(Some(known))
}

/// Reads what a finished step returned.
fn recorded(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<Value> {
    let outcome: Option<String> = tx
        .sql()
        .prepare_cached(
            "SELECT outcome FROM orch_step
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
        })
        .map_err(sql("read the result of a step"))?;
    from_json(outcome.as_deref().unwrap_or("null"))
}

/// Returns whether a step has a recorded result.
pub(super) fn is_recorded(tx: &Tx<'_>, lease: &Lease, step: &StepKey) -> Result<bool> {
    Ok(find(tx, lease, step)?.is_some_and(|known| known.state == StepState::Done))
}

/// The key of the money held for one try; a try that failed was settled, so the next one needs
/// its own.
pub(super) fn hold_key(key: &IdempotencyKey, n_try: u32) -> Result<IdempotencyKey> {
    Ok(IdempotencyKey::new(format!("{}.{n_try}", key.as_str()))?)
}

/// An intent, worked out in the caller's task so that the writer has only to compare and insert.
pub(super) struct Prepared {
    pass: Pass,
    budget: Option<agent_pay::BudgetPath>,
    charge: Option<Charge>,
    undo: Option<NewUndo>,
    body: Body,
    /// Whether the intent must be on disk before the effect happens.
    pub(super) is_durable: bool,
}

impl Prepared {
    pub(super) fn new(lease: &Lease, intent: Intent) -> Result<Self> {
        let is_durable = is_intent_durable(&intent);
        let Intent {
            step,
            effect,
            budget,
            charge,
            undo,
        } = intent;
        let digest = effect.digest()?;
        let key = step_key(lease, &step, &digest)?;
        let pass = Pass::new(step, key, effect, digest);
        let body = if is_durable {
            Body::new(&intent_payload(&pass))
        } else {
            Body::new(&Value::Null)
        };
        Ok(Self {
            pass,
            budget,
            charge,
            undo,
            body,
            is_durable,
        })
    }

    pub(super) const fn step(&self) -> &StepKey {
        &self.pass.step
    }

    /// Lets a step happen of which nothing is known.
    pub(super) fn go(self) -> Intended {
        Intended::Go(self.pass)
    }
}

/// Returns the recorded steps of a lease's round and stage, or `None` if they are too many to
/// remember.
pub(super) fn names(tx: &Tx<'_>, lease: &Lease) -> Result<Option<Vec<StepKey>>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT name, ordinal FROM orch_step WHERE task = ?1 AND round = ?2 AND stage = ?3
             LIMIT ?4",
        )
        .map_err(sql("list the steps of a task"))?;
    let limit = i64::try_from(Seen::STEPS_MAX).unwrap_or(i64::MAX);
    let keyed = params![
        task_bits(lease.task),
        lease.round,
        lease.stage.name(),
        limit
    ];
    let steps = statement
        .query_map(keyed, |row| {
            Ok(StepKey::new(row.get::<_, String>(0)?, row.get(1)?))
        })
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(sql("list the steps of a task"))?;
    Ok((steps.len() < Seen::STEPS_MAX).then_some(steps))
}

/// What the audit record of an intent says.
fn intent_payload(pass: &Pass) -> Value {
    json!({
        "step": pass.step.name, "ordinal": pass.step.ordinal, "try": pass.n_try,
        "effect": *pass.effect, "digest": pass.digest, "key": pass.key,
    })
}

/// What is decided about an intent before anything is written.
enum Looked {
    Answer(Intended),
    Go {
        pass: Pass,
        is_held: bool,
        state: StepState,
        /// Whether the step was forgotten, so that its key must be kept.
        is_anew: bool,
    },
}

/// Decides about an intent whose lease was checked.
fn look(tx: &Tx<'_>, lease: &Lease, held: Held, mut pass: Pass) -> Result<Looked> {
    if held.is_wanted_back {
        return Err(Error::Yielded { task: lease.task });
    }
    let known = find(tx, lease, &pass.step)?;
    if known
        .as_ref()
        .is_some_and(|known| known.state != StepState::Done)
        && let Some(key) = fork::key_of(tx, lease, &pass.step)?
    {
        pass.key = key;
    }
    match decide_intent(known.as_ref(), &pass.digest, pass.class) {
        IntentDecision::Go {
            n_try,
            is_held,
            is_in_doubt,
        } => {
            pass.n_try = n_try;
            let is_anew = known.is_some_and(|known| known.state == StepState::Forgotten);
            if is_anew {
                pass.key = step_key_anew(&pass.key, n_try)?;
            }
            let state = if is_in_doubt {
                StepState::Unknown
            } else {
                StepState::Intended
            };
            Ok(Looked::Go {
                pass,
                is_held,
                state,
                is_anew,
            })
        }
        IntentDecision::Recorded => {
            let value = recorded(tx, lease, &pass.step)?;
            Ok(Looked::Answer(Intended::Recorded(value)))
        }
        IntentDecision::InDoubt { n_try, intent } => {
            (pass.n_try, pass.intent) = (n_try, intent);
            Ok(Looked::Answer(Intended::InDoubt(pass)))
        }
        IntentDecision::Drift => Err(Error::Drift {
            task: lease.task,
            name: pass.step.name,
            ordinal: pass.step.ordinal,
        }),
    }
}

/// Answers an intent that need not be durable: nothing is written.
pub(super) fn peek(tx: &Tx<'_>, lease: &Lease, prepared: Prepared) -> Result<Intended> {
    let held = claim::check_lease(tx, lease)?;
    Ok(match look(tx, lease, held, prepared.pass)? {
        Looked::Answer(answer) => answer,
        Looked::Go { pass, .. } => Intended::Go(pass),
    })
}

/// Records an intent and holds its money, or answers with what is known of the step.
pub(super) fn intend(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    prepared: Prepared,
) -> Result<Intended> {
    let Prepared {
        pass,
        budget,
        charge,
        undo,
        body,
        ..
    } = prepared;
    let held = claim::check_lease(tx, lease)?;
    let (mut pass, mut is_held, state) = match look(tx, lease, held, pass)? {
        Looked::Answer(answer) => return Ok(answer),
        Looked::Go {
            pass,
            is_held,
            state,
            is_anew,
        } => {
            if is_anew {
                fork::keep_key(tx, lease, &pass.step, &pass.key)?;
            }
            (pass, is_held, state)
        }
    };
    if let (false, Some(path), Some(max)) = (is_held, &budget, pass.effect.cost_max)
        && !max.is_zero()
    {
        let own = step_key(lease, &pass.step, &pass.digest)?;
        money::hold(tx, lease.task, &hold_key(&own, pass.n_try)?, path, max)?;
        is_held = true;
    }
    if let Some(charge) = &charge {
        take(tx, scope, &pass, charge)?;
    }
    // The body was written for a first try.
    let body = if pass.n_try == 1 {
        body
    } else {
        Body::new(&intent_payload(&pass))
    };
    let mut entry = Entry::of(scope, "effect.intended", &pass.effect.action, Value::Null);
    (entry.task, entry.fence) = (Some(lease.task), Some(lease.fence));
    entry.run = Some(held.run);
    let seq = events::append_body(tx, &entry, Some(held.correlation), &body)?;
    pass.intent = Some(seq);
    let row = Row {
        state,
        is_held,
        outcome: None,
    };
    put(tx, REPLACE, lease, &pass, &row)?;
    if let Some(undo) = &undo {
        undo::arm(tx, lease, &pass, undo)?;
    }
    Ok(Intended::Go(pass))
}

/// Counts an effect against the limits of the grants that permit it.
fn take(tx: &Tx<'_>, scope: &Scope, pass: &Pass, charge: &Charge) -> Result<()> {
    let taken = SqliteGrantStore::charge_in(tx, &scope.tenant, charge, ChargeMode::Take);
    taken.map_err(|error| match error {
        agent_identity::Error::UsedUp { .. } => Error::Refused {
            action: pass.effect.action.clone(),
            target: pass.effect.target.clone(),
            code: "grant.used_up".to_owned(),
            reason: error.to_string(),
        },
        other => other.into(),
    })
}

/// What a step's row says beside its key and its pass.
pub(super) struct Row<'a> {
    pub(super) state: StepState,
    pub(super) is_held: bool,
    pub(super) outcome: Option<&'a str>,
}

pub(super) const INSERT: &str = "INSERT OR IGNORE INTO orch_step
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
pub(super) const REPLACE: &str = "INSERT OR REPLACE INTO orch_step
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// Writes the row of a step and returns whether it was written.
pub(super) fn put(
    tx: &Tx<'_>,
    verb: &str,
    lease: &Lease,
    pass: &Pass,
    row: &Row<'_>,
) -> Result<bool> {
    let n_written = tx
        .sql()
        .prepare_cached(verb)
        .and_then(|mut s| {
            s.execute(params![
                task_bits(lease.task),
                lease.round,
                lease.stage.name(),
                pass.step.name,
                pass.step.ordinal,
                Hash(pass.digest),
                row.state.name(),
                pass.n_try,
                signed(lease.fence.0),
                signed(pass.intent.unwrap_or(0)),
                row.is_held,
                row.outcome,
            ])
        })
        .map_err(sql("record a step"))?;
    Ok(n_written > 0)
}
