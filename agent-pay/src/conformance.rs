//! The laws of a [`Ledger`], for every backend and layer. Unstable: laws may be added in any
//! release.
//!
//! [`ledger_conformance!`](crate::ledger_conformance) runs all of them against what a function
//! makes.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    clippy::cognitive_complexity,
    reason = "a law fails by panicking"
)]

mod budget;
mod ledger;
mod listing;
mod provision;
mod rail;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use agent_core::{Amount, Asset, IdempotencyKey, ManualClock, Timestamp};

use crate::account::{AccountName, Guard};
use crate::batch::{Batch, Entry};
use crate::ledger::Ledger;

pub use budget::*;
pub use ledger::*;
pub use listing::*;
pub use provision::*;
pub use rail::*;

/// An empty ledger to try the laws on.
#[non_exhaustive]
pub struct Subject {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The clock it reads.
    pub clock: Arc<ManualClock>,
    /// Keeps directories and servers alive.
    guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("ledger", &self.ledger)
            .field("guard", &(*self.guard).type_id())
            .finish_non_exhaustive()
    }
}

impl Subject {
    /// Takes an empty ledger, its clock and what must live as long as it.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<ManualClock>,
        guard: impl Any + Send + Sync,
    ) -> Self {
        Self {
            ledger,
            clock,
            guard: Box::new(guard),
        }
    }

    /// Opens the unguarded `bank` and `shop` and the guarded `purse` with `units`.
    async fn with_purse(self, units: i64) -> Self {
        let entries = vec![
            Entry::open(Asset::USD, name("bank"), Guard::Unguarded),
            Entry::open(Asset::USD, name("shop"), Guard::Unguarded),
            Entry::open(Asset::USD, name("purse"), Guard::DebitsMustNotExceedCredits),
            Entry::post(name("bank"), name("purse"), usd(units)),
        ];
        self.ledger
            .post(Batch::new(key("setup"), entries))
            .await
            .unwrap();
        self
    }
}

fn name(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

const fn usd(units: i64) -> Amount {
    Amount::from_units(units as i128, Asset::USD)
}

fn at(clock: &ManualClock, ms: u64) -> Timestamp {
    use agent_core::Clock;
    clock.now().after(std::time::Duration::from_millis(ms))
}

/// Runs every law of a ledger against what `$make` makes, a test each.
///
/// `$make` is an `async fn() -> Subject`; `tokio` must be a dependency of the test.
#[macro_export]
macro_rules! ledger_conformance {
    ($make:path) => {
        $crate::ledger_conformance! { @laws $make;
            batch_happens_whole_or_not_at_all
            same_key_and_body_get_the_same_answer
            same_key_with_another_body_is_a_conflict
            malformed_batches_are_refused
            guard_counts_posted_and_pending_debits
            capture_posts_its_part_and_frees_the_rest
            each_hold_of_a_set_can_be_captured_by_itself
            capture_beyond_the_hold_is_refused
            holds_are_resolved_once
            conflict_of_keys_names_the_difference
            pinned_refusal_uses_its_key_up
            deadline_counts_not_the_sweeper
            reversal_is_a_batch_of_its_own
            expired_holds_cannot_be_captured_and_are_released
            reversal_takes_back_no_more_than_was_posted
            balance_beyond_64_bits_is_refused
            ledgers_of_assets_are_apart
            accounts_are_listed_in_pages
            statements_follow_the_journal_in_pages
            journal_is_listed_in_pages
            exchange_moves_both_ledgers_or_neither
            exports_are_complete_and_close_at_the_balance
            racing_holds_never_exceed_the_credits
            journal_verifies_and_keeps_its_anchor
            budget_that_is_not_open_denies
            reservation_holds_on_every_level_or_on_none
            opening_again_keeps_the_budget
            limit_cannot_fall_below_what_is_taken
            settlement_posts_the_actual_and_frees_the_rest
            released_reservation_is_free
            charge_is_admitted_by_the_same_limits
            spending_is_listed_by_prefix
            limit_moves_between_budgets_and_creates_nothing
            allocation_plans_move_what_is_free
        }
    };
    (@laws $make:path; $($law:ident)+) => {
        $(
            #[tokio::test]
            async fn $law() {
                $crate::conformance::$law($make().await).await;
            }
        )+
    };
}
