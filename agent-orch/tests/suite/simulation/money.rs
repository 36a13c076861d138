//! A toy ledger: every paid step holds three units and costs two.

use std::collections::BTreeSet;

/// What is held for a step.
pub(crate) const COST_MAX: u64 = 3;
/// What a step costs.
pub(crate) const COST: u64 = 2;

/// A budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct Money {
    limit: u64,
    free: u64,
    held: BTreeSet<String>,
    spent: u64,
}

impl Money {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            free: limit,
            ..Self::default()
        }
    }

    /// Holds what a step may cost. Returns whether there is enough.
    pub(crate) fn hold(&mut self, key: String) -> bool {
        if self.free < COST_MAX || !self.held.insert(key) {
            return false;
        }
        self.free -= COST_MAX;
        true
    }

    /// Ends a hold: what was spent is gone, the rest is free again.
    pub(crate) fn settle(&mut self, key: &str, is_spent: bool) {
        if self.held.remove(key) {
            let cost = if is_spent { COST } else { 0 };
            self.spent += cost;
            self.free += COST_MAX - cost;
        }
    }

    /// Nothing is made or lost.
    pub(crate) fn check(&self) -> Result<(), String> {
        let held = COST_MAX * self.held.len() as u64;
        if self.free + held + self.spent == self.limit {
            Ok(())
        } else {
            Err(format!("money is not conserved: {self:?}"))
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) const fn spent(&self) -> u64 {
        self.spent
    }
}
