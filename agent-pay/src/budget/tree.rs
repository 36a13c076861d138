//! Budgets over any ledger.

use std::sync::Arc;

use agent_core::{Asset, IdempotencyKey};

use super::{
    Admission, Balance, BudgetPath, Charge, HoldState, Member, MoveLimit, OpenBudget, Reserve,
    SetLimit, Settle, Settled, Standing, plan,
};
use crate::account::AccountQuery;
use crate::batch::{Resolution, State};
use crate::error::{Error, Result};
use crate::ledger::Ledger;

/// The budgets kept in a ledger. Cheap to clone.
///
/// Every change is one write of the ledger, so it is atomic, and repeating it with its key is
/// harmless.
#[derive(Clone, Debug)]
pub struct Budgets {
    ledger: Arc<dyn Ledger>,
}

impl Budgets {
    /// Uses the budgets of a ledger.
    #[must_use]
    pub const fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// Opens a budget. Opening it again with the limit it has changes nothing.
    ///
    /// # Errors
    /// `Conflict` ([`Error::LimitDiffers`]) if it is open with another limit.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(&self, open: OpenBudget) -> Result<Balance> {
        match self.ledger.post(plan::open_batch(&open)?).await {
            Ok(_) | Err(Error::KeyReused { .. }) => {}
            Err(error) => return Err(error),
        }
        let balance = self.balance(open.limit.asset(), open.path.clone()).await?;
        plan::check_limit(&open, balance)
    }

    /// Changes the limit of an open budget. It cannot fall below what is spent and held.
    ///
    /// # Errors
    /// `Exhausted` ([`Error::OverBudget`]) if more is spent and held, or the budget is not open;
    /// `Conflict` for a key used otherwise.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn set_limit(&self, set: SetLimit) -> Result<()> {
        let answer = self.ledger.post(plan::limit_batch(&set)?).await;
        plan::admitted(set.limit, answer)
    }

    /// Moves part of a limit from one budget to another: both change or neither. Budgets above
    /// stay as they are, so the tree never allows more than before.
    ///
    /// # Errors
    /// `Exhausted` ([`Error::OverBudget`]) if the one that gives has less that is free or one of
    /// them is not open; `Conflict` for a key used otherwise.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn move_limit(&self, step: MoveLimit) -> Result<()> {
        let answer = self.ledger.post(plan::move_batch(&step)?).await;
        plan::admitted(step.amount, answer)
    }

    /// Reads how the members of a pool stand, for [`Allocation::plan`](super::Allocation::plan).
    ///
    /// # Errors
    /// Those of the ledger.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn standing(
        &self,
        asset: Asset,
        pool: BudgetPath,
        members: Vec<Member>,
    ) -> Result<Standing> {
        let pool = self.balance(asset, pool).await?;
        let mut balances = Vec::with_capacity(members.len());
        for member in members {
            let balance = self.balance(asset, member.path.clone()).await?;
            balances.push((member, balance));
        }
        Ok(Standing {
            pool,
            members: balances,
        })
    }

    /// Reserves an amount on the path and every budget above, on all of them or on none.
    ///
    /// A budget that is not open has the limit zero. A denial holds nothing and leaves the key
    /// free.
    ///
    /// # Errors
    /// `Conflict` for a key used otherwise, `Invalid` for a negative amount or an expiry that has
    /// passed. A denial is not an error.
    ///
    /// # Cancel safety
    /// Atomic: after a lost answer repeat it with the same key.
    pub async fn reserve(&self, reserve: Reserve) -> Result<Admission> {
        let answer = self.ledger.post(plan::reserve_batch(&reserve)?).await;
        plan::admission(&reserve, answer)
    }

    /// Posts what a reserved effect did cost and releases the rest.
    ///
    /// # Errors
    /// `Invalid` if it is more than was reserved (settle with the reserved amount, then
    /// [`Budgets::charge`] the rest), `Conflict` if the reservation is settled otherwise, released
    /// or expired, `NotFound` for an unknown key.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn settle(&self, settle: Settle) -> Result<Settled> {
        let resolution = Resolution::Capture(settle.actual);
        let receipt = self.ledger.resolve(settle.key.clone(), resolution).await?;
        let found = self.ledger.find(settle.key.clone()).await?;
        let found = found.ok_or(Error::KeyNotFound { key: settle.key })?;
        plan::settled(plan::held(&found)?, &receipt)
    }

    /// Releases a reservation whose effect did not happen. Releasing an expired one is harmless.
    ///
    /// # Errors
    /// `Conflict` if it is settled, `NotFound` for an unknown key.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn release(&self, key: IdempotencyKey) -> Result<()> {
        match self.ledger.resolve(key, Resolution::Void).await {
            Ok(_receipt) => Ok(()),
            Err(Error::Resolved {
                state: State::Expired,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Spends without a reservation, within the same limits.
    ///
    /// # Errors
    /// `Exhausted` ([`Error::OverBudget`]) if a budget on the way has too little, `Conflict` for
    /// a key used otherwise.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn charge(&self, charge: Charge) -> Result<()> {
        let answer = self.ledger.post(plan::charge_batch(&charge)?).await;
        plan::admitted(charge.amount, answer)
    }

    /// Releases at most `limit` expired reservations and returns how many it released.
    ///
    /// # Errors
    /// Those of the ledger.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn expire(&self, limit: usize) -> Result<usize> {
        Ok(self.ledger.expire(limit).await?.len())
    }

    /// Returns what became of a reservation.
    ///
    /// # Errors
    /// `Invalid` if the key belongs to something else.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn hold(&self, key: IdempotencyKey) -> Result<Option<HoldState>> {
        let found = self.ledger.find(key).await?;
        found.as_ref().map(plan::hold_state).transpose()
    }

    /// Returns the state of one budget; all zero if it is not open.
    ///
    /// # Errors
    /// Those of the ledger.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn balance(&self, asset: Asset, path: BudgetPath) -> Result<Balance> {
        let (asset, name) = plan::node(asset, &path)?;
        let found = self
            .ledger
            .accounts(AccountQuery::exact(asset, name))
            .await?;
        let balance = found.first().and_then(plan::balance);
        Ok(balance.unwrap_or_else(|| Balance::zero(path, asset)))
    }

    /// Returns a budget and those below it, in the order of their paths: the spending by prefix.
    /// Continue behind the last path of a page of at most [`AccountQuery::LIMIT_MAX`].
    ///
    /// # Errors
    /// Those of the ledger.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn balances(
        &self,
        asset: Asset,
        under: BudgetPath,
        after: Option<BudgetPath>,
    ) -> Result<Vec<Balance>> {
        let query = plan::subtree(asset, &under, after.as_ref())?;
        let accounts = self.ledger.accounts(query).await?;
        Ok(accounts.iter().filter_map(plan::balance).collect())
    }
}
