//! The spend authority in the embedded store.
//!
//! The functions here run within a write of [`Db`], so that a caller can commit a decision together
//! with the row that says what it is for. After an error the caller's write must fail too.

mod approve;
mod desk;
mod end;
mod escrow;
mod gather;
mod hold;
mod later;
mod nodes;
mod record;
mod refund;
mod replay;
mod row;
mod snapshot;
mod sweep;

use std::sync::Arc;

use agent_core::store::{Db, Tx};
use agent_core::{Amount, Digest, IdempotencyKey, Principal};

use crate::authority::{
    ApprovalRequest, Authorization, Intent, Policy, PolicyBook, Refund, SpendHold, Vote,
};
use crate::budget::BudgetPath;
use crate::error::Result;

use gather::Gather;

pub use approve::{approval, open_requests, vote};
pub use end::{capture, release, submit};
pub use escrow::{accept_milestone, decide_milestone, dispute_milestone, open_escrow};
pub use hold::{authorize, preview, top_up};
pub use nodes::{PolicyCache, apply, delegate, halt, revoke, trust_payee};
pub use record::{StoredDecision, decision, replay};
pub use refund::{fail_refund, find_refund, refund, submit_refund, submitted_refunds};
#[cfg(any(feature = "mpp", feature = "x402"))]
pub(crate) use replay::kept_since;
pub use replay::{Answer, Begin, begin, finish, keep_until, purge};
pub use row::{spend, submitted};
pub use sweep::sweep;

/// A spend authority in the embedded store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteAuthority {
    db: Db,
    cache: Arc<PolicyCache>,
    gather: Arc<Gather>,
}

impl SqliteAuthority {
    /// Opens the authority of a store, creating or migrating its tables.
    ///
    /// # Errors
    /// `Unsupported` if the store was written by a later version, else those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(db: Db) -> Result<Self> {
        super::migrate(&db).await?;
        let cache = Arc::new(PolicyCache::default());
        let gather = Gather::new(db.clone(), Arc::clone(&cache));
        Ok(Self {
            db,
            cache,
            gather: Arc::new(gather),
        })
    }

    /// Returns the store, for writes that commit together with others.
    #[must_use]
    pub const fn db(&self) -> &Db {
        &self.db
    }

    /// Returns the cache to pass to the functions of a transaction.
    #[must_use]
    pub const fn cache(&self) -> &Arc<PolicyCache> {
        &self.cache
    }

    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.db.write(work).await
    }

    /// Sets the policies of all nodes of a book; others stay. A node's budget follows its
    /// `lifetime` limit when that changes.
    ///
    /// # Errors
    /// `Exhausted` ([`crate::Error::OverBudget`]) if a budget has more spent and held than its new
    /// limit.
    ///
    /// # Cancel safety
    /// Atomic: all policies or none.
    pub async fn apply(&self, book: PolicyBook, by: Principal) -> Result<()> {
        self.write(move |tx| apply(tx, &book, &by)).await
    }

    /// Opens a node below another for somebody, no wider than that, and stoppable by itself.
    ///
    /// # Errors
    /// `NotFound` if nobody defined the node above, `Invalid` if the policy is wider, `Conflict` if
    /// the node is defined already.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn delegate(&self, node: BudgetPath, policy: Policy, by: Principal) -> Result<()> {
        self.write(move |tx| delegate(tx, &node, &policy, &by))
            .await
    }

    /// Stops the spending of a node and everything below it, or lets it go on. What is held may
    /// still be captured: the work is done.
    ///
    /// # Errors
    /// `NotFound` if nobody defined the node.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn revoke(&self, node: BudgetPath, is_revoked: bool) -> Result<()> {
        self.write(move |tx| revoke(tx, &node, is_revoked)).await
    }

    /// Turns the kill switch: while it is on, nothing new is authorized anywhere.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn halt(&self, is_halted: bool, by: Principal) -> Result<()> {
        self.write(move |tx| halt(tx, is_halted, &by)).await
    }

    /// Makes a payee known to an organisation, as a first payment would.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn trust_payee(&self, node: BudgetPath, payee: String) -> Result<()> {
        self.write(move |tx| trust_payee(tx, &node, &payee)).await
    }

    /// Decides about an intent and holds the money, in one transaction.
    ///
    /// The decision is stored with everything it depended on. A denial and a question leave the
    /// key free; a hold is the answer to its key from then on.
    ///
    /// # Errors
    /// `Conflict` for a key used with another body, `Invalid` for a malformed intent, `NotFound`
    /// for a payee's account that is not open. A denial is not an error.
    ///
    /// # Cancel safety
    /// Atomic: after a lost answer repeat it with the same intent.
    pub async fn authorize(&self, intent: Intent) -> Result<Authorization> {
        let checked = hold::Checked::of(&intent)?;
        self.gather
            .ask(move |desk| hold::authorize_at(desk, &intent, &checked))
            .await
    }

    /// Holds more for a spend that goes on: a stream whose end is not known. `part` counts the
    /// top-ups from 1, so that repeating one is harmless.
    ///
    /// # Errors
    /// As [`Self::authorize`]; `Conflict` if the spend is over or the part is not the next.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn top_up(
        &self,
        key: IdempotencyKey,
        part: u32,
        amount: Amount,
    ) -> Result<Authorization> {
        let cache = Arc::clone(&self.cache);
        self.write(move |tx| top_up(tx, &cache, &key, part, amount))
            .await
    }

    /// Marks a spend as handed to a rail: from here on only its outcome ends it, not its expiry.
    /// Call it before the first byte goes out.
    ///
    /// # Errors
    /// `Conflict` if the spend is over or expired, `NotFound` for an unknown key.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn submit(&self, key: IdempotencyKey) -> Result<SpendHold> {
        self.gather
            .ask(move |desk| end::submit_at(desk, &key))
            .await
    }

    /// Posts what was spent and releases the rest.
    ///
    /// # Errors
    /// `Invalid` ([`crate::Error::ExceedsHold`]) for more than is held, `Conflict` if it is over in
    /// another way or expired, `NotFound` for an unknown key.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn capture(&self, key: IdempotencyKey, actual: Amount) -> Result<SpendHold> {
        self.gather
            .ask(move |desk| end::capture_at(desk, &key, actual))
            .await
    }

    /// Releases what is held. Releasing again is harmless.
    ///
    /// # Errors
    /// `Conflict` if it is captured, `NotFound` for an unknown key.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn release(&self, key: IdempotencyKey) -> Result<SpendHold> {
        self.gather
            .ask(move |desk| end::release_at(desk, &key))
            .await
    }

    /// Sets part of what was captured aside for a refund that a rail is to make. Call it before the
    /// rail: what is set aside is given back by nothing else, and after a crash it is known what to
    /// ask the rail about. Under a key used before it says how that refund stands.
    ///
    /// # Errors
    /// `Invalid` ([`crate::Error::ExceedsHold`]) for more than was captured and is neither given back
    /// nor set aside, `NotFound` for an unknown key, `Conflict` for a refund key used otherwise.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn submit_refund(
        &self,
        key: IdempotencyKey,
        refund_key: IdempotencyKey,
        amount: Amount,
    ) -> Result<Refund> {
        self.write(move |tx| submit_refund(tx, &key, &refund_key, amount))
            .await
    }

    /// Gives back part of what was captured: to the budgets, and to the purse where the ledger
    /// moved the money. Limits of a time stay used. Of a refund that was set aside at most as much,
    /// and the rest is free.
    ///
    /// # Errors
    /// As [`SqliteAuthority::submit_refund`], and `Exhausted` if the payee's account has too little,
    /// `Conflict` ([`crate::Error::Resolved`]) for a refund that failed.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn refund(
        &self,
        key: IdempotencyKey,
        refund_key: IdempotencyKey,
        amount: Amount,
    ) -> Result<SpendHold> {
        let refund = self.write(move |tx| refund(tx, &key, &refund_key, amount));
        Ok(refund.await?.spend)
    }

    /// Gives up a refund that was set aside: the rail says the money will not go back under this
    /// key. Giving it up again is harmless.
    ///
    /// # Errors
    /// `NotFound` for an unknown key, `Conflict` ([`crate::Error::Resolved`]) for one that is settled.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn fail_refund(&self, refund_key: IdempotencyKey) -> Result<Refund> {
        self.write(move |tx| fail_refund(tx, &refund_key)).await
    }

    /// Returns a refund.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn find_refund(&self, refund_key: IdempotencyKey) -> Result<Option<Refund>> {
        self.db.read(move |tx| find_refund(tx, &refund_key)).await
    }

    /// Returns the keys of at most `limit` refunds that were set aside and have no outcome yet.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn submitted_refunds(&self, limit: usize) -> Result<Vec<IdempotencyKey>> {
        self.db.read(move |tx| submitted_refunds(tx, limit)).await
    }

    /// Returns a spend.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn spend(&self, key: IdempotencyKey) -> Result<Option<SpendHold>> {
        self.db.read(move |tx| spend(tx, &key)).await
    }

    /// Returns the keys of at most `limit` spends that were handed to a rail and have no outcome
    /// yet, in the order they were submitted in.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn submitted(&self, limit: usize) -> Result<Vec<IdempotencyKey>> {
        self.db.read(move |tx| submitted(tx, limit)).await
    }

    /// Answers a request for approval.
    ///
    /// # Errors
    /// `NotFound` for an unknown digest, `Denied` ([`crate::Error::NotAnApprover`]) for somebody
    /// who may not, `Conflict` ([`crate::Error::ApprovalClosed`]) if it is decided or over.
    ///
    /// # Cancel safety
    /// Atomic; the same vote again is harmless.
    pub async fn vote(
        &self,
        digest: Digest,
        who: Principal,
        vote: Vote,
    ) -> Result<ApprovalRequest> {
        self.write(move |tx| approve::vote(tx, &digest, &who, vote))
            .await
    }

    /// Lists requests that wait for votes, a page of at most 1,000, in the order of their digests.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_requests(&self, after: Option<Digest>) -> Result<Vec<ApprovalRequest>> {
        self.db.read(move |tx| open_requests(tx, after)).await
    }

    /// Releases at most `limit` expired holds and takes what left rolling windows out of their
    /// sums; returns how many of both. Authorizing does a little of it too.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn sweep(&self, limit: usize) -> Result<usize> {
        self.write(move |tx| sweep(tx, limit)).await
    }

    /// Returns a stored decision.
    ///
    /// # Errors
    /// `NotFound`-like absence is `None`; `Corrupt` if it cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn decision(&self, id: u64) -> Result<Option<StoredDecision>> {
        self.db.read(move |tx| decision(tx, id)).await
    }
}
