//! What the journal stores.

use agent_core::{Digest, IdempotencyKey, Timestamp};

use crate::account::Account;
use crate::batch::{Body, State, Transfer, TransferKind};
use crate::error::{Error, Result};
use crate::ledger::Anchor;

/// The end of the journal and the numbers given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The last batch, 0 if there is none.
    pub seq: u64,
    /// The last transfer, 0 if there is none.
    pub n_transfers: u64,
    /// The last account, 0 if there is none.
    pub n_accounts: u64,
    /// When the last batch was posted.
    pub at: Timestamp,
    /// The hash of the last batch.
    pub hash: Digest,
}

impl Head {
    /// The head of an empty journal.
    pub const EMPTY: Self = Self::new(0, 0, 0, Timestamp::EPOCH, Anchor::ROOT);

    /// Creates a head, for backends that read it from storage.
    #[must_use]
    pub const fn new(
        seq: u64,
        n_transfers: u64,
        n_accounts: u64,
        at: Timestamp,
        hash: Digest,
    ) -> Self {
        Self {
            seq,
            n_transfers,
            n_accounts,
            at,
            hash,
        }
    }

    /// Returns the part worth keeping elsewhere.
    #[must_use]
    pub const fn anchor(&self) -> Anchor {
        Anchor::new(self.seq, self.hash)
    }
}

/// How a journaled batch came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Posted by a caller.
    Posted,
    /// Captures the holds of another batch.
    Captured,
    /// Releases the holds of another batch.
    Voided,
    /// Releases the expired holds of another batch.
    Expired,
}

impl Origin {
    /// Returns the number the origin is stored as.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Posted => 0,
            Self::Captured => 1,
            Self::Voided => 2,
            Self::Expired => 3,
        }
    }

    /// Reads the number the origin is stored as.
    ///
    /// # Errors
    /// `Corrupt` for an unknown number.
    pub fn from_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::Posted),
            1 => Ok(Self::Captured),
            2 => Ok(Self::Voided),
            3 => Ok(Self::Expired),
            _ => Err(Error::corrupt(format!("batch origin {code} is unknown"))),
        }
    }

    /// Returns the stable name the origin is exported under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }

    /// Returns the state a resolution of this origin leaves a batch in.
    pub(super) const fn state(self) -> State {
        match self {
            Self::Posted | Self::Captured => State::Posted,
            Self::Voided => State::Voided,
            Self::Expired => State::Expired,
        }
    }

    pub(super) const fn transfer_kind(self) -> TransferKind {
        match self {
            Self::Posted => TransferKind::Posted,
            Self::Captured => TransferKind::Captured,
            Self::Voided => TransferKind::Voided,
            Self::Expired => TransferKind::Expired,
        }
    }
}

/// A batch as it is journaled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchRow {
    /// Its number, counted from 1.
    pub seq: u64,
    /// The key it was posted under; a resolution has none of its own.
    pub key: Option<IdempotencyKey>,
    /// The digest of the body that was posted.
    pub request: Digest,
    /// How it came to be.
    pub origin: Origin,
    /// The batch it resolves.
    pub resolves: Option<u64>,
    /// When it was posted.
    pub at: Timestamp,
    /// When its holds expire.
    pub expires_at: Option<Timestamp>,
    /// The number of its first transfer.
    pub first_transfer: u64,
    /// How many transfers it has.
    pub n_transfers: u64,
    /// What it keeps beside its transfers.
    pub memo: Option<String>,
    /// The hash of the batch before it, this row, its transfers and the accounts it opened.
    pub hash: Digest,
}

impl BatchRow {
    /// Creates a row with the parts every batch has, for backends that read it from storage.
    #[must_use]
    pub const fn new(
        seq: u64,
        request: Digest,
        origin: Origin,
        at: Timestamp,
        hash: Digest,
    ) -> Self {
        Self {
            seq,
            key: None,
            request,
            origin,
            resolves: None,
            at,
            expires_at: None,
            first_transfer: 0,
            n_transfers: 0,
            memo: None,
            hash,
        }
    }

    /// Computes the hash the row must have behind `before`.
    #[must_use]
    pub fn chain(&self, before: &Digest, opened: &[Account], transfers: &[TransferRow]) -> Digest {
        let mut body = Body::new("agent-pay journal v1");
        body.bytes(before.as_bytes()).count(self.seq);
        body.text(self.key.as_ref().map_or("", IdempotencyKey::as_str));
        body.bytes(self.request.as_bytes())
            .byte(self.origin.code())
            .count(self.resolves.unwrap_or(0))
            .number(self.at.as_unix_ms())
            .optional(self.expires_at.map(Timestamp::as_unix_ms))
            .count(self.first_transfer)
            .count(self.n_transfers);
        for account in opened {
            body.byte(b'a').count(account.id).asset(account.asset);
            body.text(account.name.as_str()).byte(account.guard.code());
        }
        for transfer in transfers {
            body.byte(b't').count(transfer.id).count(transfer.batch);
            body.count(transfer.debit).count(transfer.credit);
            body.number(transfer.units).byte(transfer.kind.code());
            body.count(transfer.hold.unwrap_or(0));
        }
        if let Some(memo) = &self.memo {
            body.byte(b'm').text(memo);
        }
        body.digest()
    }
}

/// A transfer as it is journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferRow {
    /// Its number, counted from 1.
    pub id: u64,
    /// The batch it belongs to.
    pub batch: u64,
    /// The debited account.
    pub debit: u64,
    /// The credited account.
    pub credit: u64,
    /// How much, in smallest units.
    pub units: i64,
    /// What it does.
    pub kind: TransferKind,
    /// The hold it resolves.
    pub hold: Option<u64>,
}

impl TransferRow {
    /// Creates a row that resolves nothing.
    #[must_use]
    pub const fn new(
        id: u64,
        batch: u64,
        debit: u64,
        credit: u64,
        units: i64,
        kind: TransferKind,
    ) -> Self {
        Self {
            id,
            batch,
            debit,
            credit,
            units,
            kind,
            hold: None,
        }
    }

    /// Sets the hold it resolves.
    #[must_use]
    pub const fn with_hold(mut self, hold: Option<u64>) -> Self {
        self.hold = hold;
        self
    }
}

/// A batch of the journal with the names of its accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Journaled {
    /// The batch.
    pub row: BatchRow,
    /// Its transfers.
    pub transfers: Vec<Transfer>,
}
