//! What every backend shares: the rules of the ledger over a few storage primitives.
//!
//! A backend implements [`Book`] within one transaction (or under one lock) and calls the
//! functions here. They read and check everything first and write once, through [`Book::put`], so
//! that a refused batch has written nothing.

mod audit;
mod differ;
mod draft;
mod invariants;
mod posted;
mod row;

use agent_core::{Amount, Asset, Digest, IdempotencyKey, Timestamp};

use crate::account::{Account, AccountName};
use crate::batch::{Batch, Body, Found, Receipt, Resolution, State, Transfer, TransferKind};
use crate::error::{Error, Result};
use draft::Draft;
use posted::Posted;

pub use audit::Auditor;
pub use differ::Difference;
pub use row::{BatchRow, Head, Journaled, Origin, TransferRow};

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
    /// Returns the digest of the body whose refusal used a key up.
    ///
    /// # Errors
    /// Those of the storage.
    fn refusal(&self, key: &IdempotencyKey) -> Result<Option<Digest>>;
    /// Stores a write.
    ///
    /// # Errors
    /// Those of the storage; the transaction must be rolled back then.
    fn put(&mut self, commit: &Commit<'_>) -> Result<()>;
    /// Stores that the refusal of a body used its key up.
    ///
    /// # Errors
    /// Those of the storage; the transaction must be rolled back then.
    fn put_refusal(&mut self, key: &IdempotencyKey, request: &Digest) -> Result<()>;
}

/// Posts a batch; see [`Ledger::post`](crate::Ledger::post).
///
/// # Errors
/// Those of the contract. Unless the storage failed, nothing is written but the note that a pinned
/// refusal used its key up: a caller that rolls back on every error loses that note.
pub fn post<B: Book + ?Sized>(book: &mut B, batch: &Batch) -> Result<Receipt> {
    let request = batch.digest()?;
    if let Some(row) = book.batch_by_key(&batch.key)? {
        if row.request != request {
            let posted = receipt(book, &row, batch.key.clone())?;
            return Err(Error::KeyReused {
                key: batch.key.clone(),
                differs: Difference::between(batch, &row, &posted.transfers),
            });
        }
        return receipt(book, &row, batch.key.clone());
    }
    post_unused(book, batch, request)?.receipt(batch.key.clone())
}

/// Posts a batch under a key no batch has, and returns its number.
#[cfg(feature = "sqlite")]
pub(crate) fn post_first<B: Book + ?Sized>(book: &mut B, batch: &Batch) -> Result<u64> {
    let request = batch.digest()?;
    Ok(post_unused(book, batch, request)?.row.seq)
}

fn post_unused<B: Book + ?Sized>(book: &mut B, batch: &Batch, request: Digest) -> Result<Posted> {
    if let Some(refused) = book.refusal(&batch.key)? {
        return Err(already_failed(batch, refused == request));
    }
    match post_new(book, batch, request) {
        Err(error) if batch.pins_refusal && error.is_refusal() => {
            book.put_refusal(&batch.key, &request)?;
            Err(error)
        }
        answer => answer,
    }
}

fn already_failed(batch: &Batch, is_same: bool) -> Error {
    let key = batch.key.clone();
    if is_same {
        Error::AlreadyFailed { key }
    } else {
        let differs = Difference::Entries;
        Error::KeyReused { key, differs }
    }
}

fn post_new<B: Book + ?Sized>(book: &mut B, batch: &Batch, request: Digest) -> Result<Posted> {
    let mut draft = Draft::begin(book, request, Origin::Posted)?;
    draft.row.key = Some(batch.key.clone());
    draft.row.expires_at = batch.expires_at;
    draft.row.memo.clone_from(&batch.memo);
    if batch.expires_at.is_some_and(|end| end <= draft.row.at) {
        return Err(Error::invalid("batch", "its holds are expired already"));
    }
    for entry in &batch.entries {
        draft.apply(book, entry)?;
    }
    draft.commit(book)
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
    resolve_by(book, key, |holds| {
        Ok(match resolution {
            Resolution::Void => (Origin::Voided, Vec::new()),
            Resolution::Capture(amount) => (Origin::Captured, vec![*amount; holds.len()]),
            Resolution::CaptureEach(amounts) => (Origin::Captured, amounts.clone()),
        })
    })
}

/// Resolves a batch as its holds suggest.
pub(crate) fn resolve_by<B: Book + ?Sized>(
    book: &mut B,
    key: &IdempotencyKey,
    how: impl FnOnce(&[TransferRow]) -> Result<(Origin, Vec<Amount>)>,
) -> Result<(Vec<TransferRow>, Receipt)> {
    let held = book.batch_by_key(key)?;
    let held = held.ok_or_else(|| Error::KeyNotFound { key: key.clone() })?;
    resolve_batch(book, key, &held, how)
}

/// Resolves a batch that was read already.
pub(crate) fn resolve_batch<B: Book + ?Sized>(
    book: &mut B,
    key: &IdempotencyKey,
    held: &BatchRow,
    how: impl FnOnce(&[TransferRow]) -> Result<(Origin, Vec<Amount>)>,
) -> Result<(Vec<TransferRow>, Receipt)> {
    let mut holds = book.transfers(held)?;
    holds.retain(|transfer| transfer.kind == TransferKind::Pending);
    if holds.is_empty() {
        return Err(Error::invalid("resolution", "the batch holds nothing"));
    }
    let (origin, captures) = how(&holds)?;
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
    let receipt = finish(book, held, &holds, request, origin, &captures)?;
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
        None if posted.transfers.iter().any(holds) => {
            let now = book.now().max(book.head()?.at);
            let is_over = row.expires_at.is_some_and(|end| end <= now);
            // The deadline counts, not the sweeper that releases what is over.
            let state = if is_over {
                State::Expired
            } else {
                State::Pending
            };
            (state, None)
        }
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
    draft.commit(book)?.receipt(key)
}

/// Reads a stored batch whole, for pages of the journal.
///
/// # Errors
/// Those of the storage.
pub fn journaled<B: Book + ?Sized>(book: &B, row: BatchRow) -> Result<Journaled> {
    let transfers = named(book, &row)?;
    Ok(Journaled { row, transfers })
}

/// Names the accounts of a stored batch.
fn receipt<B: Book + ?Sized>(book: &B, row: &BatchRow, key: IdempotencyKey) -> Result<Receipt> {
    let transfers = named(book, row)?;
    Ok(Receipt::new(
        row.seq,
        key,
        row.at,
        row.expires_at,
        transfers,
    ))
}

fn named<B: Book + ?Sized>(book: &B, row: &BatchRow) -> Result<Vec<Transfer>> {
    let transfers = book.transfers(row)?;
    let mut named = Vec::with_capacity(transfers.len());
    for transfer in &transfers {
        named.push(name_transfer(
            transfer,
            &book.account(transfer.debit)?,
            &book.account(transfer.credit)?,
        ));
    }
    Ok(named)
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
