//! Batches: linked sets of entries that happen together or not at all, and what became of them.

mod body;
mod transfer;

use agent_core::{Amount, Asset, Digest, IdempotencyKey, Timestamp};

use crate::account::{AccountName, Guard};
use crate::error::{Error, Result};

pub(crate) use body::Body;
pub use transfer::{Found, Receipt, Resolution, State, Transfer, TransferKind};

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
    /// What the journal keeps beside the transfers and covers by its hashes: a rate, a reason.
    pub memo: Option<String>,
    /// Whether a refusal uses the key up.
    pub pins_refusal: bool,
}

impl Batch {
    /// The most entries: every limit of a budget of the greatest depth, a purse and fees fit.
    pub const ENTRIES_MAX: usize = 64;
    /// The longest memo in bytes: a rate and a few names, not a document.
    pub const MEMO_BYTES_MAX: usize = 1_024;

    /// Creates a batch whose holds do not expire.
    #[must_use]
    pub const fn new(key: IdempotencyKey, entries: Vec<Entry>) -> Self {
        Self {
            key,
            expires_at: None,
            entries,
            memo: None,
            pins_refusal: false,
        }
    }

    /// Sets what the journal keeps beside the transfers. Default: nothing.
    #[must_use]
    pub fn with_memo(mut self, memo: impl Into<String>) -> Self {
        self.memo = Some(memo.into());
        self
    }

    /// Lets a refusal by a balance or a missing account use the key up: the same batch is refused
    /// ([`Error::AlreadyFailed`]) even when it would succeed later. Default: the key stays free.
    #[must_use]
    pub const fn with_pinned_refusal(mut self) -> Self {
        self.pins_refusal = true;
        self
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
    /// `Invalid` for no or too many entries, a memo that is too long, a negative amount, one that
    /// does not fit in 64 bits, or an account on both sides.
    pub fn digest(&self) -> Result<Digest> {
        if self.entries.is_empty() || self.entries.len() > Self::ENTRIES_MAX {
            return Err(Error::invalid("batch", "1 to 64 entries"));
        }
        let memo_bytes = self.memo.as_ref().map_or(0, String::len);
        if memo_bytes > Self::MEMO_BYTES_MAX {
            return Err(Error::invalid("batch", "a memo of more than 1024 bytes"));
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
        if let Some(memo) = &self.memo {
            body.byte(5).text(memo);
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
