//! The ledger's side of a step, in the journal's transaction.

use std::time::Duration;

use agent_core::store::Tx;
use agent_core::{Amount, IdempotencyKey, Scope, TaskId, UsageRecord};
use agent_pay::backend::sqlite as ledger;
use agent_pay::{Attribution, BudgetPath, Reserve, Settle, UsageEntry};

use super::trees;
use crate::error::Result;

/// How long a hold outlives its intent: longer than any question to a person may wait.
const HOLD_LASTS: Duration = Duration::from_secs(30 * 86_400);

/// Holds the most an effect may cost.
pub(super) fn hold(
    tx: &mut Tx<'_>,
    task: TaskId,
    key: &IdempotencyKey,
    path: &BudgetPath,
    max: Amount,
) -> Result<()> {
    trees::hold(tx, task, key, max)?;
    let expires = tx.now().after(HOLD_LASTS);
    let reserve = Reserve::new(key.clone(), path.clone(), max, expires);
    ledger::reserve(tx, &reserve)?.into_hold()?;
    Ok(())
}

/// Posts what an effect did cost and frees the rest.
pub(super) fn settle(tx: &mut Tx<'_>, key: &IdempotencyKey, cost: Option<Amount>) -> Result<()> {
    trees::settle(tx, key, cost)?;
    match cost {
        Some(cost) if !cost.is_zero() => {
            ledger::settle(tx, &Settle::new(key.clone(), cost))?;
        }
        _ => {
            ledger::release(tx, key)?;
        }
    }
    Ok(())
}

/// Frees what was held.
pub(super) fn release(tx: &mut Tx<'_>, key: &IdempotencyKey) -> Result<()> {
    trees::settle(tx, key, None)?;
    ledger::release(tx, key)?;
    Ok(())
}

/// Takes note of consumption.
pub(super) fn meter(tx: &mut Tx<'_>, scope: &Scope, record: &UsageRecord) -> Result<()> {
    ledger::record_usage(
        tx,
        &UsageEntry::new(Attribution::of(scope), record.clone())?,
    )?;
    Ok(())
}
