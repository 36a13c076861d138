//! Takes the snapshot a decision is made on.

use agent_core::store::Tx;

use super::super::book::TxBook;
use super::approve;
use super::desk::{Desk, Step};
use super::nodes;
use crate::account::{Account, AccountName, Guard};
use crate::authority::{Intent, Level, Limit, Measure, Meter, Snapshot, Window};
use crate::error::Result;
use crate::journal::Book;

/// A limit's account as the ledger has it, or as it has to be opened.
pub(super) struct Sum {
    pub(super) limit: Limit,
    pub(super) name: AccountName,
    pub(super) account: Option<Account>,
}

/// A snapshot and the accounts behind its meters, in the same order.
pub(super) struct Taken {
    pub(super) snapshot: Snapshot,
    pub(super) sums: Vec<Sum>,
}

/// Takes it through the book that the money is then held through, so that each account is read
/// once.
pub(super) fn take(desk: &mut Desk<'_, '_>, intent: &Intent, held: i64) -> Result<Taken> {
    let now = desk.now()?;
    let (mut levels, mut sums) = (Vec::new(), Vec::new());
    for step in desk.path(&intent.node)?.iter() {
        levels.push(metered(&desk.book, step, intent, held > 0, &mut sums)?);
    }
    let mut snapshot = Snapshot::new(now, levels);
    snapshot.is_halted = desk.is_halted()?;
    snapshot.is_payee_known = desk.is_known(&intent.node, &intent.payee.name)?;
    snapshot.held_units = held;
    snapshot.approval = None;
    if let Some(movement) = &intent.movement {
        let asset = intent.amount_max.asset();
        let purse = desk.book.account_by_name(asset, &movement.from)?;
        snapshot.funds_units = funds(purse.as_ref());
    }
    Ok(Taken { snapshot, sums })
}

/// Looks up the approval of an intent, where the decision would ask for one.
pub(super) fn look_up_approval(tx: &Tx<'_>, taken: &mut Taken, intent: &Intent) -> Result<()> {
    let found = approve::approval(tx, &intent.digest()?)?;
    taken.snapshot.approval = found.map(|request| request.state);
    Ok(())
}

fn metered(
    book: &TxBook<'_, '_>,
    step: &Step,
    intent: &Intent,
    is_top_up: bool,
    sums: &mut Vec<Sum>,
) -> Result<Level> {
    let asset = intent.amount_max.asset();
    let mut level = step.level.clone();
    let mut has_budget = false;
    for (limit, name) in &step.limits {
        let is_metered = match limit.measure {
            Measure::Amount(amount) => amount.asset() == asset,
            // A top-up is part of a spend that was counted.
            Measure::Count(_) => !is_top_up,
        };
        if !is_metered {
            continue;
        }
        has_budget |= limit.window == Window::Lifetime;
        let account = book.account_by_name(limit.asset()?, name)?;
        level.meters.push(meter(*limit, account.as_ref())?);
        let (limit, name) = (*limit, name.clone());
        sums.push(Sum {
            limit,
            name,
            account,
        });
    }
    // A budget that was opened without a policy limits all the same.
    if !has_budget && let Some(account) = book.account_by_name(asset, &step.budget)? {
        let limit = nodes::lifetime(account.credits_posted())?;
        level.meters.push(meter(limit, Some(&account))?);
        let name = step.budget.clone();
        sums.push(Sum {
            limit,
            name,
            account: Some(account),
        });
    }
    Ok(level)
}

fn meter(limit: Limit, account: Option<&Account>) -> Result<Meter> {
    let taken = account.map_or(0, |account| {
        let b = account.balances;
        b.debits_posted.saturating_add(b.debits_pending)
    });
    // What was allocated to a budget counts; windows follow the policy.
    let max = match (limit.window, account) {
        (Window::Lifetime, Some(account)) => account.balances.credits_posted,
        (Window::Lifetime, None) => 0,
        _ => limit.max_units()?,
    };
    Ok(Meter::new(limit, max, taken))
}

fn funds(purse: Option<&Account>) -> Option<i64> {
    let Some(purse) = purse else { return Some(0) };
    if purse.guard == Guard::Unguarded {
        return None;
    }
    let b = purse.balances;
    let taken = b.debits_posted.saturating_add(b.debits_pending);
    Some(b.credits_posted.saturating_sub(taken))
}
