//! The accounts of a transaction.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::Asset;

use crate::account::{Account, AccountName};

/// The accounts a transaction has read and written, and which of them are yet to be stored.
#[derive(Default)]
pub(super) struct Known {
    accounts: BTreeMap<u64, Account>,
    /// None for one that is not open.
    names: BTreeMap<(Asset, AccountName), Option<u64>>,
    changed: BTreeSet<u64>,
}

impl Known {
    /// The most accounts remembered that were only read: those of a few hundred spends.
    const READ_MAX: usize = 4_096;

    pub(super) fn by_id(&self, id: u64) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// Returns nothing for a name nobody has looked for, and no account for one that is not open.
    pub(super) fn by_name(&self, asset: Asset, name: &AccountName) -> Option<Option<&Account>> {
        let id = self.names.get(&(asset, name.clone()))?;
        Some(id.and_then(|id| self.accounts.get(&id)))
    }

    /// Remembers that an account is not open.
    pub(super) fn learn_absent(&mut self, asset: Asset, name: &AccountName) {
        self.names.insert((asset, name.clone()), None);
    }

    /// Remembers an account as it is stored.
    pub(super) fn learn(&mut self, account: &Account) {
        if self.accounts.len() < Self::READ_MAX || self.accounts.contains_key(&account.id) {
            self.put(account);
        }
    }

    /// Remembers an account that is to be stored later.
    pub(super) fn change(&mut self, account: &Account) {
        self.put(account);
        self.changed.insert(account.id);
    }

    /// Takes the accounts that are to be stored, in the order of their numbers.
    pub(super) fn take_changed(&mut self) -> Vec<Account> {
        let changed = std::mem::take(&mut self.changed);
        let accounts = changed.iter().filter_map(|id| self.accounts.get(id));
        accounts.cloned().collect()
    }

    /// Remembers an account whatever else is remembered: one that was just opened.
    pub(super) fn put(&mut self, account: &Account) {
        if self.accounts.insert(account.id, account.clone()).is_none() {
            let name = (account.asset, account.name.clone());
            self.names.insert(name, Some(account.id));
        }
    }
}
