//! A spend authority with a bug, to see that its laws find it.
//!
//! What has no bug of its own goes to the real one by `Deref`, so that without a bug the two are the
//! same.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{Amount, Digest, IdempotencyKey, Principal, Timestamp};
use agent_pay::authority::{
    ApprovalRequest, Authorization, Calendar, FirstPayee, Intent, Limit, Measure, Origin, Period,
    Policy, PolicyBook, PriceBasis, SpendHold, Vote, Window,
};
use agent_pay::backend::SqliteAuthority;
use agent_pay::{BudgetPath, Error, Result};
use parking_lot::Mutex;

use super::{op, who};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Nobody has to ask.
    ForgetsThresholds,
    /// Limits below the organisation do not count.
    LimitsTheRootOnly,
    /// The node above pays.
    ChargesParents,
    /// A price nobody knows is believed.
    BelievesPrices,
    /// A payee a model named is believed.
    BelievesNames,
    /// Lists of what is allowed are not read.
    IgnoresLists,
    /// Every payee was paid before.
    KnowsEveryPayee,
    /// A node that is stopped goes on.
    ForgetsRevocations,
    /// The kill switch is not connected.
    ForgetsHalts,
    /// A delegated node may be as wide as it likes.
    DelegatesAnything,
    /// An error of a policy does not say where.
    ForgetsLines,
    /// A top-up that is repeated is another one.
    CountsTopUpsAgain,
    /// A refund that is repeated is another one.
    RefundsAgain,
    /// A refund of more than there is gives what there is.
    ClampsRefunds,
    /// A hold lasts for days.
    NeverExpires,
    /// A hold lasts for a minute.
    ExpiresEarly,
    /// What was handed to a rail expires like the rest.
    ForgetsSubmissions,
    /// Every call has a key of its own.
    ForgetsKeys,
    /// A key stands for what it was used for first, whatever comes with it.
    LooksAtKeysOnly,
    /// All steps of a run are one.
    IgnoresSteps,
    /// An answer that is an error is kept.
    KeepsErrors,
    /// Days begin at midnight in London.
    CountsInUtc,
    /// A rolling window begins at midnight.
    FixesWindows,
    /// How often is not counted.
    IgnoresCounts,
    /// What was released counts on.
    KeepsReleased,
    /// A policy stays as it was set first.
    KeepsFirstPolicies,
    /// One approver is as good as two.
    OneIsEnough,
    /// Whoever votes, it counts.
    LetsAnybodyVote,
    /// A refusal is taken for an approval.
    ApprovesRefusals,
    /// An approval is good for days.
    ApprovalsLast,
    /// Requests are not listed.
    ForgetsRequests,
    /// Where nobody is named, somebody is asked.
    AsksStrangers,
}

/// A limit as one with the bug reads it.
pub(crate) fn limit(bug: Option<Bug>, mut limit: Limit) -> Limit {
    match &mut limit.window {
        Window::Calendar(calendar) => *calendar = self::calendar(bug, *calendar),
        Window::Rolling(_) if bug == Some(Bug::FixesWindows) => {
            limit.window = Window::Calendar(Calendar::utc(Period::Day));
        }
        _ => {}
    }
    limit
}

/// A calendar as one with the bug reads it.
pub(crate) fn calendar(bug: Option<Bug>, calendar: Calendar) -> Calendar {
    if bug == Some(Bug::CountsInUtc) {
        return Calendar::utc(calendar.period);
    }
    calendar
}

#[derive(Debug)]
pub(crate) struct Planted {
    pub(super) inner: SqliteAuthority,
    pub(super) bug: Option<Bug>,
    n_calls: AtomicU32,
    /// What was set last.
    book: Mutex<PolicyBook>,
    first: Mutex<BTreeMap<IdempotencyKey, Intent>>,
}

impl Deref for Planted {
    type Target = SqliteAuthority;

    fn deref(&self) -> &SqliteAuthority {
        &self.inner
    }
}

impl Planted {
    pub(super) fn new(inner: SqliteAuthority, bug: Option<Bug>) -> Self {
        Self {
            inner,
            bug,
            n_calls: AtomicU32::new(0),
            book: Mutex::default(),
            first: Mutex::default(),
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Counts calls from 1.
    fn call(&self) -> u32 {
        self.n_calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn key(&self, bug: Bug, key: IdempotencyKey) -> IdempotencyKey {
        if self.is(bug) {
            return op(&format!("{}/{}", key.as_str(), self.call()));
        }
        key
    }

    fn policy(&self, node: &BudgetPath, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        for limit in &mut policy.limits {
            *limit = self::limit(self.bug, *limit);
        }
        match self.bug {
            Some(Bug::ForgetsThresholds) => policy.alone_up_to = None,
            Some(Bug::LimitsTheRootOnly) if node.parent().is_some() => policy.limits.clear(),
            Some(Bug::IgnoresLists) => {
                policy.payees.clear();
                policy.categories.clear();
                policy.rails.clear();
                policy.assets.clear();
            }
            Some(Bug::KnowsEveryPayee) => policy.first_payee = Some(FirstPayee::Allow),
            Some(Bug::IgnoresCounts) => {
                let is_amount = |limit: &Limit| matches!(limit.measure, Measure::Amount(_));
                policy.limits.retain(is_amount);
            }
            Some(Bug::OneIsEnough) => policy.quorum = policy.quorum.and(Some(1)),
            Some(Bug::ApprovalsLast) => policy.approval_seconds = Some(86_400),
            Some(Bug::AsksStrangers) => policy.approvers.push(who("human:stranger")),
            _ => {}
        }
        policy
    }

    pub(crate) async fn apply(&self, book: PolicyBook, by: Principal) -> Result<()> {
        if self.is(Bug::KeepsFirstPolicies) && self.call() > 1 {
            return Ok(());
        }
        *self.book.lock() = book.clone();
        let spoilt = book
            .nodes()
            .try_fold(PolicyBook::new(), |spoilt, (node, policy)| {
                spoilt.with(node.clone(), self.policy(node, policy))
            });
        self.inner.apply(spoilt.unwrap(), by).await
    }

    pub(crate) async fn delegate(
        &self,
        node: BudgetPath,
        policy: Policy,
        by: Principal,
    ) -> Result<()> {
        if self.is(Bug::DelegatesAnything) {
            let book = self.book.lock().clone().with(node, policy).unwrap();
            return self.inner.apply(book, by).await;
        }
        self.inner.delegate(node, policy, by).await
    }

    pub(crate) async fn revoke(&self, node: BudgetPath, is_revoked: bool) -> Result<()> {
        let is_revoked = is_revoked && !self.is(Bug::ForgetsRevocations);
        self.inner.revoke(node, is_revoked).await
    }

    pub(crate) async fn halt(&self, is_halted: bool, by: Principal) -> Result<()> {
        let is_halted = is_halted && !self.is(Bug::ForgetsHalts);
        self.inner.halt(is_halted, by).await
    }

    pub(crate) async fn authorize(&self, mut intent: Intent) -> Result<Authorization> {
        let shift = |at: Timestamp, by_ms| Timestamp::from_unix_ms(at.as_unix_ms() + by_ms);
        match self.bug {
            Some(Bug::BelievesPrices) => intent.basis = PriceBasis::RateCard,
            Some(Bug::BelievesNames) => intent.payee.origin = Origin::Catalogue,
            Some(Bug::ChargesParents) => {
                intent.node = intent.node.parent().unwrap_or(intent.node);
            }
            Some(Bug::NeverExpires) => intent.expires_at = shift(intent.expires_at, 864_000_000),
            Some(Bug::ExpiresEarly) => intent.expires_at = shift(intent.expires_at, -3_540_000),
            Some(Bug::LooksAtKeysOnly) => {
                let mut first = self.first.lock();
                intent = first.entry(intent.key.clone()).or_insert(intent).clone();
            }
            _ => {}
        }
        intent.key = self.key(Bug::ForgetsKeys, intent.key);
        self.inner.authorize(intent).await
    }

    pub(crate) async fn top_up(
        &self,
        key: IdempotencyKey,
        part: u32,
        amount: Amount,
    ) -> Result<Authorization> {
        let part = if self.is(Bug::CountsTopUpsAgain) {
            self.call()
        } else {
            part
        };
        self.inner.top_up(key, part, amount).await
    }

    async fn known(&self, key: IdempotencyKey) -> Result<SpendHold> {
        Ok(self.inner.spend(key).await?.unwrap())
    }

    pub(crate) async fn submit(&self, key: IdempotencyKey) -> Result<SpendHold> {
        if self.is(Bug::ForgetsSubmissions) {
            return self.known(key).await;
        }
        self.inner.submit(key).await
    }

    pub(crate) async fn release(&self, key: IdempotencyKey) -> Result<SpendHold> {
        if self.is(Bug::KeepsReleased) {
            return self.known(key).await;
        }
        self.inner.release(key).await
    }

    pub(crate) async fn refund(
        &self,
        key: IdempotencyKey,
        refund_key: IdempotencyKey,
        amount: Amount,
    ) -> Result<SpendHold> {
        let refund_key = self.key(Bug::RefundsAgain, refund_key);
        let refunded = self.inner.refund(key.clone(), refund_key.clone(), amount);
        match refunded.await {
            Err(Error::ExceedsHold { held, .. }) if self.is(Bug::ClampsRefunds) => {
                self.inner.refund(key, refund_key, held).await
            }
            other => other,
        }
    }

    pub(crate) async fn vote(
        &self,
        digest: Digest,
        voter: Principal,
        vote: Vote,
    ) -> Result<ApprovalRequest> {
        let vote = if self.is(Bug::ApprovesRefusals) {
            Vote::Approve
        } else {
            vote
        };
        match self.inner.vote(digest, voter, vote).await {
            Err(Error::NotAnApprover { .. }) if self.is(Bug::LetsAnybodyVote) => {
                self.inner.vote(digest, who("human:bob"), vote).await
            }
            other => other,
        }
    }

    pub(crate) async fn open_requests(
        &self,
        after: Option<Digest>,
    ) -> Result<Vec<ApprovalRequest>> {
        let mut requests = self.inner.open_requests(after).await?;
        requests.retain(|_| !self.is(Bug::ForgetsRequests));
        Ok(requests)
    }
}
