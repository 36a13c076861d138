//! Batches: linked sets of entries that happen together or not at all, and what became of them.

use std::fmt;

use agent_core::{Amount, Asset, Digest, IdempotencyKey, Timestamp};

use crate::account::{AccountName, Guard};
use crate::error::{Error, Result};

/// One line of a batch. The ledger is that of the amount's asset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// Opens an account; does nothing if it is open with the same guard.
    #[non_exhaustive]
    Open {
        /// The ledger.
        asset: Asset,
        /// The account.
        account: AccountName,
        /// What its balance may not do.
        guard: Guard,
    },
    /// Moves an amount from one account to another.
    #[non_exhaustive]
    Post {
        /// From.
        debit: AccountName,
        /// To.
        credit: AccountName,
        /// How much.
        amount: Amount,
    },
    /// Holds an amount of one account for another, until the batch is resolved or expires.
    #[non_exhaustive]
    Hold {
        /// From.
        debit: AccountName,
        /// To.
        credit: AccountName,
        /// The most that can be captured.
        amount: Amount,
    },
    /// Takes back an amount that was posted in this direction, by lowering both posted sums. The
    /// sums never fall below zero and the guard of the credited account is kept.
    #[non_exhaustive]
    Reverse {
        /// The account that was debited.
        debit: AccountName,
        /// The account that was credited.
        credit: AccountName,
        /// How much.
        amount: Amount,
    },
    /// Posts or reverses whatever makes the posted credits of an account equal to an amount.
    #[non_exhaustive]
    SetCredits {
        /// The other side.
        debit: AccountName,
        /// The account.
        credit: AccountName,
        /// Its posted credits afterwards.
        credits: Amount,
    },
}

impl Entry {
    /// Opens an account.
    #[must_use]
    pub const fn open(asset: Asset, account: AccountName, guard: Guard) -> Self {
        Self::Open {
            asset,
            account,
            guard,
        }
    }

    /// Moves an amount.
    #[must_use]
    pub const fn post(debit: AccountName, credit: AccountName, amount: Amount) -> Self {
        Self::Post {
            debit,
            credit,
            amount,
        }
    }

    /// Holds an amount.
    #[must_use]
    pub const fn hold(debit: AccountName, credit: AccountName, amount: Amount) -> Self {
        Self::Hold {
            debit,
            credit,
            amount,
        }
    }

    /// Takes an amount back.
    #[must_use]
    pub const fn reverse(debit: AccountName, credit: AccountName, amount: Amount) -> Self {
        Self::Reverse {
            debit,
            credit,
            amount,
        }
    }

    /// Sets posted credits.
    #[must_use]
    pub const fn set_credits(debit: AccountName, credit: AccountName, credits: Amount) -> Self {
        Self::SetCredits {
            debit,
            credit,
            credits,
        }
    }
}

/// Entries that happen together or not at all, under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The key that makes posting it again harmless.
    pub key: IdempotencyKey,
    /// When its holds expire; never, if absent.
    pub expires_at: Option<Timestamp>,
    /// The entries, applied in order.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// The most entries: a budget of the greatest depth, a purse and fees fit.
    pub const ENTRIES_MAX: usize = 32;

    /// Creates a batch whose holds do not expire.
    #[must_use]
    pub const fn new(key: IdempotencyKey, entries: Vec<Entry>) -> Self {
        Self {
            key,
            expires_at: None,
            entries,
        }
    }

    /// Sets when the holds expire. Default: never.
    #[must_use]
    pub const fn with_expiry(mut self, expires_at: Timestamp) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Digests the body, without the key: a second batch under the key must have the same.
    ///
    /// # Errors
    /// `Invalid` for no or too many entries, a negative amount, one that does not fit in 64 bits,
    /// or an account on both sides.
    pub fn digest(&self) -> Result<Digest> {
        if self.entries.is_empty() || self.entries.len() > Self::ENTRIES_MAX {
            return Err(Error::invalid("batch", "1 to 32 entries"));
        }
        let mut body = Body::new("agent-pay batch v1");
        body.optional(self.expires_at.map(Timestamp::as_unix_ms));
        for entry in &self.entries {
            match entry {
                Entry::Open {
                    asset,
                    account,
                    guard,
                } => {
                    body.byte(0)
                        .asset(*asset)
                        .text(account.as_str())
                        .byte(guard.code());
                }
                Entry::Post {
                    debit,
                    credit,
                    amount,
                } => body.movement(1, debit, credit, *amount)?,
                Entry::Hold {
                    debit,
                    credit,
                    amount,
                } => body.movement(2, debit, credit, *amount)?,
                Entry::Reverse {
                    debit,
                    credit,
                    amount,
                } => body.movement(3, debit, credit, *amount)?,
                Entry::SetCredits {
                    debit,
                    credit,
                    credits,
                } => body.movement(4, debit, credit, *credits)?,
            }
        }
        Ok(body.digest())
    }
}

impl Guard {
    /// Returns the number the guard is stored as.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unguarded => 0,
            Self::DebitsMustNotExceedCredits => 1,
        }
    }

    /// Reads the number the guard is stored as.
    ///
    /// # Errors
    /// `Corrupt` for an unknown number.
    pub fn from_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::Unguarded),
            1 => Ok(Self::DebitsMustNotExceedCredits),
            _ => Err(Error::corrupt(format!("guard {code} is unknown"))),
        }
    }
}

/// The bytes a digest is taken of: every field has a fixed width or its length before it, so that
/// no two bodies give the same bytes.
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn new(domain: &str) -> Self {
        let mut body = Self(Vec::with_capacity(512));
        body.text(domain);
        body
    }

    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(crate) fn count(&mut self, count: u64) -> &mut Self {
        self.bytes(&count.to_le_bytes())
    }

    pub(crate) fn optional(&mut self, number: Option<i64>) -> &mut Self {
        match number {
            None => self.byte(0),
            Some(number) => self.byte(1).number(number),
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        // A length beyond 64 bits does not exist.
        self.count(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.bytes(text.as_bytes())
    }

    pub(crate) fn asset(&mut self, asset: Asset) -> &mut Self {
        self.text(asset.code()).byte(asset.scale())
    }

    fn movement(
        &mut self,
        kind: u8,
        debit: &AccountName,
        credit: &AccountName,
        amount: Amount,
    ) -> Result<()> {
        if debit == credit {
            return Err(Error::invalid("entry", "an account on both sides"));
        }
        if amount.is_negative() {
            return Err(Error::invalid("entry", "a negative amount"));
        }
        self.byte(kind)
            .text(debit.as_str())
            .text(credit.as_str())
            .asset(amount.asset())
            .number(amount.units_i64()?);
        Ok(())
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of_bytes(&self.0)
    }
}

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
