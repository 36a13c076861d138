//! Reading the journal again from its start, with a bookkeeping of its own.

use std::collections::BTreeMap;

use agent_core::Digest;

use super::{BatchRow, Head, Origin, TransferRow};
use crate::account::{Account, Balances};
use crate::batch::TransferKind;
use crate::error::{Error, Result};
use crate::ledger::{Anchor, Verified};

/// Takes a journal batch by batch and compares the end with what is stored.
///
/// It shares no arithmetic with the code that posts, so that a mistake there is found here.
#[derive(Debug)]
pub struct Auditor {
    accounts: BTreeMap<u64, Account>,
    opened: BTreeMap<u64, Vec<u64>>,
    sums: BTreeMap<u64, [i128; 4]>,
    /// Holds that wait, by transfer.
    holds: BTreeMap<u64, TransferRow>,
    /// Batches that wait, with their expiry.
    pending: BTreeMap<u64, Option<i64>>,
    anchor: Option<Anchor>,
    seq: u64,
    n_transfers: u64,
    hash: Digest,
}

const DEBITS_PENDING: usize = 0;
const DEBITS_POSTED: usize = 1;
const CREDITS_PENDING: usize = 2;
const CREDITS_POSTED: usize = 3;

impl Auditor {
    /// Starts with the accounts as they are stored.
    ///
    /// # Errors
    /// `Corrupt` if two accounts have one number.
    pub fn new(accounts: Vec<Account>, anchor: Option<Anchor>) -> Result<Self> {
        let mut opened: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut by_id = BTreeMap::new();
        for account in accounts {
            opened
                .entry(account.opened_in)
                .or_default()
                .push(account.id);
            let id = account.id;
            if by_id.insert(id, account).is_some() {
                return Err(Error::corrupt(format!("account {id} is there twice")));
            }
        }
        Ok(Self {
            sums: by_id.keys().map(|id| (*id, [0; 4])).collect(),
            accounts: by_id,
            opened,
            holds: BTreeMap::new(),
            pending: BTreeMap::new(),
            anchor,
            seq: 0,
            n_transfers: 0,
            hash: Anchor::ROOT,
        })
    }

    /// Takes the next batch in the order of the journal.
    ///
    /// # Errors
    /// `Corrupt` with what does not fit.
    pub fn batch(&mut self, row: &BatchRow, transfers: &[TransferRow]) -> Result<()> {
        let seq = row.seq;
        if Some(seq) != self.seq.checked_add(1) {
            return Err(Error::corrupt(format!(
                "batch {seq} follows batch {}",
                self.seq
            )));
        }
        let mut opened: Vec<Account> = Vec::new();
        for id in self.opened.remove(&seq).unwrap_or_default() {
            opened.extend(self.accounts.get(&id).cloned());
        }
        opened.sort_unstable_by_key(|account| account.id);
        if u64::try_from(transfers.len()).ok() != Some(row.n_transfers)
            || row.chain(&self.hash, &opened, transfers) != row.hash
        {
            return Err(Error::corrupt(format!("batch {seq} breaks the chain")));
        }
        if self
            .anchor
            .is_some_and(|a| a.seq == seq && a.hash != row.hash)
        {
            return Err(Error::corrupt(format!("batch {seq} is not the anchor's")));
        }
        for transfer in transfers {
            if Some(transfer.id) != self.n_transfers.checked_add(1) {
                let found = format!("transfer {} follows {}", transfer.id, self.n_transfers);
                return Err(Error::corrupt(found));
            }
            self.n_transfers = transfer.id;
            self.transfer(transfer)?;
        }
        self.track_pending(row, transfers)?;
        self.seq = seq;
        self.hash = row.hash;
        Ok(())
    }

    /// Compares the end with the stored head and the stored pending batches; of these only the ones
    /// that expire, which alone somebody has to find.
    ///
    /// # Errors
    /// `Corrupt` with what differs.
    pub fn finish(self, head: &Head, pending: &BTreeMap<u64, Option<i64>>) -> Result<Verified> {
        if (head.seq, head.n_transfers, head.hash) != (self.seq, self.n_transfers, self.hash) {
            return Err(Error::corrupt("the journal ends elsewhere than its head"));
        }
        if self.anchor.is_some_and(|anchor| anchor.seq > self.seq) {
            return Err(Error::corrupt("the journal ends before the anchor"));
        }
        if u64::try_from(self.accounts.len()).ok() != Some(head.n_accounts) {
            return Err(Error::corrupt("the number of accounts differs"));
        }
        if let Some(seq) = self.opened.keys().next() {
            return Err(Error::corrupt(format!(
                "an account belongs to batch {seq}, which is not there"
            )));
        }
        for account in self.accounts.values() {
            self.compare(account)?;
        }
        let expiring = |(_seq, expires_ms): &(&u64, &Option<i64>)| expires_ms.is_some();
        let (kept, found) = (self.pending.iter(), pending.iter());
        if !kept.filter(expiring).eq(found.filter(expiring)) {
            return Err(Error::corrupt("the list of pending batches differs"));
        }
        Ok(Verified {
            anchor: head.anchor(),
            n_transfers: self.n_transfers,
            n_accounts: head.n_accounts,
            n_pending: u64::try_from(self.pending.len()).unwrap_or(u64::MAX),
        })
    }

    fn transfer(&mut self, t: &TransferRow) -> Result<()> {
        let id = t.id;
        let asset = |account: u64| self.accounts.get(&account).map(|a| a.asset);
        if t.units < 0 || asset(t.debit).is_none() || asset(t.debit) != asset(t.credit) {
            return Err(Error::corrupt(format!("transfer {id} is not between two")));
        }
        let held = match t.hold {
            None => 0,
            Some(hold) => match self.holds.remove(&hold) {
                Some(h) if (h.debit, h.credit) == (t.debit, t.credit) && t.units <= h.units => {
                    i128::from(h.units)
                }
                _ => return Err(Error::corrupt(format!("transfer {id} resolves no hold"))),
            },
        };
        let units = i128::from(t.units);
        let (pending, posted) = match (t.kind, t.hold) {
            (TransferKind::Posted, None) => (0, units),
            (TransferKind::Reversed, None) => (0, units.saturating_neg()),
            (TransferKind::Pending, None) => {
                self.holds.insert(id, *t);
                (units, 0)
            }
            (TransferKind::Captured, Some(_)) => (held.saturating_neg(), units),
            (TransferKind::Voided | TransferKind::Expired, Some(_)) if held == units => {
                (held.saturating_neg(), 0)
            }
            _ => return Err(Error::corrupt(format!("transfer {id} has a wrong kind"))),
        };
        self.add(t.debit, DEBITS_PENDING, pending);
        self.add(t.debit, DEBITS_POSTED, posted);
        self.add(t.credit, CREDITS_PENDING, pending);
        self.add(t.credit, CREDITS_POSTED, posted);
        Ok(())
    }

    fn add(&mut self, account: u64, which: usize, by: i128) {
        let sums = self.sums.get_mut(&account);
        if let Some(sum) = sums.and_then(|sums| sums.get_mut(which)) {
            *sum = sum.saturating_add(by);
        }
    }

    fn track_pending(&mut self, row: &BatchRow, transfers: &[TransferRow]) -> Result<()> {
        if let Some(resolved) = row.resolves {
            if self.pending.remove(&resolved).is_none() {
                let found = format!("batch {} resolves batch {resolved} again", row.seq);
                return Err(Error::corrupt(found));
            }
        } else if row.origin != Origin::Posted || row.key.is_none() {
            return Err(Error::corrupt(format!("batch {} has no cause", row.seq)));
        }
        if transfers.iter().any(|t| t.kind == TransferKind::Pending) {
            let expires_ms = row.expires_at.map(agent_core::Timestamp::as_unix_ms);
            self.pending.insert(row.seq, expires_ms);
        }
        Ok(())
    }

    fn compare(&self, account: &Account) -> Result<()> {
        let Balances {
            debits_pending,
            debits_posted,
            credits_pending,
            credits_posted,
        } = account.balances;
        let stored = [
            debits_pending,
            debits_posted,
            credits_pending,
            credits_posted,
        ]
        .map(i128::from);
        if self.sums.get(&account.id) != Some(&stored) {
            return Err(Error::corrupt(format!(
                "the balance of {} differs",
                account.name
            )));
        }
        if !account.keeps_guard() {
            return Err(Error::corrupt(format!("{} is overdrawn", account.name)));
        }
        Ok(())
    }
}
