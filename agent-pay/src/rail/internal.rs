//! Payments between purses of one ledger.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify, Digest, IdempotencyKey};
use async_trait::async_trait;

use super::{Outcome, Payment, Rail};
use crate::account::{AccountName, Guard};
use crate::batch::{Batch, Entry, TransferKind};
use crate::error::{Error, Result};
use crate::ledger::Ledger;

/// The rail `internal`: it moves money from one purse to the purses of payees, whose names are
/// those of their accounts. Names that begin with `internal-` are the rail's own: a payment to one fails.
#[derive(Clone, Debug)]
pub struct Internal {
    ledger: Arc<dyn Ledger>,
    purse: AccountName,
}

impl Internal {
    /// Pays from `purse`.
    #[must_use]
    pub const fn new(ledger: Arc<dyn Ledger>, purse: AccountName) -> Self {
        Self { ledger, purse }
    }

    async fn transfer(&self, id: IdempotencyKey, entries: Vec<Entry>) -> Outcome {
        let batch = Batch::new(id.clone(), entries).with_pinned_refusal();
        match self.ledger.post(batch).await {
            Ok(receipt) => settled(&receipt),
            // The id is used up: by an earlier payment, whose outcome stands, or by its closing.
            Err(Error::KeyReused { .. }) => self.stored(id).await,
            Err(error) if error.is_refusal() => Outcome::failed(error.code()),
            Err(error @ Error::AlreadyFailed { .. }) => Outcome::failed(error.code()),
            Err(error @ (Error::Invalid { .. } | Error::Value(_))) => Outcome::failed(error.code()),
            Err(error) => unknown(&error),
        }
    }

    async fn stored(&self, id: IdempotencyKey) -> Outcome {
        match self.ledger.find(id).await {
            Ok(Some(found)) => settled(&found.receipt),
            Ok(None) => Outcome::failed("refused"),
            Err(error) => unknown(&error),
        }
    }

    /// Uses an id up with a batch that moves nothing.
    fn closing(&self, id: IdempotencyKey) -> Batch {
        let asset = agent_core::Asset::USD;
        let guard = Guard::Unguarded;
        let closed = AccountName::new("internal-closed").unwrap_or_else(|_| self.purse.clone());
        Batch::new(id, vec![Entry::open(asset, closed, guard)]).with_memo("closed")
    }
}

/// What the names of this rail's own accounts begin with.
const OWN: &str = "internal-";
/// Against what is counted how much of a payment is left to be given back.
const REFUNDS: &str = "internal-refunds";

fn settled(receipt: &crate::batch::Receipt) -> Outcome {
    // A refund has transfers beside the money's, all of them of this account.
    let is_counted = |name: &AccountName| name.as_str() == REFUNDS;
    let posted = receipt.transfers.iter().find(|t| {
        t.kind == TransferKind::Posted && !is_counted(&t.debit) && !is_counted(&t.credit)
    });
    match posted {
        Some(transfer) => Outcome::settled(transfer.amount, format!("batch {}", receipt.seq)),
        None => Outcome::failed("closed"),
    }
}

fn unknown(error: &Error) -> Outcome {
    Outcome::unknown(Duration::from_secs(1), error.to_string())
}

#[async_trait]
impl Rail for Internal {
    fn name(&self) -> &'static str {
        "internal"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        match AccountName::new(&payment.payee) {
            // What is paid there would count as left to be given back.
            Ok(payee) if payee.as_str().starts_with(OWN) => {
                let closed = self.look_up(payment.id).await;
                if closed.is_final() {
                    return closed;
                }
                Outcome::unknown(Duration::from_secs(1), "it is not closed yet")
            }
            Ok(payee) => {
                let entry = Entry::post(self.purse.clone(), payee, payment.amount);
                self.transfer(payment.id, vec![entry]).await
            }
            Err(error) => Outcome::failed(error.code()),
        }
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        match self.ledger.post(self.closing(id.clone())).await {
            Ok(receipt) => settled(&receipt),
            Err(Error::KeyReused { .. }) => self.stored(id).await,
            Err(error) => unknown(&error),
        }
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        let found = match self.ledger.find(payment).await {
            Ok(Some(found)) => found,
            Ok(None) => return Outcome::failed("no_payment"),
            Err(error) => return unknown(&error),
        };
        match back(&found.receipt, &refund) {
            Ok(entries) => self.transfer(refund.id, entries).await,
            Err(error) => Outcome::failed(error.code()),
        }
    }
}

/// What a refund moves: the money, and as much out of an account of the payment that has what was
/// paid and no more, so that the ledger refuses what all refunds together exceed it by.
fn back(receipt: &crate::batch::Receipt, refund: &Payment) -> Result<Vec<Entry>> {
    let paid = receipt.transfers.first();
    let paid = paid.ok_or_else(|| Error::invalid("refund", "nothing was paid"))?;
    let of = Digest::of_bytes(receipt.key.as_str().as_bytes());
    let left = AccountName::new(&format!("internal-paid/{of}"))?;
    let all = AccountName::new(REFUNDS)?;
    let guard = Guard::DebitsMustNotExceedCredits;
    let asset = paid.amount.asset();
    Ok(vec![
        Entry::open(asset, all.clone(), Guard::Unguarded),
        Entry::open(asset, left.clone(), guard),
        Entry::set_credits(all.clone(), left.clone(), paid.amount),
        Entry::post(paid.credit.clone(), paid.debit.clone(), refund.amount),
        Entry::post(left, all, refund.amount),
    ])
}
