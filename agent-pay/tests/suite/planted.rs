//! Bugs planted in a ledger: each makes the law fail that speaks of it. A law that passes with its
//! bug would say nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_core::{Asset, Env, IdempotencyKey, ManualClock, SeededEntropy, Timestamp};
use agent_pay::backend::InMemoryLedger;
use agent_pay::conformance::{self as law, Subject};
use agent_pay::{
    Account, AccountQuery, Anchor, Batch, Entry, Error, Found, Guard, JournalQuery, Ledger,
    Receipt, Resolution, Result, State, StatementQuery, Transfer, TrialBalance, Verified,
    journal::Journaled,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A batch that is refused has its first entry posted.
    PostsHalf,
    /// Every call has a key of its own.
    ForgetsKeys,
    /// Another body under a key gets the old answer.
    IgnoresBodies,
    /// Guards are not kept.
    OpensUnguarded,
    /// A capture takes all that is held.
    CapturesAll,
    /// A capture of more than is held takes what there is.
    ClampsCaptures,
    /// The first amount counts for every hold of a set.
    CapturesAlike,
    /// A hold that is resolved says yes to everything.
    ResolvesTwice,
    /// Deadlines are dropped.
    NeverExpires,
    /// Only a sweep ends a hold.
    WaitsForSweeper,
    /// Refusals are not pinned.
    ForgetsRefusals,
    /// Two assets are one.
    MixesAssets,
    /// Pages of accounts end one too early.
    CutsAccounts,
    /// A statement shows one side.
    CutsStatements,
    /// Whatever the anchor, it verifies.
    VerifiesAnything,
    /// What is taken back is paid back: both sums grow.
    PostsReversals,
    /// A sum that does not fit is left as it is, and nobody hears of it.
    SwallowsOverflows,
    /// Every page but the first begins one too late.
    BeginsPagesLate,
    /// An account nobody opened is opened without a limit.
    OpensWhatIsMissing,
}

#[derive(Debug)]
struct Planted {
    inner: InMemoryLedger,
    bug: Bug,
    n_calls: AtomicU64,
}

impl Planted {
    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn spoil(&self, mut batch: Batch) -> Batch {
        if self.is(Bug::ForgetsKeys) {
            let n = self.n_calls.fetch_add(1, Ordering::Relaxed);
            let key = format!("{}/{n}", batch.key.as_str());
            batch.key = IdempotencyKey::new(key).unwrap();
        }
        if self.is(Bug::NeverExpires) {
            batch.expires_at = None;
        }
        if self.is(Bug::ForgetsRefusals) {
            batch.pins_refusal = false;
        }
        for entry in &mut batch.entries {
            match entry {
                Entry::Open { guard, .. } if self.is(Bug::OpensUnguarded) => {
                    *guard = Guard::Unguarded;
                }
                Entry::Reverse {
                    debit,
                    credit,
                    amount,
                    ..
                } if self.is(Bug::PostsReversals) => {
                    *entry = Entry::post(credit.clone(), debit.clone(), *amount);
                }
                Entry::Open { asset, .. } if self.is(Bug::MixesAssets) => *asset = Asset::USD,
                Entry::Post { amount, .. } if self.is(Bug::MixesAssets) => {
                    *amount = agent_core::Amount::from_units(amount.units(), Asset::USD);
                }
                _ => {}
            }
        }
        batch
    }
}

#[async_trait::async_trait]
impl Ledger for Planted {
    async fn post(&self, batch: Batch) -> Result<Receipt> {
        let batch = self.spoil(batch);
        let posted = self.inner.post(batch.clone()).await;
        match posted {
            Err(Error::Insufficient(_)) if self.is(Bug::PostsHalf) => {
                let first = batch.entries.first().cloned().into_iter().collect();
                let half = Batch::new(batch.key.clone(), first);
                drop(self.inner.post(half).await);
                posted
            }
            Err(Error::KeyReused { .. }) if self.is(Bug::IgnoresBodies) => {
                Ok(self.inner.find(batch.key).await?.unwrap().receipt)
            }
            Err(Error::Overflow { .. }) if self.is(Bug::SwallowsOverflows) => {
                self.inner.post(Batch::new(batch.key, Vec::new())).await
            }
            Err(Error::AccountNotFound { asset, account, .. })
                if self.is(Bug::OpensWhatIsMissing) =>
            {
                let key = IdempotencyKey::new(format!("open/{account}")).unwrap();
                let open = Entry::open(asset, account, Guard::Unguarded);
                self.inner.post(Batch::new(key, vec![open])).await?;
                self.post(batch).await
            }
            other => other,
        }
    }

    async fn resolve(&self, key: IdempotencyKey, resolution: Resolution) -> Result<Receipt> {
        let found = self.inner.find(key.clone()).await?;
        let held = found.and_then(|found| Some(found.receipt.transfers.first()?.amount));
        let resolution = match (resolution, held) {
            (Resolution::Capture(_), Some(held)) if self.is(Bug::CapturesAll) => {
                Resolution::Capture(held)
            }
            (Resolution::Capture(asked), Some(held))
                if self.is(Bug::ClampsCaptures) && asked.units() > held.units() =>
            {
                Resolution::Capture(held)
            }
            (Resolution::CaptureEach(mut amounts), _) if self.is(Bug::CapturesAlike) => {
                if let Some(first) = amounts.first().copied() {
                    amounts.fill(first);
                }
                Resolution::CaptureEach(amounts)
            }
            (other, _) => other,
        };
        match self.inner.resolve(key.clone(), resolution).await {
            Err(Error::Resolved { .. }) if self.is(Bug::ResolvesTwice) => {
                let found = self.inner.find(key).await?.unwrap();
                Ok(found.resolution.unwrap_or(found.receipt))
            }
            other => other,
        }
    }

    async fn find(&self, key: IdempotencyKey) -> Result<Option<Found>> {
        let mut found = self.inner.find(key).await?;
        if let Some(found) = &mut found
            && self.is(Bug::WaitsForSweeper)
            && found.state == State::Expired
            && found.resolution.is_none()
        {
            found.state = State::Pending;
        }
        Ok(found)
    }

    async fn accounts(&self, query: AccountQuery) -> Result<Vec<Account>> {
        let is_late = self.is(Bug::BeginsPagesLate) && query.after.is_some();
        let accounts = self.inner.accounts(query).await?.into_iter();
        let mut accounts: Vec<_> = accounts.skip(usize::from(is_late)).collect();
        if self.is(Bug::CutsAccounts) && accounts.len() > 1 {
            accounts.pop();
        }
        Ok(accounts)
    }

    async fn statement(&self, query: StatementQuery) -> Result<Vec<Transfer>> {
        let account = query.account.clone();
        let mut transfers = self.inner.statement(query).await?;
        if self.is(Bug::CutsStatements) {
            transfers.retain(|transfer| transfer.debit == account);
        }
        Ok(transfers)
    }

    async fn journal(&self, query: JournalQuery) -> Result<Vec<Journaled>> {
        let is_late = self.is(Bug::BeginsPagesLate) && query.after > 0;
        let page = self.inner.journal(query).await?.into_iter();
        Ok(page.skip(usize::from(is_late)).collect())
    }

    async fn trial_balance(&self) -> Result<Vec<TrialBalance>> {
        self.inner.trial_balance().await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Receipt>> {
        self.inner.expire(limit).await
    }

    async fn verify(&self, anchor: Option<Anchor>) -> Result<Verified> {
        let anchor = anchor.filter(|_| !self.is(Bug::VerifiesAnything));
        self.inner.verify(anchor).await
    }
}

fn subject(bug: Bug) -> Subject {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_000_000)));
    let shared: Arc<dyn agent_core::Clock> = Arc::<ManualClock>::clone(&clock);
    let env = Env::new(shared, Arc::new(SeededEntropy::new(1)));
    let ledger = Planted {
        inner: InMemoryLedger::new(&env),
        bug,
        n_calls: AtomicU64::new(0),
    };
    Subject::new(Arc::new(ledger), clock, ())
}

macro_rules! fails_with {
    ($($law:ident: $bug:ident,)+) => {
        $(
            #[tokio::test]
            #[should_panic(expected = "")]
            async fn $law() {
                law::$law(subject(Bug::$bug)).await;
            }
        )+
    };
}

fails_with! {
    batch_happens_whole_or_not_at_all: PostsHalf,
    same_key_and_body_get_the_same_answer: ForgetsKeys,
    same_key_with_another_body_is_a_conflict: IgnoresBodies,
    conflict_of_keys_names_the_difference: IgnoresBodies,
    guard_counts_posted_and_pending_debits: OpensUnguarded,
    racing_holds_never_exceed_the_credits: OpensUnguarded,
    reversal_takes_back_no_more_than_was_posted: OpensUnguarded,
    capture_posts_its_part_and_frees_the_rest: CapturesAll,
    settlement_posts_the_actual_and_frees_the_rest: CapturesAll,
    capture_beyond_the_hold_is_refused: ClampsCaptures,
    each_hold_of_a_set_can_be_captured_by_itself: CapturesAlike,
    holds_are_resolved_once: ResolvesTwice,
    expired_holds_cannot_be_captured_and_are_released: NeverExpires,
    malformed_batches_are_refused: NeverExpires,
    deadline_counts_not_the_sweeper: WaitsForSweeper,
    pinned_refusal_uses_its_key_up: ForgetsRefusals,
    ledgers_of_assets_are_apart: MixesAssets,
    exchange_moves_both_ledgers_or_neither: MixesAssets,
    spending_is_listed_by_prefix: CutsAccounts,
    statements_follow_the_journal_in_pages: CutsStatements,
    exports_are_complete_and_close_at_the_balance: CutsStatements,
    journal_verifies_and_keeps_its_anchor: VerifiesAnything,
    reservation_holds_on_every_level_or_on_none: OpensUnguarded,
    limit_cannot_fall_below_what_is_taken: OpensUnguarded,
    released_reservation_is_free: NeverExpires,
    charge_is_admitted_by_the_same_limits: OpensUnguarded,
    limit_moves_between_budgets_and_creates_nothing: OpensUnguarded,
    reversal_is_a_batch_of_its_own: PostsReversals,
    balance_beyond_64_bits_is_refused: SwallowsOverflows,
    accounts_are_listed_in_pages: BeginsPagesLate,
    journal_is_listed_in_pages: BeginsPagesLate,
    budget_that_is_not_open_denies: OpensWhatIsMissing,
    opening_again_keeps_the_budget: ForgetsKeys,
    allocation_plans_move_what_is_free: ForgetsKeys,
}
