//! Transfers, and what became of a batch.

use std::fmt;

use agent_core::{Amount, IdempotencyKey, Timestamp};

use super::{Batch, Entry};
use crate::account::AccountName;
use crate::error::{Error, Result};

/// How the holds of a batch are resolved. All of them are resolved together, once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// Posts this amount of every hold and releases the rest.
    Capture(Amount),
    /// Posts one amount of each hold, in the order of the entries, and releases the rest.
    CaptureEach(Vec<Amount>),
    /// Releases every hold.
    Void,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It holds nothing, or its holds are captured.
    Posted,
    /// Its holds wait to be resolved.
    Pending,
    /// Its holds were released.
    Voided,
    /// Its holds were released because their time was over.
    Expired,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Posted => "posted",
            Self::Pending => "pending",
            Self::Voided => "voided",
            Self::Expired => "expired",
        })
    }
}

/// What a transfer does to the two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferKind {
    /// Adds to the posted sums.
    Posted,
    /// Adds to the pending sums.
    Pending,
    /// Takes a hold from the pending sums and adds the captured amount to the posted ones.
    Captured,
    /// Takes a hold from the pending sums.
    Voided,
    /// Takes a hold from the pending sums because its time was over.
    Expired,
    /// Takes from the posted sums.
    Reversed,
}

impl TransferKind {
    const ALL: [Self; 6] = [
        Self::Posted,
        Self::Pending,
        Self::Captured,
        Self::Voided,
        Self::Expired,
        Self::Reversed,
    ];

    /// Returns the number the kind is stored as.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Posted => 0,
            Self::Pending => 1,
            Self::Captured => 2,
            Self::Voided => 3,
            Self::Expired => 4,
            Self::Reversed => 5,
        }
    }

    /// Reads the number the kind is stored as.
    ///
    /// # Errors
    /// `Corrupt` for an unknown number.
    pub fn from_code(code: u8) -> Result<Self> {
        Self::ALL
            .get(usize::from(code))
            .copied()
            .ok_or_else(|| Error::corrupt(format!("transfer kind {code} is unknown")))
    }
}

/// An immutable movement between two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfer {
    /// Its number in the journal, counted from 1.
    pub id: u64,
    /// What it does.
    pub kind: TransferKind,
    /// From.
    pub debit: AccountName,
    /// To.
    pub credit: AccountName,
    /// How much: for a capture what was captured, for a release what was held.
    pub amount: Amount,
    /// The hold it resolves.
    pub hold: Option<u64>,
}

/// The answer to a batch or a resolution: what the journal keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The batch's number in the journal, counted from 1.
    pub seq: u64,
    /// The key of the batch; for a resolution the key of the batch it resolves.
    pub key: IdempotencyKey,
    /// When it was posted, by the ledger's clock, which never steps backwards.
    pub at: Timestamp,
    /// When its holds expire.
    pub expires_at: Option<Timestamp>,
    /// Its transfers.
    pub transfers: Vec<Transfer>,
}

impl Receipt {
    pub(crate) const fn new(
        seq: u64,
        key: IdempotencyKey,
        at: Timestamp,
        expires_at: Option<Timestamp>,
        transfers: Vec<Transfer>,
    ) -> Self {
        Self {
            seq,
            key,
            at,
            expires_at,
            transfers,
        }
    }
}

/// A batch found by its key, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The answer the batch got.
    pub receipt: Receipt,
    /// What became of its holds.
    pub state: State,
    /// The answer their resolution got.
    pub resolution: Option<Receipt>,
}

impl Found {
    /// Returns the batch that takes back what this one moved, the last movement first. It has one
    /// key, so that it happens once.
    ///
    /// # Errors
    /// `Invalid` if nothing is posted.
    pub fn reversal(&self) -> Result<Batch> {
        let posted = self.receipt.transfers.iter();
        let captured = self
            .resolution
            .iter()
            .flat_map(|receipt| &receipt.transfers);
        let moved = posted.chain(captured).filter(|transfer| {
            let kinds = [TransferKind::Posted, TransferKind::Captured];
            kinds.contains(&transfer.kind) && !transfer.amount.is_zero()
        });
        let back = |t: &Transfer| Entry::reverse(t.debit.clone(), t.credit.clone(), t.amount);
        let mut entries: Vec<Entry> = moved.map(back).collect();
        if entries.is_empty() {
            return Err(Error::invalid("reversal", "nothing is posted"));
        }
        entries.reverse();
        let seq = self.receipt.seq;
        let key = IdempotencyKey::new(format!("agent-pay.reverse/{seq}"))?;
        Ok(Batch::new(key, entries).with_memo(format!("reverses batch {seq}")))
    }
}
