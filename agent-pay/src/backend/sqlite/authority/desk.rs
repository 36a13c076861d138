//! What writes to the authority share that run one after another in one function of a transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::Timestamp;
use agent_core::store::Tx;

use super::super::book::TxBook;
use super::later::Later;
use super::nodes::{self, PolicyCache};
use super::{hold, sweep};
use crate::account::AccountName;
use crate::authority::{Level, Limit};
use crate::budget::BudgetPath;
use crate::error::Result;
use crate::journal::Book;

/// A level of a path at the time of the transaction.
pub(super) struct Step {
    /// Without its meters.
    pub(super) level: Level,
    /// The limits that have an account, with its name.
    pub(super) limits: Vec<(Limit, AccountName)>,
    /// The account of its budget.
    pub(super) budget: AccountName,
}

/// A transaction as the authority sees it. It remembers what it has read, so while it lives nothing
/// else may write to the ledger or change a node, the kill switch or known payees.
pub(super) struct Desk<'a, 'c> {
    pub(super) tx: &'a Tx<'c>,
    pub(super) book: TxBook<'a, 'c>,
    pub(super) later: Later,
    cache: &'a PolicyCache,
    now: Option<Timestamp>,
    /// By the node at its end.
    paths: BTreeMap<BudgetPath, Arc<[Step]>>,
    is_halted: Option<bool>,
    /// Payees by organisation, and whether it knows them.
    payees: BTreeMap<String, BTreeMap<String, bool>>,
    /// Whether nothing is left to sweep at this time.
    pub(super) is_swept: bool,
    has_parked: Option<bool>,
    spent: Option<AccountName>,
}

impl<'a, 'c> Desk<'a, 'c> {
    /// For reading alone: what is written to the book is lost.
    pub(super) fn new(tx: &'a Tx<'c>, cache: &'a PolicyCache) -> Self {
        Self {
            tx,
            book: TxBook::deferred(tx),
            later: Later::default(),
            cache,
            now: None,
            paths: BTreeMap::new(),
            is_halted: None,
            payees: BTreeMap::new(),
            is_swept: false,
            has_parked: None,
            spent: None,
        }
    }

    /// Does some work and writes what it left to be written. After an error the transaction must not
    /// be kept.
    pub(super) fn with<T>(
        tx: &Tx<'_>,
        cache: &PolicyCache,
        work: impl FnOnce(&mut Desk<'_, '_>) -> Result<T>,
    ) -> Result<T> {
        let mut desk = Desk::new(tx, cache);
        let done = work(&mut desk)?;
        desk.close()?;
        Ok(done)
    }

    pub(super) fn close(mut self) -> Result<()> {
        self.append()?;
        self.book.flush()
    }

    /// Returns the time, which in the ledger never runs back and in a transaction stands still.
    pub(super) fn now(&mut self) -> Result<Timestamp> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = self.tx.now().max(self.book.head()?.at);
        self.now = Some(now);
        Ok(now)
    }

    /// Returns the levels of a node, the root first.
    pub(super) fn path(&mut self, node: &BudgetPath) -> Result<Arc<[Step]>> {
        if let Some(path) = self.paths.get(node) {
            return Ok(Arc::clone(path));
        }
        let now = self.now()?;
        let mut steps = Vec::new();
        for node in node.levels() {
            let budget = node.account()?;
            let level = nodes::level(self.tx, self.cache, node)?;
            let mut limits = Vec::new();
            for limit in level.policy.iter().flat_map(|policy| &policy.limits) {
                if let Some(name) = limit.account(&level.node, now)? {
                    limits.push((*limit, name));
                }
            }
            steps.push(Step {
                level,
                limits,
                budget,
            });
        }
        let path: Arc<[Step]> = steps.into();
        self.paths.insert(node.clone(), Arc::clone(&path));
        Ok(path)
    }

    pub(super) fn is_halted(&mut self) -> Result<bool> {
        if let Some(is_halted) = self.is_halted {
            return Ok(is_halted);
        }
        let is_halted = nodes::is_halted(self.tx)?;
        self.is_halted = Some(is_halted);
        Ok(is_halted)
    }

    /// Returns whether the organisation of a node knows a payee.
    pub(super) fn is_known(&mut self, node: &BudgetPath, payee: &str) -> Result<bool> {
        let organisation = nodes::organisation(node);
        if let Some(is_known) = self.remembers(organisation, payee) {
            return Ok(is_known);
        }
        let is_known = nodes::is_known(self.tx, organisation, payee)?;
        self.remember(organisation, payee, is_known);
        Ok(is_known)
    }

    /// Makes a payee known to the organisation of a node.
    pub(super) fn trust(&mut self, node: &BudgetPath, payee: &str) -> Result<()> {
        let organisation = nodes::organisation(node);
        if self.remembers(organisation, payee) != Some(true) {
            nodes::trust(self.tx, organisation, payee)?;
            self.remember(organisation, payee, true);
        }
        Ok(())
    }

    fn remembers(&self, organisation: &str, payee: &str) -> Option<bool> {
        self.payees.get(organisation)?.get(payee).copied()
    }

    fn remember(&mut self, organisation: &str, payee: &str, is_known: bool) {
        let payees = self.payees.entry(organisation.to_owned()).or_default();
        payees.insert(payee.to_owned(), is_known);
    }

    /// Returns the account that takes what is spent.
    pub(super) fn spent(&mut self) -> Result<AccountName> {
        if let Some(spent) = &self.spent {
            return Ok(spent.clone());
        }
        let spent = AccountName::new(hold::SPENT)?;
        self.spent = Some(spent.clone());
        Ok(spent)
    }

    /// Returns whether anything is held beyond its window.
    pub(super) fn has_parked(&mut self) -> Result<bool> {
        if let Some(has_parked) = self.has_parked {
            return Ok(has_parked);
        }
        let has_parked = sweep::has_parked(self.tx)?;
        self.has_parked = Some(has_parked);
        Ok(has_parked)
    }

    /// Notes that something is held beyond its window.
    pub(super) const fn parked(&mut self) {
        self.has_parked = Some(true);
    }
}
