//! In what a batch differs from the one that was posted under its key.

use std::fmt;

use super::BatchRow;
use crate::account::AccountName;
use crate::batch::{Batch, Entry, Transfer, TransferKind};

/// The first thing in which a batch differs from the one posted under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Difference {
    /// When its holds expire.
    Expiry,
    /// What the journal keeps beside the transfers.
    Memo,
    /// How many movements there are.
    Count,
    /// What a movement does.
    Kind,
    /// The account a movement debits.
    Debit,
    /// The account a movement credits.
    Credit,
    /// The ledger of a movement.
    Asset,
    /// How much a movement moves.
    Amount,
    /// An entry whose effect is the same: an account to open, a sum to set.
    Entries,
}

impl Difference {
    /// Compares a batch with what was posted.
    pub(super) fn between(batch: &Batch, row: &BatchRow, posted: &[Transfer]) -> Self {
        if batch.expires_at != row.expires_at {
            return Self::Expiry;
        }
        if batch.memo != row.memo {
            return Self::Memo;
        }
        let movements = batch.entries.iter();
        let movements = movements.filter(|entry| !matches!(entry, Entry::Open { .. }));
        if movements.clone().count() != posted.len() {
            return Self::Count;
        }
        let mut pairs = movements.zip(posted);
        pairs
            .find_map(|(entry, was)| movement(entry, was))
            .unwrap_or(Self::Entries)
    }
}

fn movement(entry: &Entry, was: &Transfer) -> Option<Difference> {
    let (debit, credit, amount, kind): (&AccountName, &AccountName, _, _) = match entry {
        Entry::Post {
            debit,
            credit,
            amount,
        } => (debit, credit, amount, TransferKind::Posted),
        Entry::Hold {
            debit,
            credit,
            amount,
        } => (debit, credit, amount, TransferKind::Pending),
        Entry::Reverse {
            debit,
            credit,
            amount,
        } => (debit, credit, amount, TransferKind::Reversed),
        // What a sum is set to cannot be told from the movement that set it.
        Entry::SetCredits { .. } | Entry::Open { .. } => return None,
    };
    if kind != was.kind {
        Some(Difference::Kind)
    } else if *debit != was.debit {
        Some(Difference::Debit)
    } else if *credit != was.credit {
        Some(Difference::Credit)
    } else if amount.asset() != was.amount.asset() {
        Some(Difference::Asset)
    } else if *amount != was.amount {
        Some(Difference::Amount)
    } else {
        None
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expiry => "expiry",
            Self::Memo => "memo",
            Self::Count => "number of movements",
            Self::Kind => "kind of movement",
            Self::Debit => "debited account",
            Self::Credit => "credited account",
            Self::Asset => "asset",
            Self::Amount => "amount",
            Self::Entries => "entries",
        })
    }
}
