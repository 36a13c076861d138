//! A write in the making: the accounts it touches and the transfers it appends.

use agent_core::{Amount, Asset, Digest};

use super::posted::Posted;
use super::{BatchRow, Book, Commit, Head, Origin, TransferRow, invariants};
use crate::account::{Account, AccountName, Balances, Guard};
use crate::batch::{Entry, TransferKind};
use crate::error::{Error, Result, Shortfall};

pub(super) struct Draft {
    pub(super) row: BatchRow,
    before: Head,
    n_accounts: u64,
    transfers: Vec<TransferRow>,
    /// At most two for each entry of a batch, so a search through them beats a map.
    accounts: Vec<Account>,
    /// Their balances before the write, in the same order.
    balances_before: Vec<Balances>,
}

/// Positions of the two sides in [`Draft::accounts`].
type Sides = (usize, usize);

impl Draft {
    pub(super) fn begin<B: Book + ?Sized>(
        book: &B,
        request: Digest,
        origin: Origin,
    ) -> Result<Self> {
        let before = book.head()?;
        let at = book.now().max(before.at);
        let mut row = BatchRow::new(next(before.seq)?, request, origin, at, before.hash);
        row.first_transfer = next(before.n_transfers)?;
        Ok(Self {
            row,
            before,
            n_accounts: before.n_accounts,
            transfers: Vec::new(),
            accounts: Vec::new(),
            balances_before: Vec::new(),
        })
    }

    pub(super) fn apply<B: Book + ?Sized>(&mut self, book: &B, entry: &Entry) -> Result<()> {
        match entry {
            Entry::Open {
                asset,
                account,
                guard,
            } => self.open(book, *asset, account, *guard),
            Entry::Post {
                debit,
                credit,
                amount,
            } => {
                let sides = self.sides(book, amount.asset(), debit, credit)?;
                self.movement(sides, *amount, TransferKind::Posted)
            }
            Entry::Hold {
                debit,
                credit,
                amount,
            } => {
                let sides = self.sides(book, amount.asset(), debit, credit)?;
                self.movement(sides, *amount, TransferKind::Pending)
            }
            Entry::Reverse {
                debit,
                credit,
                amount,
            } => {
                let sides = self.sides(book, amount.asset(), debit, credit)?;
                self.movement(sides, *amount, TransferKind::Reversed)
            }
            Entry::SetCredits {
                debit,
                credit,
                credits,
            } => {
                let sides = self.sides(book, credits.asset(), debit, credit)?;
                let present = self.account(sides.1)?.credits_posted();
                let missing = credits.minus(present)?;
                if missing.is_negative() {
                    let surplus = present.minus(*credits)?;
                    self.movement(sides, surplus, TransferKind::Reversed)
                } else {
                    self.movement(sides, missing, TransferKind::Posted)
                }
            }
        }
    }

    /// Resolves one hold: a capture of an amount, or a release.
    pub(super) fn resolve<B: Book + ?Sized>(
        &mut self,
        book: &B,
        hold: &TransferRow,
        kind: TransferKind,
        capture: Option<Amount>,
    ) -> Result<()> {
        let debit = self.load(book, hold.debit)?;
        let credit = self.load(book, hold.credit)?;
        let held = self.account(debit)?.amount(hold.units);
        let posted = match capture {
            None => 0,
            Some(asked) if asked.is_negative() => {
                return Err(Error::invalid("resolution", "a negative amount"));
            }
            Some(asked) if asked.compare(&held)?.is_gt() => {
                return Err(Error::ExceedsHold { held, asked });
            }
            Some(asked) => asked.units_i64()?,
        };
        self.change(debit, |b| {
            b.debits_pending = b.debits_pending.checked_sub(hold.units)?;
            b.debits_posted = b.debits_posted.checked_add(posted)?;
            Some(())
        })?;
        self.change(credit, |b| {
            b.credits_pending = b.credits_pending.checked_sub(hold.units)?;
            b.credits_posted = b.credits_posted.checked_add(posted)?;
            Some(())
        })?;
        let units = if capture.is_some() {
            posted
        } else {
            hold.units
        };
        self.push((debit, credit), units, kind, Some(hold.id))
    }

    /// Closes the draft and stores it.
    pub(super) fn commit<B: Book + ?Sized>(mut self, book: &mut B) -> Result<Posted> {
        invariants::check(&self.accounts, &self.balances_before)?;
        self.row.n_transfers = count(self.transfers.len())?;
        let seq = self.row.seq;
        let (mut opened, changed): (Vec<_>, Vec<_>) =
            self.accounts.into_iter().partition(|a| a.opened_in == seq);
        opened.sort_unstable_by_key(|account| account.id);
        self.row.hash = self.row.chain(&self.before.hash, &opened, &self.transfers);
        let is_pending = |t: &TransferRow| t.kind == TransferKind::Pending;
        let last_transfer = self.before.n_transfers.checked_add(self.row.n_transfers);
        book.put(&Commit {
            batch: &self.row,
            transfers: &self.transfers,
            opened: &opened,
            changed: &changed,
            is_pending: self.transfers.iter().any(is_pending),
            head: Head {
                seq,
                n_transfers: last_transfer.ok_or_else(full)?,
                n_accounts: self.n_accounts,
                at: self.row.at,
                hash: self.row.hash,
            },
        })?;
        Ok(Posted {
            row: self.row,
            transfers: self.transfers,
            opened,
            changed,
        })
    }

    fn add(&mut self, account: Account) {
        self.balances_before.push(account.balances);
        self.accounts.push(account);
    }

    fn open<B: Book + ?Sized>(
        &mut self,
        book: &B,
        asset: Asset,
        name: &AccountName,
        guard: Guard,
    ) -> Result<()> {
        if let Some(at) = self.find(book, asset, name)? {
            if self.account(at)?.guard == guard {
                return Ok(());
            }
            return Err(Error::AccountDiffers {
                account: name.clone(),
            });
        }
        self.n_accounts = next(self.n_accounts)?;
        self.add(Account::new(
            self.n_accounts,
            asset,
            name.clone(),
            guard,
            self.row.seq,
            Balances::default(),
        ));
        Ok(())
    }

    fn movement(&mut self, sides: Sides, amount: Amount, kind: TransferKind) -> Result<()> {
        let units = amount.units_i64()?;
        self.change(sides.0, |b| {
            match kind {
                TransferKind::Pending => {
                    b.debits_pending = b.debits_pending.checked_add(units)?;
                }
                TransferKind::Reversed => {
                    b.debits_posted = b.debits_posted.checked_sub(units)?;
                }
                _ => b.debits_posted = b.debits_posted.checked_add(units)?,
            }
            Some(())
        })?;
        self.change(sides.1, |b| {
            match kind {
                TransferKind::Pending => {
                    b.credits_pending = b.credits_pending.checked_add(units)?;
                }
                TransferKind::Reversed => {
                    b.credits_posted = b.credits_posted.checked_sub(units)?;
                }
                _ => b.credits_posted = b.credits_posted.checked_add(units)?,
            }
            Some(())
        })?;
        // A reversal lowers the credits of the credited account; all else raises debits.
        let guarded = if kind == TransferKind::Reversed {
            sides.1
        } else {
            sides.0
        };
        self.check_guard(guarded, amount, kind)?;
        self.push(sides, units, kind, None)
    }

    fn check_guard(&self, at: usize, asked: Amount, kind: TransferKind) -> Result<()> {
        let account = self.account(at)?;
        if account.keeps_guard() {
            return Ok(());
        }
        // Report the balances as they were before the entry.
        let (mut credits, mut posted, mut pending) = (
            account.credits_posted(),
            account.debits_posted(),
            account.debits_pending(),
        );
        match kind {
            TransferKind::Reversed => credits = credits.plus(asked)?,
            TransferKind::Pending => pending = pending.minus(asked)?,
            _ => posted = posted.minus(asked)?,
        }
        Err(Error::Insufficient(Box::new(Shortfall {
            account: account.name.clone(),
            credits,
            debits_posted: posted,
            debits_pending: pending,
            asked,
        })))
    }

    /// Changes the balances of an account; the change returns nothing if a sum would overflow.
    fn change(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Balances) -> Option<()>,
    ) -> Result<()> {
        let account = self.accounts.get_mut(at).ok_or_else(missing)?;
        let changed = change(&mut account.balances);
        let b = account.balances;
        let sums = [
            b.debits_pending,
            b.debits_posted,
            b.credits_pending,
            b.credits_posted,
        ];
        // Both sums of a side together must fit too, or a capture could overflow.
        let fits = b.debits_pending.checked_add(b.debits_posted).is_some()
            && b.credits_pending.checked_add(b.credits_posted).is_some();
        if changed.is_some() && fits && sums.iter().all(|sum| *sum >= 0) {
            return Ok(());
        }
        if fits && changed.is_some() {
            return Err(Error::invalid("entry", "it reverses more than was posted"));
        }
        Err(Error::Overflow {
            account: account.name.clone(),
        })
    }

    fn push(
        &mut self,
        sides: Sides,
        units: i64,
        kind: TransferKind,
        hold: Option<u64>,
    ) -> Result<()> {
        let n = count(self.transfers.len())?;
        let id = self.row.first_transfer.checked_add(n).ok_or_else(full)?;
        let (debit, credit) = (self.account(sides.0)?.id, self.account(sides.1)?.id);
        let row = TransferRow::new(id, self.row.seq, debit, credit, units, kind);
        self.transfers.push(row.with_hold(hold));
        Ok(())
    }

    fn sides<B: Book + ?Sized>(
        &mut self,
        book: &B,
        asset: Asset,
        debit: &AccountName,
        credit: &AccountName,
    ) -> Result<Sides> {
        let mut side = |name: &AccountName| {
            self.find(book, asset, name)?
                .ok_or_else(|| Error::AccountNotFound {
                    asset,
                    account: name.clone(),
                })
        };
        Ok((side(debit)?, side(credit)?))
    }

    fn find<B: Book + ?Sized>(
        &mut self,
        book: &B,
        asset: Asset,
        name: &AccountName,
    ) -> Result<Option<usize>> {
        let here = |a: &Account| a.asset == asset && a.name == *name;
        if let Some(at) = self.accounts.iter().position(here) {
            return Ok(Some(at));
        }
        let Some(account) = book.account_by_name(asset, name)? else {
            return Ok(None);
        };
        self.add(account);
        Ok(self.accounts.len().checked_sub(1))
    }

    fn load<B: Book + ?Sized>(&mut self, book: &B, id: u64) -> Result<usize> {
        if let Some(at) = self.accounts.iter().position(|a| a.id == id) {
            return Ok(at);
        }
        self.add(book.account(id)?);
        self.accounts.len().checked_sub(1).ok_or_else(missing)
    }

    fn account(&self, at: usize) -> Result<&Account> {
        self.accounts.get(at).ok_or_else(missing)
    }
}

fn next(number: u64) -> Result<u64> {
    number.checked_add(1).ok_or_else(full)
}

fn count(n: usize) -> Result<u64> {
    u64::try_from(n).map_err(|_range| full())
}

fn full() -> Error {
    Error::invalid("journal", "its numbers are used up")
}

fn missing() -> Error {
    Error::corrupt("an account of a draft is missing")
}
