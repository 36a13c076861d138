//! Budgets: a tree of limits in which spending is reserved before it happens.
//!
//! A budget is a guarded account of the ledger. Its limit is what was credited to it, what is held
//! and spent is what is pending and posted against it, so the guard of the ledger is the proof
//! that no budget is overspent:
//!
//! ```text
//!  budget-limit ──limit──► budget/fleet ──────────spent, held──► budget-spent
//!  budget-limit ──limit──► budget/fleet/menders ──spent, held──► budget-spent
//! ```
//!
//! A reservation is one batch with a hold for every level of the path: it holds on all levels or
//! on none.

#![expect(
    clippy::module_name_repetitions,
    reason = "the names are used from the root of the crate"
)]

mod allocate;
mod path;
mod plan;
pub mod sync;
mod tree;

use std::fmt;

use agent_core::{Amount, Asset, IdempotencyKey, Timestamp};

pub use allocate::{Allocation, Member, Move, Standing};
pub use path::BudgetPath;
pub use tree::Budgets;

/// Opens a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenBudget {
    /// The budget.
    pub path: BudgetPath,
    /// How much may be spent in all, by it and everything below it.
    pub limit: Amount,
}

impl OpenBudget {
    /// Opens `path` with a limit.
    #[must_use]
    pub const fn new(path: BudgetPath, limit: Amount) -> Self {
        Self { path, limit }
    }
}

/// Changes the limit of an open budget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetLimit {
    /// The key of the change.
    pub key: IdempotencyKey,
    /// The budget.
    pub path: BudgetPath,
    /// Its limit afterwards.
    pub limit: Amount,
}

impl SetLimit {
    /// Sets the limit of `path`.
    #[must_use]
    pub const fn new(key: IdempotencyKey, path: BudgetPath, limit: Amount) -> Self {
        Self { key, path, limit }
    }
}

/// Moves part of a limit from one budget to another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MoveLimit {
    /// The key of the move.
    pub key: IdempotencyKey,
    /// The budget that gives: only what it has neither spent nor held.
    pub from: BudgetPath,
    /// The budget that gets.
    pub to: BudgetPath,
    /// How much.
    pub amount: Amount,
}

impl MoveLimit {
    /// Moves `amount` of the limit of `from` to that of `to`.
    #[must_use]
    pub const fn new(
        key: IdempotencyKey,
        from: BudgetPath,
        to: BudgetPath,
        amount: Amount,
    ) -> Self {
        Self {
            key,
            from,
            to,
            amount,
        }
    }
}

/// Reserves the most an effect may cost, before it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reserve {
    /// The key of the reservation, derived from the step it is for.
    pub key: IdempotencyKey,
    /// The budget that pays, and with it every budget above.
    pub path: BudgetPath,
    /// The most it may cost.
    pub amount_max: Amount,
    /// When the reservation is released by itself: after the deadline of the effect.
    pub expires_at: Timestamp,
}

impl Reserve {
    /// Reserves `amount_max` of `path` until `expires_at`.
    #[must_use]
    pub const fn new(
        key: IdempotencyKey,
        path: BudgetPath,
        amount_max: Amount,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            key,
            path,
            amount_max,
            expires_at,
        }
    }
}

/// Posts what a reserved effect did cost and releases the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settle {
    /// The key of the reservation.
    pub key: IdempotencyKey,
    /// What it did cost, at most what was reserved.
    pub actual: Amount,
}

impl Settle {
    /// Settles the reservation `key`.
    #[must_use]
    pub const fn new(key: IdempotencyKey, actual: Amount) -> Self {
        Self { key, actual }
    }
}

/// Spends without a reservation: late or additional cost, admitted by the same limits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// The key of the spending.
    pub key: IdempotencyKey,
    /// The budget that pays, and with it every budget above.
    pub path: BudgetPath,
    /// How much.
    pub amount: Amount,
}

impl Charge {
    /// Spends `amount` of `path`.
    #[must_use]
    pub const fn new(key: IdempotencyKey, path: BudgetPath, amount: Amount) -> Self {
        Self { key, path, amount }
    }
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// Its key, by which it is settled or released.
    pub key: IdempotencyKey,
    /// The budget that pays.
    pub path: BudgetPath,
    /// What is held on every level.
    pub amount: Amount,
    /// When it is released by itself.
    pub expires_at: Timestamp,
}

/// Why a reservation or a spending was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denial {
    /// The first budget from the root that has too little.
    pub node: BudgetPath,
    /// Its limit; zero if it is not open.
    pub limit: Amount,
    /// What is spent of it.
    pub spent: Amount,
    /// What is held of it.
    pub held: Amount,
    /// What was asked.
    pub asked: Amount,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "budget {} of {} has {} spent and {} held, asked for {}",
            self.node, self.limit, self.spent, self.held, self.asked
        )
    }
}

impl std::error::Error for Denial {}

/// The answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a denied reservation holds nothing"]
#[non_exhaustive]
pub enum Admission {
    /// The amount is held on every level.
    Reserved(Hold),
    /// Nothing is held. The key stays free: the same reservation may be tried again.
    Denied(Denial),
}

impl Admission {
    /// Returns the hold.
    ///
    /// # Errors
    /// `Exhausted` ([`crate::Error::OverBudget`]) if it was denied.
    pub fn into_hold(self) -> crate::Result<Hold> {
        match self {
            Self::Reserved(hold) => Ok(hold),
            Self::Denied(denial) => Err(crate::Error::OverBudget(Box::new(denial))),
        }
    }
}

/// What settling a reservation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settled {
    /// What is spent.
    pub spent: Amount,
    /// What was held beyond that and is free.
    pub released: Amount,
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldState {
    /// The amount is held, or its time is over and the sweeper has not been there.
    Pending(Hold),
    /// It is settled.
    Settled(Settled),
    /// It was released.
    Released,
    /// It was released because its time was over.
    Expired,
}

/// The state of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balance {
    /// The budget.
    pub path: BudgetPath,
    /// How much may be spent in all; zero if the budget is not open.
    pub limit: Amount,
    /// What is spent, by it and everything below it.
    pub spent: Amount,
    /// What is held, by it and everything below it.
    pub held: Amount,
}

impl Balance {
    pub(crate) const fn zero(path: BudgetPath, asset: Asset) -> Self {
        let zero = Amount::zero(asset);
        Self {
            path,
            limit: zero,
            spent: zero,
            held: zero,
        }
    }

    /// Returns what can still be reserved of this budget, not considering those above.
    #[must_use]
    pub fn available(&self) -> Amount {
        let left = self.limit.minus(self.spent);
        let left = left.and_then(|left| left.minus(self.held));
        // The three have one asset and the guard keeps the result within the limit.
        left.unwrap_or(Amount::zero(self.limit.asset()))
    }
}
