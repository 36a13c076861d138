//! What a budget operation means in the ledger: pure conversions, shared by the asynchronous and
//! the transactional API.

use agent_core::{Amount, Asset, IdempotencyKey};

use super::{
    Admission, Balance, BudgetPath, Charge, Denial, Hold, HoldState, MoveLimit, OpenBudget,
    Reserve, SetLimit, Settled,
};
use crate::account::{Account, AccountName, AccountQuery, Guard};
use crate::batch::{Batch, Entry, Found, Receipt, State};
use crate::error::{Error, Result};

/// Keys that begin so belong to the openings of budgets.
const RESERVED_PREFIX: &str = "agent-pay.";

fn limit_account() -> Result<AccountName> {
    AccountName::new("budget-limit")
}

fn spent_account() -> Result<AccountName> {
    AccountName::new("budget-spent")
}

fn check_key(key: &IdempotencyKey) -> Result<()> {
    if key.as_str().starts_with(RESERVED_PREFIX) {
        Err(Error::invalid(
            "key",
            "keys beginning `agent-pay.` are kept",
        ))
    } else {
        Ok(())
    }
}

pub(super) fn open_batch(open: &OpenBudget) -> Result<Batch> {
    let asset = open.limit.asset();
    let node = open.path.account()?;
    let key = IdempotencyKey::new(open.path.opening(asset))?;
    Ok(Batch::new(
        key,
        vec![
            Entry::open(asset, limit_account()?, Guard::Unguarded),
            Entry::open(asset, spent_account()?, Guard::Unguarded),
            Entry::open(asset, node.clone(), Guard::DebitsMustNotExceedCredits),
            Entry::set_credits(limit_account()?, node, open.limit),
        ],
    ))
}

/// Compares the limit of a budget that is open with the one it is opened with again.
pub(super) fn check_limit(open: &OpenBudget, balance: Balance) -> Result<Balance> {
    if balance.limit == open.limit {
        Ok(balance)
    } else {
        Err(Error::LimitDiffers {
            path: open.path.clone(),
            limit: balance.limit,
        })
    }
}

pub(super) fn limit_batch(set: &SetLimit) -> Result<Batch> {
    check_key(&set.key)?;
    let entry = Entry::set_credits(limit_account()?, set.path.account()?, set.limit);
    Ok(Batch::new(set.key.clone(), vec![entry]))
}

pub(super) fn move_batch(step: &MoveLimit) -> Result<Batch> {
    check_key(&step.key)?;
    let (from, to) = (step.from.account()?, step.to.account()?);
    let memo = format!("{} of {} to {}", step.amount, step.from, step.to);
    let entries = vec![
        Entry::reverse(limit_account()?, from, step.amount),
        Entry::post(limit_account()?, to, step.amount),
    ];
    Ok(Batch::new(step.key.clone(), entries).with_memo(memo))
}

pub(super) fn reserve_batch(reserve: &Reserve) -> Result<Batch> {
    check_key(&reserve.key)?;
    let spent = spent_account()?;
    let holds = reserve
        .path
        .levels()
        .iter()
        .map(|level| {
            Ok(Entry::hold(
                level.account()?,
                spent.clone(),
                reserve.amount_max,
            ))
        })
        .collect::<Result<_>>()?;
    Ok(Batch::new(reserve.key.clone(), holds).with_expiry(reserve.expires_at))
}

pub(super) fn charge_batch(charge: &Charge) -> Result<Batch> {
    check_key(&charge.key)?;
    let spent = spent_account()?;
    let posts = charge
        .path
        .levels()
        .iter()
        .map(|level| Ok(Entry::post(level.account()?, spent.clone(), charge.amount)))
        .collect::<Result<_>>()?;
    Ok(Batch::new(charge.key.clone(), posts))
}

/// Reads the answer to a reservation.
pub(super) fn admission(reserve: &Reserve, answer: Result<Receipt>) -> Result<Admission> {
    match answer {
        Ok(_receipt) => Ok(Admission::Reserved(Hold {
            key: reserve.key.clone(),
            path: reserve.path.clone(),
            amount: reserve.amount_max,
            expires_at: reserve.expires_at,
        })),
        Err(error) => denial(error, reserve.amount_max).map(Admission::Denied),
    }
}

/// Reads the answer to a change of a limit or a spending.
pub(super) fn admitted(asked: Amount, answer: Result<Receipt>) -> Result<()> {
    match answer {
        Ok(_receipt) => Ok(()),
        Err(error) => Err(Error::OverBudget(Box::new(denial(error, asked)?))),
    }
}

/// Names the budget whose guard refused, or gives other errors back.
fn denial(error: Error, asked: Amount) -> Result<Denial> {
    match error {
        Error::Insufficient(short) => match BudgetPath::of_account(&short.account) {
            Some(node) => Ok(Denial {
                node,
                limit: short.credits,
                spent: short.debits_posted,
                held: short.debits_pending,
                asked,
            }),
            None => Err(Error::Insufficient(short)),
        },
        Error::AccountNotFound { asset, account } => match BudgetPath::of_account(&account) {
            Some(node) => {
                let zero = Amount::zero(asset);
                Ok(Denial {
                    node,
                    limit: zero,
                    spent: zero,
                    held: zero,
                    asked,
                })
            }
            None => Err(Error::AccountNotFound { asset, account }),
        },
        other => Err(other),
    }
}

/// Reads what a settlement did from the amounts held and captured on the root's level.
pub(super) fn settled(held: Amount, resolution: &Receipt) -> Result<Settled> {
    let first = resolution.transfers.first();
    let spent = first.map(|transfer| transfer.amount);
    let spent = spent.ok_or_else(|| Error::corrupt("a settlement without transfers"))?;
    Ok(Settled {
        spent,
        released: held.minus(spent)?,
    })
}

/// Returns what a batch holds on the root's level.
pub(super) fn held(found: &Found) -> Result<Amount> {
    let first = found.receipt.transfers.first();
    let amount = first.map(|transfer| transfer.amount);
    amount.ok_or_else(|| Error::invalid("key", "it is not the key of a reservation"))
}

/// Reads a reservation from the batch it is.
pub(super) fn hold_state(found: &Found) -> Result<HoldState> {
    let amount = held(found)?;
    let last = found.receipt.transfers.last();
    let path = last.and_then(|transfer| BudgetPath::of_account(&transfer.debit));
    let (Some(path), Some(expires_at)) = (path, found.receipt.expires_at) else {
        return Err(Error::invalid("key", "it is not the key of a reservation"));
    };
    Ok(match (found.state, &found.resolution) {
        (State::Posted, Some(resolution)) => HoldState::Settled(settled(amount, resolution)?),
        (State::Voided, _) => HoldState::Released,
        (State::Expired, _) => HoldState::Expired,
        _ => HoldState::Pending(Hold {
            key: found.receipt.key.clone(),
            path,
            amount,
            expires_at,
        }),
    })
}

/// Returns the name and the asset of a budget's account.
pub(super) fn node(asset: Asset, path: &BudgetPath) -> Result<(Asset, AccountName)> {
    Ok((asset, path.account()?))
}

/// Reads a budget from its account.
pub(super) fn balance(account: &Account) -> Option<Balance> {
    Some(Balance {
        path: BudgetPath::of_account(&account.name)?,
        limit: account.credits_posted(),
        spent: account.debits_posted(),
        held: account.debits_pending(),
    })
}

/// Asks for a budget and those below it.
pub(super) fn subtree(
    asset: Asset,
    under: &BudgetPath,
    after: Option<&BudgetPath>,
) -> Result<AccountQuery> {
    let query = AccountQuery::under(asset, under.account()?);
    match after {
        None => Ok(query),
        Some(after) => Ok(query.with_after(after.account()?)),
    }
}
