//! Budgets within a transaction of a backend, for writes that must commit together with others.
//!
//! The functions do what the methods of [`Budgets`](super::Budgets) of the same names do.

use agent_core::{Amount, Asset, IdempotencyKey};

use super::{
    Admission, Balance, BudgetPath, Charge, HoldState, MoveLimit, OpenBudget, Reserve, SetLimit,
    Settle, Settled, plan,
};
use crate::account::{Account, AccountQuery};
use crate::batch::{Resolution, State};
use crate::error::{Error, Result};
use crate::journal::{self, Book};

/// Opens a budget.
///
/// # Errors
/// As [`Budgets::open`](super::Budgets::open).
pub fn open_budget<B: Book + ?Sized>(book: &mut B, open: &OpenBudget) -> Result<Balance> {
    match journal::post(book, &plan::open_batch(open)?) {
        Ok(_) | Err(Error::KeyReused { .. }) => {}
        Err(error) => return Err(error),
    }
    let balance = balance(book, open.limit.asset(), &open.path)?;
    plan::check_limit(open, balance)
}

/// Changes the limit of an open budget.
///
/// # Errors
/// As [`Budgets::set_limit`](super::Budgets::set_limit).
pub fn set_limit<B: Book + ?Sized>(book: &mut B, set: &SetLimit) -> Result<()> {
    let answer = journal::post(book, &plan::limit_batch(set)?);
    plan::admitted(set.limit, answer)
}

/// Moves part of a limit.
///
/// # Errors
/// As [`Budgets::move_limit`](super::Budgets::move_limit).
pub fn move_limit<B: Book + ?Sized>(book: &mut B, step: &MoveLimit) -> Result<()> {
    let answer = journal::post(book, &plan::move_batch(step)?);
    plan::admitted(step.amount, answer)
}

/// Reserves an amount on the path and every budget above.
///
/// # Errors
/// As [`Budgets::reserve`](super::Budgets::reserve).
pub fn reserve<B: Book + ?Sized>(book: &mut B, reserve: &Reserve) -> Result<Admission> {
    let answer = journal::post(book, &plan::reserve_batch(reserve)?);
    plan::admission(reserve, answer)
}

/// Posts what a reserved effect did cost and releases the rest.
///
/// # Errors
/// As [`Budgets::settle`](super::Budgets::settle).
pub fn settle<B: Book + ?Sized>(book: &mut B, settle: &Settle) -> Result<Settled> {
    let resolution = Resolution::Capture(settle.actual);
    let (holds, receipt) = journal::resolve_holds(book, &settle.key, &resolution)?;
    let held = holds.first().map_or(0, |hold| hold.units);
    let held = Amount::from_units(i128::from(held), settle.actual.asset());
    plan::settled(held, &receipt)
}

/// Releases a reservation whose effect did not happen.
///
/// # Errors
/// As [`Budgets::release`](super::Budgets::release).
pub fn release<B: Book + ?Sized>(book: &mut B, key: &IdempotencyKey) -> Result<()> {
    match journal::resolve(book, key, &Resolution::Void) {
        Ok(_receipt) => Ok(()),
        Err(Error::Resolved {
            state: State::Expired,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Spends without a reservation.
///
/// # Errors
/// As [`Budgets::charge`](super::Budgets::charge).
pub fn charge<B: Book + ?Sized>(book: &mut B, charge: &Charge) -> Result<()> {
    let answer = journal::post(book, &plan::charge_batch(charge)?);
    plan::admitted(charge.amount, answer)
}

/// Returns what became of a reservation.
///
/// # Errors
/// As [`Budgets::hold`](super::Budgets::hold).
pub fn hold<B: Book + ?Sized>(book: &B, key: &IdempotencyKey) -> Result<Option<HoldState>> {
    let found = journal::find(book, key)?;
    found.as_ref().map(plan::hold_state).transpose()
}

/// Returns the state of one budget.
///
/// # Errors
/// As [`Budgets::balance`](super::Budgets::balance).
pub fn balance<B: Book + ?Sized>(book: &B, asset: Asset, path: &BudgetPath) -> Result<Balance> {
    let (asset, name) = plan::node(asset, path)?;
    let account = book.account_by_name(asset, &name)?;
    let balance = account.as_ref().and_then(plan::balance);
    Ok(balance.unwrap_or_else(|| Balance::zero(path.clone(), asset)))
}

/// Returns the query for a budget and those below it, and how to read its answer.
///
/// # Errors
/// None for paths that exist.
#[expect(clippy::type_complexity, reason = "a query and its reader")]
pub fn subtree(
    asset: Asset,
    under: &BudgetPath,
    after: Option<&BudgetPath>,
) -> Result<(AccountQuery, fn(&Account) -> Option<Balance>)> {
    Ok((plan::subtree(asset, under, after)?, plan::balance))
}
