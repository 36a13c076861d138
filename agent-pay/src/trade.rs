//! Trade between agents: signed quotes, vouchers that grow while something streams, receipts that
//! form a chain, and escrow with milestones and an arbiter.

use agent_core::{Amount, Digest, IdempotencyKey, Principal, Timestamp};
use serde::{Deserialize, Serialize};

use crate::authority::{Intent, Movement, Origin, Payee, PriceBasis};
use crate::budget::BudgetPath;
use crate::error::{Error, Result};
use crate::signed::{self, SignKey, Verified, VerifyKey};

const QUOTE: &str = "agent-pay.quote+jws";
const VOUCHER: &str = "agent-pay.voucher+jws";
const RECEIPT: &str = "agent-pay.receipt+jws";

/// What a seller offers for how much, until when. Signed by the seller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Quote {
    /// The seller's own name for it.
    pub id: String,
    /// Who sells; the key that signs is theirs.
    pub seller: Principal,
    /// Who may buy.
    pub buyer: Principal,
    /// What.
    pub resource: String,
    /// The most it will cost.
    pub amount_max: Amount,
    /// Until when it may be taken.
    pub expires_at: Timestamp,
}

impl Quote {
    /// Offers something.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        seller: Principal,
        buyer: Principal,
        resource: impl Into<String>,
        amount_max: Amount,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            seller,
            buyer,
            resource: resource.into(),
            amount_max,
            expires_at,
        }
    }

    /// Signs it.
    ///
    /// # Errors
    /// As [`signed::sign`].
    pub fn sign(&self, key: &dyn SignKey) -> Result<String> {
        signed::sign(QUOTE, self, key)
    }

    /// Checks a quote for a buyer at a moment. The key must have the seller's name.
    ///
    /// # Errors
    /// As [`signed::verify`]; `Denied` for another signer, `Invalid` for another buyer, a negative
    /// amount or an offer that is over.
    pub fn verify(
        token: &str,
        keys: &dyn VerifyKey,
        buyer: &Principal,
        now: Timestamp,
    ) -> Result<Verified<Self>> {
        let quote: Verified<Self> = signed::verify(QUOTE, token, keys)?;
        check_signer(&quote, &quote.statement.seller)?;
        if quote.statement.buyer != *buyer {
            return Err(Error::invalid("quote", "it is for another buyer"));
        }
        if quote.statement.expires_at <= now || quote.statement.amount_max.is_negative() {
            return Err(Error::invalid("quote", "it is over, or negative"));
        }
        Ok(quote)
    }
}

impl Verified<Quote> {
    /// Makes the intent to take the offer: payee, price and resource are the offer's, and the money
    /// moves between two purses of the ledger.
    #[must_use]
    pub fn intent(
        &self,
        key: IdempotencyKey,
        node: BudgetPath,
        movement: Movement,
        expires_at: Timestamp,
    ) -> Intent {
        let quote = &self.statement;
        let payee = Payee::new(quote.seller.as_str(), Origin::SignedOffer);
        let buyer = quote.buyer.clone();
        Intent::new(key, node, buyer, quote.amount_max, payee, expires_at)
            .with_basis(PriceBasis::SignedOffer)
            .with_resource(&quote.resource, format!("quote {}", self.digest))
            .with_movement(movement)
    }
}

fn check_signer<T>(verified: &Verified<T>, who: &Principal) -> Result<()> {
    if verified.key_id == who.as_str() {
        return Ok(());
    }
    let key_id = verified.key_id.clone();
    Err(Error::BadSignature { key_id })
}

/// A promise of the buyer to pay so much in all. Each replaces those before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Voucher {
    /// The spend it draws on.
    pub spend: IdempotencyKey,
    /// Who promises.
    pub buyer: Principal,
    /// What is promised in all.
    pub cumulative: Amount,
}

impl Voucher {
    /// Promises `cumulative` in all.
    #[must_use]
    pub const fn new(spend: IdempotencyKey, buyer: Principal, cumulative: Amount) -> Self {
        Self {
            spend,
            buyer,
            cumulative,
        }
    }

    /// Signs it.
    ///
    /// # Errors
    /// As [`signed::sign`].
    pub fn sign(&self, key: &dyn SignKey) -> Result<String> {
        signed::sign(VOUCHER, self, key)
    }
}

/// The seller's side of a stream: the best voucher so far, never more than is held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Channel {
    /// The spend that is drawn on.
    pub spend: IdempotencyKey,
    /// Who promises.
    pub buyer: Principal,
    /// What is held.
    pub held: Amount,
    /// What is promised.
    pub promised: Amount,
}

impl Channel {
    /// Opens a stream on a hold.
    #[must_use]
    pub const fn new(spend: IdempotencyKey, buyer: Principal, held: Amount) -> Self {
        let promised = Amount::zero(held.asset());
        Self {
            spend,
            buyer,
            held,
            promised,
        }
    }

    /// Takes a voucher and returns what it adds. The same or an older one adds nothing.
    ///
    /// # Errors
    /// As [`signed::verify`]; `Denied` for another signer, `Invalid` for another spend, a negative
    /// amount, or more than is held: ask for a top-up first.
    pub fn accept(&mut self, token: &str, keys: &dyn VerifyKey) -> Result<Amount> {
        let voucher: Verified<Voucher> = signed::verify(VOUCHER, token, keys)?;
        check_signer(&voucher, &self.buyer)?;
        let Voucher {
            spend,
            buyer,
            cumulative,
        } = voucher.statement;
        if spend != self.spend || buyer != self.buyer || cumulative.is_negative() {
            return Err(Error::invalid("voucher", "it is of another stream"));
        }
        if cumulative.compare(&self.held)?.is_gt() {
            let (held, asked) = (self.held, cumulative);
            return Err(Error::ExceedsHold { held, asked });
        }
        let added = cumulative.minus(self.promised)?;
        if added.is_negative() {
            return Ok(Amount::zero(added.asset()));
        }
        self.promised = cumulative;
        Ok(added)
    }

    /// Takes note of a top-up.
    ///
    /// # Errors
    /// `Invalid` for another asset or a sum that does not fit.
    pub fn top_up(&mut self, amount: Amount) -> Result<()> {
        self.held = self.held.plus(amount)?;
        Ok(())
    }
}

/// What was paid for what, by which decision, after which receipt. Signed by the seller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Receipt {
    /// The spend.
    pub spend: IdempotencyKey,
    /// Who was paid.
    pub seller: Principal,
    /// How much.
    pub amount: Amount,
    /// The digest of the quote that was taken.
    pub quote: Option<Digest>,
    /// The digest of what was done for it: an execution, a file, an answer.
    pub execution: Digest,
    /// When.
    pub at: Timestamp,
    /// The digest of the seller's receipt before; absent for the first.
    pub before: Option<Digest>,
}

/// The receipts of a seller, each of which covers all before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptChain {
    last: Option<Digest>,
}

impl ReceiptChain {
    /// Continues behind a receipt; none begins a chain.
    #[must_use]
    pub const fn after(last: Option<Digest>) -> Self {
        Self { last }
    }

    /// Returns the digest of the last receipt.
    #[must_use]
    pub const fn last(&self) -> Option<Digest> {
        self.last
    }

    /// Signs the next receipt.
    ///
    /// # Errors
    /// As [`signed::sign`].
    pub fn issue(&mut self, receipt: ReceiptDraft, key: &dyn SignKey) -> Result<String> {
        let receipt = Receipt {
            spend: receipt.spend,
            seller: receipt.seller,
            amount: receipt.amount,
            quote: receipt.quote,
            execution: receipt.execution,
            at: receipt.at,
            before: self.last,
        };
        let token = signed::sign(RECEIPT, &receipt, key)?;
        self.last = Some(Digest::of_bytes(token.as_bytes()));
        Ok(token)
    }

    /// Checks that a receipt is the next of the chain and signed by its seller.
    ///
    /// # Errors
    /// As [`signed::verify`]; `Denied` for another signer, `Corrupt` for one that does not follow.
    pub fn check(&mut self, token: &str, keys: &dyn VerifyKey) -> Result<Receipt> {
        let receipt: Verified<Receipt> = signed::verify(RECEIPT, token, keys)?;
        check_signer(&receipt, &receipt.statement.seller)?;
        if receipt.statement.before != self.last {
            return Err(Error::corrupt("a receipt does not follow the one before"));
        }
        self.last = Some(receipt.digest);
        Ok(receipt.statement)
    }
}

/// A receipt before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiptDraft {
    /// The spend.
    pub spend: IdempotencyKey,
    /// Who was paid.
    pub seller: Principal,
    /// How much.
    pub amount: Amount,
    /// The digest of the quote that was taken. Default: none.
    pub quote: Option<Digest>,
    /// The digest of what was done for it.
    pub execution: Digest,
    /// When.
    pub at: Timestamp,
}

impl ReceiptDraft {
    /// Describes what was paid.
    #[must_use]
    pub const fn new(
        spend: IdempotencyKey,
        seller: Principal,
        amount: Amount,
        execution: Digest,
        at: Timestamp,
    ) -> Self {
        Self {
            spend,
            seller,
            amount,
            quote: None,
            execution,
            at,
        }
    }

    /// Sets the digest of the quote that was taken. Default: none.
    #[must_use]
    pub const fn with_quote(mut self, quote: Digest) -> Self {
        self.quote = Some(quote);
        self
    }
}

/// Money that waits for work: milestones, each held by itself, and who decides in a dispute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Escrow {
    /// Who pays.
    pub buyer: Principal,
    /// Who is paid.
    pub seller: Principal,
    /// Who decides in a dispute.
    pub arbiter: Principal,
    /// The amounts of the milestones, in their order.
    pub milestones: Vec<Amount>,
}

impl Escrow {
    /// The most milestones.
    pub const MILESTONES_MAX: usize = 32;

    /// Creates an escrow.
    ///
    /// # Errors
    /// `Invalid` for no or too many milestones, one that is not positive, or an arbiter who is a
    /// party.
    pub fn new(
        buyer: Principal,
        seller: Principal,
        arbiter: Principal,
        milestones: Vec<Amount>,
    ) -> Result<Self> {
        if arbiter == buyer || arbiter == seller || buyer == seller {
            return Err(Error::invalid("escrow", "three different principals"));
        }
        if milestones.is_empty() || milestones.len() > Self::MILESTONES_MAX {
            return Err(Error::invalid("escrow", "1 to 32 milestones"));
        }
        if milestones.iter().any(|amount| amount.units() <= 0) {
            return Err(Error::invalid("escrow", "amounts above nothing"));
        }
        Ok(Self {
            buyer,
            seller,
            arbiter,
            milestones,
        })
    }

    /// Returns the key of a milestone's spend.
    ///
    /// # Errors
    /// `Invalid` if the escrow's key is too long.
    pub fn milestone_key(escrow: &IdempotencyKey, n: usize) -> Result<IdempotencyKey> {
        Ok(IdempotencyKey::new(format!("{}/m{n}", escrow.as_str()))?)
    }
}
