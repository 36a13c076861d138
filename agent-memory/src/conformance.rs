//! The laws of [`crate::MemoryStore`], for every backend. Unstable: laws are added in any release.
//!
//! A backend's test gives [`memory_conformance!`](crate::memory_conformance) a function that makes
//! an empty store on a [`Bench`]'s clock and embedder, with whatever must be kept alive beside it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::cognitive_complexity,
    reason = "a law fails by panicking, and tells one story in one function"
)]

mod curation;
mod erasure;
mod graph;
mod isolation;
mod labels;
pub mod portable;
mod search;
mod time;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    Embedder, Env, ManualClock, Principal, Scope, SeededEntropy, Timestamp, TokenVectors,
};
use async_trait::async_trait;

use crate::{Draft, Hit, MemoryStore, Namespace, Query};

pub use curation::*;
pub use erasure::*;
pub use graph::*;
pub use isolation::*;
pub use labels::*;
pub use search::*;
pub use time::*;
pub use writes::*;

/// The moment every bench starts at: 2026-01-01.
const START: Timestamp = Timestamp::from_unix_ms(1_767_225_600_000);

/// What a store under test is built on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bench {
    /// The clock and entropy to use; both are repeatable.
    pub env: Env,
    /// The clock of `env`, for moving it.
    pub clock: Arc<ManualClock>,
    /// The embedder to use.
    pub embedder: Arc<dyn Embedder>,
}

impl Bench {
    /// Creates a bench: the clock stands still, ids are repeatable, texts are embedded by their
    /// letters.
    #[must_use]
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::new(START));
        Self {
            env: Env::new(
                Arc::<ManualClock>::clone(&clock),
                Arc::new(SeededEntropy::new(1)),
            ),
            clock,
            embedder: Arc::new(Letters),
        }
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// Embeds texts by how often they have each pair of neighbouring letters; a text that contains
/// `!nan`, `!short` or `!few` breaks the embedder's contract in that way.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Letters;

impl Letters {
    const DIMENSIONS: usize = 48;
}

#[async_trait]
impl Embedder for Letters {
    fn space(&self) -> &str {
        "letters@1"
    }

    fn dimensions(&self) -> usize {
        Self::DIMENSIONS
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        None
    }

    async fn embed(&self, _scope: &Scope, texts: &[String]) -> agent_core::Result<Vec<Vec<f32>>> {
        let vector = |text: &String| {
            let mut vector = vec![0.0_f32; Self::DIMENSIONS];
            for pair in text.as_bytes().windows(2) {
                let place = pair.iter().fold(7_usize, |h, b| h * 31 + usize::from(*b));
                if let Some(x) = vector.get_mut(place % Self::DIMENSIONS) {
                    *x += 1.0;
                }
            }
            if text.contains("!nan") {
                vector.fill(f32::NAN);
            }
            if text.contains("!short") {
                vector.pop();
            }
            vector
        };
        let n_kept = texts.iter().filter(|text| !text.contains("!few")).count();
        Ok(texts.iter().map(vector).take(n_kept).collect())
    }
}

/// A store under test and what it is built on.
#[derive(Clone)]
#[non_exhaustive]
pub struct Subject {
    /// The store.
    pub store: Arc<dyn MemoryStore>,
    /// What it is built on.
    pub bench: Bench,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Subject {
    /// Wraps an empty store.
    #[must_use]
    pub fn new(store: Arc<dyn MemoryStore>, bench: Bench) -> Self {
        Self { store, bench }
    }

    async fn found(&self, scope: &Scope, query: Query) -> Vec<Hit> {
        self.store.search(scope, query).await.expect("a search")
    }

    async fn texts(&self, scope: &Scope, query: Query) -> Vec<String> {
        let hits = self.found(scope, query).await;
        hits.into_iter().map(|hit| hit.memory.text).collect()
    }

    async fn put(&self, scope: &Scope, at: &Namespace, draft: Draft) -> crate::MemoryId {
        let added = self.store.add(scope, at.clone(), vec![draft]).await;
        added
            .expect("an added draft")
            .first()
            .expect("one answer")
            .id
    }
}

fn somebody() -> Scope {
    Scope::new(Principal::host())
}

fn home() -> Namespace {
    Namespace::new("fleet/pool/agent").expect("a valid path")
}

/// What a function that makes a store returns: the store and a guard, or `None` where the server it
/// needs is not on this machine; the function prints that the law is skipped, and why.
pub trait Made<S: ?Sized> {
    /// What is kept until the law has ended.
    type Guard;

    /// Returns what was made.
    fn made(self) -> Option<(Arc<S>, Self::Guard)>;
}

impl<S: ?Sized, G> Made<S> for (Arc<S>, G) {
    type Guard = G;

    fn made(self) -> Option<(Arc<S>, G)> {
        Some(self)
    }
}

impl<S: ?Sized, G> Made<S> for Option<(Arc<S>, G)> {
    type Guard = G;

    fn made(self) -> Self {
        self
    }
}

/// Runs every law on a backend. `$make` is an async function from a [`Bench`](crate::conformance::Bench)
/// to an empty store, `Arc<dyn MemoryStore>`, and a guard that is kept until the law has ended; see
/// [`Made`](crate::conformance::Made).
#[macro_export]
macro_rules! memory_conformance {
    ($make:path) => {
        $crate::memory_conformance!(@laws $make,
            added_memories_are_returned_as_given,
            a_batch_is_added_whole_or_not_at_all,
            a_repeated_key_adds_nothing,
            a_scope_key_covers_a_batch,
            hostile_drafts_are_refused,
            a_broken_embedder_changes_nothing,
            a_stopped_scope_changes_nothing,
            a_record_ends_once_and_keeps_its_history,
            a_successor_ends_the_record_it_replaces,
            events_are_immutable,
            late_knowledge_comes_between_a_record_and_its_successor,
            labels_change_with_a_reason,
            a_count_of_many_writers_is_their_sum,
            a_held_memory_cannot_be_erased,
            quarantined_memories_are_left_out,
            pages_list_every_memory_once,
            a_slot_lists_what_fills_it,
            partitions_never_see_one_another,
            hostile_scopes_are_refused,
            a_union_of_namespaces_is_explicit,
            words_and_meaning_find_a_memory,
            a_score_is_the_sum_of_its_explanation,
            equal_scores_come_newest_first,
            filters_hold_for_every_hit,
            query_syntax_is_plain_text,
            hostile_queries_are_refused,
            a_thread_lends_its_context,
            entities_in_the_question_count,
            recency_counts_if_asked_for,
            a_named_month_counts,
            relations_are_walked_by_the_shortest_path,
            relations_need_their_ends,
            forgetting_takes_what_was_derived,
            forgetting_an_entity_takes_what_is_about_it,
            forgetting_all_leaves_nothing,
            an_erased_key_does_not_come_back,
            a_question_as_of_a_moment_sees_what_was_believed,
            an_end_that_moved_is_believed_as_known,
            relations_are_walked_as_of_a_moment,
            erasure_reaches_into_the_past,
            a_successor_can_ask_for_unchanged_labels,
            a_raised_label_never_falls,
            the_same_fact_from_many_writers_at_once_is_one_record,
            contradictions_from_many_writers_at_once_leave_one_belief,
            a_confirmation_that_meets_a_late_statement_holds,
            of_two_confirmations_at_once_the_later_counts,
            typed_timelines_leave_the_right_belief_at_every_moment,
        );
    };
    (@laws $make:path, $($law:ident,)*) => {
        $(
            #[tokio::test]
            async fn $law() {
                let bench = $crate::conformance::Bench::new();
                let made = $make(bench.clone()).await;
                let Some((store, _guard)) = $crate::conformance::Made::made(made) else { return };
                let subject = $crate::conformance::Subject::new(store, bench);
                $crate::conformance::$law(subject).await;
            }
        )*
    };
}

/// Runs the laws of [`Portable`](crate::portable::Portable). `$old` and `$new` are async functions
/// from a [`Bench`](crate::conformance::Bench) to an empty store, `Arc<dyn Portable>`, and a guard;
/// they may be of two backends.
#[macro_export]
macro_rules! portable_conformance {
    ($old:path, $new:path) => {
        $crate::portable_conformance!(@laws $old, $new,
            a_copy_is_the_same,
            a_copy_without_vectors_answers_the_same,
            taking_does_not_undo_an_erasure,
            items_are_taken_whole_or_not_at_all,
        );
    };
    (@laws $old:path, $new:path, $($law:ident,)*) => {
        $(
            #[tokio::test]
            async fn $law() {
                let bench = $crate::conformance::Bench::new();
                let old = $old(bench.clone()).await;
                let Some((old, _guard)) = $crate::conformance::Made::made(old) else { return };
                let new = $new($crate::conformance::Bench::new()).await;
                let Some((new, _other)) = $crate::conformance::Made::made(new) else { return };
                $crate::conformance::portable::$law(old, new, bench).await;
            }
        )*
    };
}
