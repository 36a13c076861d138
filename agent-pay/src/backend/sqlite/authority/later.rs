//! Decisions and spends that a transaction has yet to store, with the batches they belong to.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use agent_core::store::{Tx, sql};
use agent_core::{IdempotencyKey, Timestamp};

use super::super::append::Append;
use super::super::book::AssetText;
use super::desk::Desk;
use super::nodes::number;
use super::row::{self, Spend, Under};
use crate::error::{Error, Result};

static DECISIONS: Append = Append::new(
    "INSERT OR FAIL INTO pay_decision (at_ms, outcome, intent, snapshot, rules) VALUES",
    5,
);
static SPENDS: Append = Append::new("INSERT OR FAIL INTO pay_spend VALUES", 13);

/// A decision as it is stored.
pub(super) struct Decided {
    pub(super) at: Timestamp,
    pub(super) outcome: u8,
    pub(super) intent: Arc<str>,
    pub(super) snapshot: String,
    pub(super) rules: Cow<'static, str>,
}

/// Rows that are not stored yet, in their order.
#[derive(Default)]
pub(super) struct Later {
    /// The number of the last decision, stored or not.
    last_id: Option<i64>,
    decisions: RefCell<Vec<Decided>>,
    spends: RefCell<Vec<Spend>>,
    is_broken: Cell<bool>,
    n_put: u64,
    n_appended: Cell<u64>,
}

impl Later {
    fn append(&self, tx: &Tx<'_>) -> Result<()> {
        let (decisions, spends) = (self.decisions.take(), self.spends.take());
        if decisions.is_empty() && spends.is_empty() {
            return Ok(());
        }
        let before = tx.sql().total_changes();
        self.is_broken.set(true);
        let last_id = self.last_id.unwrap_or(0);
        DECISIONS.run_to(tx, &decisions, last_id, |values, decided| {
            values
                .put(decided.at.as_unix_ms())?
                .put(decided.outcome)?
                .put(&*decided.intent)?
                .put(&decided.snapshot)?
                .put(&*decided.rules)?;
            Ok(())
        })?;
        SPENDS.run(tx, &spends, |values, spend| {
            values
                .put(number(spend.batch)?)?
                .put(spend.digest.as_bytes())?
                .put(number(spend.decision)?)?
                .put(spend.node.as_str())?
                .put(&spend.payee)?
                .put(AssetText::of(spend.asset).as_str())?
                .put(spend.units)?
                .put(spend.n_parts)?
                .put(u32::try_from(spend.n_counts).unwrap_or(u32::MAX))?
                .put(spend.state.code())?
                .put(spend.captured)?
                .put(spend.refunded)?
                .put(spend.expires_at.as_unix_ms())?;
            Ok(())
        })?;
        self.is_broken.set(false);
        let n_appended = tx.sql().total_changes().saturating_sub(before);
        self.n_appended
            .set(self.n_appended.get().saturating_add(n_appended));
        Ok(())
    }
}

impl Desk<'_, '_> {
    /// Stores a decision and returns its number.
    pub(super) fn decide(&mut self, decided: Decided) -> Result<u64> {
        let last_id = match self.later.last_id {
            Some(last_id) => last_id,
            None => last_decision(self.tx)?,
        };
        let id = last_id.checked_add(1);
        let id = id.ok_or_else(|| Error::corrupt("the decisions have no number left"))?;
        self.later.last_id = Some(id);
        self.later.decisions.get_mut().push(decided);
        self.later.n_put = self.later.n_put.saturating_add(1);
        u64::try_from(id).map_err(|_sign| Error::corrupt("a decision's id"))
    }

    /// Stores a new spend, whose batch was just posted.
    pub(super) fn insert(&mut self, spend: Spend) {
        self.later.spends.get_mut().push(spend);
        self.later.n_put = self.later.n_put.saturating_add(1);
    }

    /// Stores what waits, so that statements find it.
    pub(super) fn append(&self) -> Result<()> {
        self.book.append()?;
        self.later.append(self.tx)?;
        if self.later.is_broken.get() {
            return Err(Error::corrupt("rows of the authority are lost"));
        }
        Ok(())
    }

    /// Looks a key up, also among what waits.
    pub(super) fn under(&self, key: &IdempotencyKey) -> Result<Under> {
        if self.book.has_posted(key) {
            self.append()?;
        }
        row::under(self.tx, key)
    }

    /// Returns a spend, also one that waits.
    pub(super) fn find(&self, key: &IdempotencyKey) -> Result<Spend> {
        match self.under(key)? {
            Under::Spend(spend) => Ok(*spend),
            Under::Nothing | Under::Other => Err(Error::KeyNotFound { key: key.clone() }),
        }
    }

    /// Returns how many changes were made or wait; the same number twice says that nothing was
    /// written between.
    pub(super) fn n_changes(&self) -> u64 {
        let n_caught_up = self.later.n_appended.get();
        let n_changes = self.book.n_changes().saturating_sub(n_caught_up);
        n_changes.saturating_add(self.later.n_put)
    }
}

fn last_decision(tx: &Tx<'_>) -> Result<i64> {
    tx.sql()
        .prepare_cached("SELECT coalesce(max(id), 0) FROM pay_decision")
        .and_then(|mut select| select.query_row([], |row| row.get(0)))
        .map_err(|e| sql("number a decision")(e).into())
}
