//! What every write keeps.

use agent_core::Asset;

use crate::account::{Account, Balances};
use crate::error::{Error, Result};

/// Checks what every write keeps, by sums of its own: the accounts of each ledger changed as
/// much on the one side as on the other, and every guard holds.
pub(super) fn check(accounts: &[Account], balances_before: &[Balances]) -> Result<()> {
    let mut sides: Vec<(Asset, i128, i128)> = Vec::new();
    for (account, before) in accounts.iter().zip(balances_before) {
        if !account.keeps_guard() {
            let found = format!("a write would leave {} overdrawn", account.name);
            return Err(Error::corrupt(found));
        }
        let now = account.balances;
        let change = |now: i64, before: i64| i128::from(now).saturating_sub(before.into());
        let posted = change(now.debits_posted, before.debits_posted)
            .saturating_sub(change(now.credits_posted, before.credits_posted));
        let pending = change(now.debits_pending, before.debits_pending)
            .saturating_sub(change(now.credits_pending, before.credits_pending));
        match sides.iter_mut().find(|side| side.0 == account.asset) {
            Some(side) => {
                side.1 = side.1.saturating_add(posted);
                side.2 = side.2.saturating_add(pending);
            }
            None => sides.push((account.asset, posted, pending)),
        }
    }
    match sides.iter().find(|side| side.1 != 0 || side.2 != 0) {
        None => Ok(()),
        Some((asset, _, _)) => {
            let found = format!("a write would unbalance the ledger of {asset}");
            Err(Error::corrupt(found))
        }
    }
}
