//! Dynamic budgets: how the limit of a pool is shared between agents, by policy.
//!
//! A plan is pure; each of its moves is a transfer of the ledger
//! ([`Budgets::move_limit`](super::Budgets::move_limit)), so that no plan, however wrong, creates
//! money: a pool gives only what it has, and a member gives back only what it has neither spent
//! nor held.

use agent_core::{Amount, IdempotencyKey};

use super::{Balance, BudgetPath, MoveLimit};
use crate::error::{Error, Result};
use crate::ratio::Ratio;

/// One agent's budget beside the pool it gets from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its budget.
    pub path: BudgetPath,
    /// Its weight among the others; 0 gets nothing.
    pub weight: u32,
    /// The tasks it solved since the last plan.
    pub n_successes: u32,
    /// What it spent within the span the plan looks at.
    pub spent_recently: Amount,
}

impl Member {
    /// A member of weight 1 that solved and spent nothing.
    #[must_use]
    pub const fn new(path: BudgetPath, asset: agent_core::Asset) -> Self {
        Self {
            path,
            weight: 1,
            n_successes: 0,
            spent_recently: Amount::zero(asset),
        }
    }

    /// Sets the weight. Default: 1.
    #[must_use]
    pub const fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the tasks it solved since the last plan. Default: none.
    #[must_use]
    pub const fn with_successes(mut self, n_successes: u32) -> Self {
        self.n_successes = n_successes;
        self
    }

    /// Sets what it spent within the span the plan looks at. Default: nothing.
    #[must_use]
    pub const fn with_spent_recently(mut self, amount: Amount) -> Self {
        self.spent_recently = amount;
        self
    }
}

/// How a pool and its members stand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The pool: what is free of it can be given.
    pub pool: Balance,
    /// The members with their budgets.
    pub members: Vec<(Member, Balance)>,
}

/// How the limit of a pool is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allocation {
    /// All that is free, of the pool and of the members, is divided by weight. What does not
    /// divide stays in the pool.
    Shares,
    /// Each solved task earns this much.
    OnSuccess(Amount),
    /// Each member keeps what it would spend in so many spans at its recent rate, and at least
    /// `least`; what is beyond goes back to the pool, what is missing is taken from it.
    OnBurnRate {
        /// How many spans ahead.
        n_spans: u32,
        /// The least a member keeps free.
        least: Amount,
    },
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Move {
    /// Who gives.
    pub from: BudgetPath,
    /// Who gets.
    pub to: BudgetPath,
    /// How much; more than nothing.
    pub amount: Amount,
}

impl Move {
    /// Gives the step the key of its place in a plan, so that repeating a plan half done is
    /// harmless.
    ///
    /// # Errors
    /// `Invalid` if the name of the plan is no key.
    pub fn keyed(self, plan: &str, n: usize) -> Result<MoveLimit> {
        let key = IdempotencyKey::new(format!("{plan}/{n}"))?;
        Ok(MoveLimit::new(key, self.from, self.to, self.amount))
    }
}

impl Allocation {
    /// Plans the moves: first what members give back, then what they get, in their order, as far
    /// as the pool reaches.
    ///
    /// # Errors
    /// `Invalid` if amounts are of several assets or do not fit.
    pub fn plan(&self, standing: &Standing) -> Result<Vec<Move>> {
        let pool = &standing.pool;
        let wanted = self.wanted(standing)?;
        let mut available = pool.available();
        let (mut back, mut out) = (Vec::new(), Vec::new());
        for ((member, balance), wanted) in standing.members.iter().zip(&wanted) {
            let surplus = balance.available().minus(*wanted)?;
            if surplus.units() > 0 {
                available = available.plus(surplus)?;
                let (from, to) = (member.path.clone(), pool.path.clone());
                back.push(Move {
                    from,
                    to,
                    amount: surplus,
                });
            }
        }
        for ((member, balance), wanted) in standing.members.iter().zip(&wanted) {
            let missing = wanted.minus(balance.available())?;
            let amount = if missing.compare(&available)?.is_gt() {
                available
            } else {
                missing
            };
            if amount.units() > 0 {
                available = available.minus(amount)?;
                let (from, to) = (pool.path.clone(), member.path.clone());
                out.push(Move { from, to, amount });
            }
        }
        back.extend(out);
        Ok(back)
    }

    /// Returns what each member should have free.
    fn wanted(&self, standing: &Standing) -> Result<Vec<Amount>> {
        let asset = standing.pool.limit.asset();
        let members = standing.members.iter();
        match *self {
            Self::Shares => shares(standing),
            Self::OnSuccess(each) => members
                .map(|(member, balance)| {
                    let earned = each.times(u64::from(member.n_successes))?;
                    Ok(balance.available().plus(earned)?)
                })
                .collect(),
            Self::OnBurnRate { n_spans, least } => members
                .map(|(member, _balance)| {
                    let ahead = member.spent_recently.times(u64::from(n_spans))?;
                    if ahead.asset() != asset {
                        return Err(Error::invalid("allocation", "amounts of one asset"));
                    }
                    Ok(if ahead.compare(&least)?.is_lt() {
                        least
                    } else {
                        ahead
                    })
                })
                .collect(),
        }
    }
}

fn shares(standing: &Standing) -> Result<Vec<Amount>> {
    let mut free = standing.pool.available();
    let mut weights = 0_i128;
    for (member, balance) in &standing.members {
        free = free.plus(balance.available())?;
        weights = weights.saturating_add(i128::from(member.weight));
    }
    let share = |weight: u32| {
        if weights == 0 {
            return Ok(Amount::zero(free.asset()));
        }
        let part = Ratio::new(i128::from(weight), weights)?;
        let units = Ratio::new(free.units(), 1)?.times(part)?.floor();
        Ok(Amount::from_units(units, free.asset()))
    };
    let members = standing.members.iter();
    members
        .map(|(member, _balance)| share(member.weight))
        .collect()
}
