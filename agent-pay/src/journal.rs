//! What every backend shares: the rules of the ledger over a few storage primitives.
//!
//! A backend implements [`Book`] within one transaction (or under one lock) and calls the
//! functions here. They read and check everything first and write once, through [`Book::put`], so
//! that a refused batch has written nothing.

mod audit;
mod draft;

use agent_core::{Amount, Asset, Digest, IdempotencyKey, Timestamp};

use crate::account::{Account, AccountName};
use crate::batch::{Batch, Body, Found, Receipt, Resolution, State, Transfer, TransferKind};
use crate::error::{Error, Result};
use crate::ledger::Anchor;
use draft::Draft;

pub use audit::Auditor;

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

    /// Returns the state a resolution of this origin leaves a batch in.
    const fn state(self) -> State {
        match self {
            Self::Posted | Self::Captured => State::Posted,
            Self::Voided => State::Voided,
            Self::Expired => State::Expired,
        }
    }

    const fn transfer_kind(self) -> TransferKind {
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

/// Everything one write changes. A backend stores all of it or nothing.
#[derive(Debug)]
#[non_exhaustive]
pub struct Commit<'a> {
    /// The batch to append.
    pub batch: &'a BatchRow,
    /// Its transfers to append.
    pub transfers: &'a [TransferRow],
    /// The accounts to add, with their balances.
    pub opened: &'a [Account],
    /// The accounts whose balances change.
    pub changed: &'a [Account],
    /// Whether the batch's holds are pending from here on.
    pub is_pending: bool,
    /// The head from here on.
    pub head: Head,
}

/// The storage of a ledger, within one transaction.
///
/// The functions of this module are the only callers; each calls [`Book::put`] at most once, at
/// its end, or for [`expire`] once a batch.
pub trait Book {
    /// Returns the time of the transaction.
    fn now(&self) -> Timestamp;
    /// Returns the end of the journal.
    ///
    /// # Errors
    /// Those of the storage.
    fn head(&self) -> Result<Head>;
    /// Returns the batch posted under a key.
    ///
    /// # Errors
    /// Those of the storage.
    fn batch_by_key(&self, key: &IdempotencyKey) -> Result<Option<BatchRow>>;
    /// Returns the batch that resolves another.
    ///
    /// # Errors
    /// Those of the storage.
    fn resolution_of(&self, seq: u64) -> Result<Option<BatchRow>>;
    /// Returns a batch by its number.
    ///
    /// # Errors
    /// Those of the storage; `Corrupt` if there is none.
    fn batch(&self, seq: u64) -> Result<BatchRow>;
    /// Returns the transfers of a batch in their order.
    ///
    /// # Errors
    /// Those of the storage.
    fn transfers(&self, batch: &BatchRow) -> Result<Vec<TransferRow>>;
    /// Returns an account by its name.
    ///
    /// # Errors
    /// Those of the storage.
    fn account_by_name(&self, asset: Asset, name: &AccountName) -> Result<Option<Account>>;
    /// Returns an account by its number.
    ///
    /// # Errors
    /// Those of the storage; `Corrupt` if there is none.
    fn account(&self, id: u64) -> Result<Account>;
    /// Returns the pending batches that expire at or before `now`, the earliest first.
    ///
    /// # Errors
    /// Those of the storage.
    fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<u64>>;
    /// Stores a write.
    ///
    /// # Errors
    /// Those of the storage; the transaction must be rolled back then.
    fn put(&mut self, commit: &Commit<'_>) -> Result<()>;
}

/// Posts a batch; see [`Ledger::post`](crate::Ledger::post).
///
/// # Errors
/// Those of the contract. Unless the storage failed, nothing is written.
pub fn post<B: Book + ?Sized>(book: &mut B, batch: &Batch) -> Result<Receipt> {
    let request = batch.digest()?;
    if let Some(row) = book.batch_by_key(&batch.key)? {
        if row.request != request {
            return Err(Error::KeyReused {
                key: batch.key.clone(),
            });
        }
        return receipt(book, &row, batch.key.clone());
    }
    let mut draft = Draft::begin(book, request, Origin::Posted)?;
    draft.row.key = Some(batch.key.clone());
    draft.row.expires_at = batch.expires_at;
    if batch.expires_at.is_some_and(|end| end <= draft.row.at) {
        return Err(Error::invalid("batch", "its holds are expired already"));
    }
    for entry in &batch.entries {
        draft.apply(book, entry)?;
    }
    draft.commit(book, batch.key.clone())
}

/// Resolves a batch; see [`Ledger::resolve`](crate::Ledger::resolve).
///
/// # Errors
/// Those of the contract. Unless the storage failed, nothing is written.
pub fn resolve<B: Book + ?Sized>(
    book: &mut B,
    key: &IdempotencyKey,
    resolution: &Resolution,
) -> Result<Receipt> {
    resolve_holds(book, key, resolution).map(|(_holds, receipt)| receipt)
}

/// Resolves a batch and returns its holds too, so that their amounts need not be read again.
pub(crate) fn resolve_holds<B: Book + ?Sized>(
    book: &mut B,
    key: &IdempotencyKey,
    resolution: &Resolution,
) -> Result<(Vec<TransferRow>, Receipt)> {
    let Some(held) = book.batch_by_key(key)? else {
        return Err(Error::KeyNotFound { key: key.clone() });
    };
    let mut holds = book.transfers(&held)?;
    holds.retain(|transfer| transfer.kind == TransferKind::Pending);
    if holds.is_empty() {
        return Err(Error::invalid("resolution", "the batch holds nothing"));
    }
    let (origin, captures) = match resolution {
        Resolution::Void => (Origin::Voided, Vec::new()),
        Resolution::Capture(amount) => (Origin::Captured, vec![*amount; holds.len()]),
        Resolution::CaptureEach(amounts) => (Origin::Captured, amounts.clone()),
    };
    if origin == Origin::Captured && captures.len() != holds.len() {
        return Err(Error::invalid("resolution", "one amount for each hold"));
    }
    let request = resolution_digest(origin, &captures)?;
    if let Some(done) = book.resolution_of(held.seq)? {
        if done.request == request {
            let receipt = receipt(book, &done, key.clone())?;
            return Ok((holds, receipt));
        }
        return Err(Error::Resolved {
            key: key.clone(),
            state: done.origin.state(),
        });
    }
    let receipt = finish(book, &held, &holds, request, origin, &captures)?;
    Ok((holds, receipt))
}

/// Releases what is expired; see [`Ledger::expire`](crate::Ledger::expire).
///
/// # Errors
/// Those of the storage; the transaction must be rolled back then.
pub fn expire<B: Book + ?Sized>(book: &mut B, limit: usize) -> Result<Vec<Receipt>> {
    let now = book.now().max(book.head()?.at);
    let mut receipts = Vec::new();
    for seq in book.expired(now, limit)? {
        let held = book.batch(seq)?;
        let mut holds = book.transfers(&held)?;
        holds.retain(|transfer| transfer.kind == TransferKind::Pending);
        let request = resolution_digest(Origin::Expired, &[])?;
        let origin = Origin::Expired;
        receipts.push(finish(book, &held, &holds, request, origin, &[])?);
    }
    Ok(receipts)
}

/// Finds a batch; see [`Ledger::find`](crate::Ledger::find).
///
/// # Errors
/// Those of the storage.
pub fn find<B: Book + ?Sized>(book: &B, key: &IdempotencyKey) -> Result<Option<Found>> {
    let Some(row) = book.batch_by_key(key)? else {
        return Ok(None);
    };
    let posted = receipt(book, &row, key.clone())?;
    let holds = |transfer: &Transfer| transfer.kind == TransferKind::Pending;
    let (state, resolution) = match book.resolution_of(row.seq)? {
        Some(done) => (
            done.origin.state(),
            Some(receipt(book, &done, key.clone())?),
        ),
        None if posted.transfers.iter().any(holds) => (State::Pending, None),
        None => (State::Posted, None),
    };
    Ok(Some(Found {
        receipt: posted,
        state,
        resolution,
    }))
}

fn resolution_digest(origin: Origin, captures: &[Amount]) -> Result<Digest> {
    let mut body = Body::new("agent-pay resolution v1");
    body.byte(origin.code());
    for amount in captures {
        body.asset(amount.asset()).number(amount.units_i64()?);
    }
    Ok(body.digest())
}

fn finish<B: Book + ?Sized>(
    book: &mut B,
    held: &BatchRow,
    holds: &[TransferRow],
    request: Digest,
    origin: Origin,
    captures: &[Amount],
) -> Result<Receipt> {
    let seq = held.seq;
    let key = held.key.clone();
    let key = key.ok_or_else(|| Error::corrupt(format!("batch {seq} has no key")))?;
    let mut draft = Draft::begin(book, request, origin)?;
    if let Some(expired_at) = held.expires_at
        && origin == Origin::Captured
        && expired_at <= draft.row.at
    {
        return Err(Error::Expired { key, expired_at });
    }
    draft.row.resolves = Some(held.seq);
    let captures = captures.iter().copied().map(Some);
    for (hold, capture) in holds.iter().zip(captures.chain(std::iter::repeat(None))) {
        draft.resolve(book, hold, origin.transfer_kind(), capture)?;
    }
    draft.commit(book, key)
}

/// Names the accounts of a stored batch.
fn receipt<B: Book + ?Sized>(book: &B, row: &BatchRow, key: IdempotencyKey) -> Result<Receipt> {
    let transfers = book.transfers(row)?;
    let mut named = Vec::with_capacity(transfers.len());
    for transfer in &transfers {
        named.push(name_transfer(
            transfer,
            &book.account(transfer.debit)?,
            &book.account(transfer.credit)?,
        ));
    }
    Ok(Receipt::new(row.seq, key, row.at, row.expires_at, named))
}

/// Names the accounts of a stored transfer.
#[must_use]
pub fn name_transfer(row: &TransferRow, debit: &Account, credit: &Account) -> Transfer {
    Transfer {
        id: row.id,
        kind: row.kind,
        debit: debit.name.clone(),
        credit: credit.name.clone(),
        amount: debit.amount(row.units),
        hold: row.hold,
    }
}
