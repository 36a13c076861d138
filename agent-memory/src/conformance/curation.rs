//! Curators of one store at the same time, and timelines: what is believed must not depend on the
//! backend.

use std::sync::Arc;

use agent_core::{Scope, Timestamp};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Subject, home, somebody};
use crate::curate::{Action, Applied, Curator};
use crate::extract::{Candidate, Cardinality, DeterministicExtractor, Slot};
use crate::timelines::{Timeline, Told, rules, score_in};
use crate::{
    Added, Change, Draft, Hit, Listing, Memory, MemoryId, MemoryStore, Namespace, Path, Query,
    Receipt, Relabel, Relation, Result, Selection, Walk,
};

type Shared = Curator<Arc<dyn MemoryStore>>;

/// What happens between the reading and the writing of a curator.
#[derive(Debug)]
enum Between {
    /// So many writers wait for one another, once.
    Meet(Barrier),
    /// Another curator applies this first, once.
    First(Box<Mutex<Option<(Shared, Candidate)>>>),
}

/// A store whose first writes come at a chosen moment.
#[derive(Debug)]
struct Meeting {
    inner: Arc<dyn MemoryStore>,
    between: Between,
    n_left: Mutex<usize>,
}

impl Meeting {
    fn of(inner: &Arc<dyn MemoryStore>, n: usize) -> Arc<dyn MemoryStore> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            between: Between::Meet(Barrier::new(n)),
            n_left: Mutex::new(n),
        })
    }

    fn after(subject: &Subject, candidate: Candidate) -> Arc<dyn MemoryStore> {
        let other = curator(subject, Arc::clone(&subject.store));
        Arc::new(Self {
            inner: Arc::clone(&subject.store),
            between: Between::First(Box::new(Mutex::new(Some((other, candidate))))),
            n_left: Mutex::new(1),
        })
    }

    async fn wait(&self) {
        let is_expected = {
            let mut n_left = self.n_left.lock();
            let is_expected = *n_left > 0;
            *n_left = n_left.saturating_sub(1);
            is_expected
        };
        match &self.between {
            Between::Meet(barrier) if is_expected => {
                barrier.wait().await;
            }
            Between::First(first) => {
                let first = first.lock().take();
                if let Some((other, candidate)) = first {
                    apply(&other, candidate).await;
                }
            }
            Between::Meet(_) => {}
        }
    }
}

#[async_trait]
impl MemoryStore for Meeting {
    async fn add(&self, scope: &Scope, at: Namespace, drafts: Vec<Draft>) -> Result<Vec<Added>> {
        self.wait().await;
        self.inner.add(scope, at, drafts).await
    }

    async fn get(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Memory> {
        self.inner.get(scope, at, id).await
    }

    async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>> {
        self.inner.search(scope, query).await
    }

    async fn retire(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        valid_to: Timestamp,
        reason: String,
    ) -> Result<()> {
        self.inner.retire(scope, at, id, valid_to, reason).await
    }

    async fn forget(
        &self,
        scope: &Scope,
        at: Namespace,
        what: Selection,
        reason: String,
    ) -> Result<Receipt> {
        self.inner.forget(scope, at, what, reason).await
    }

    async fn relate(&self, scope: &Scope, at: Namespace, relations: Vec<Relation>) -> Result<()> {
        self.inner.relate(scope, at, relations).await
    }

    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>> {
        self.inner.paths(scope, at, walk).await
    }

    async fn list(&self, scope: &Scope, at: Namespace, listing: Listing) -> Result<Vec<Memory>> {
        self.inner.list(scope, at, listing).await
    }

    async fn relabel(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        labels: Vec<(String, Relabel)>,
        reason: String,
    ) -> Result<()> {
        self.wait().await;
        self.inner.relabel(scope, at, id, labels, reason).await
    }

    async fn history(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Vec<Change>> {
        self.inner.history(scope, at, id).await
    }
}

fn curator(subject: &Subject, store: Arc<dyn MemoryStore>) -> Shared {
    let extractor = Arc::new(DeterministicExtractor::new());
    Curator::new(store, subject.bench.env.clone(), extractor)
}

fn slot() -> Slot {
    Slot::new("Ana", "home").expect("a slot")
}

fn day(n: u64) -> Timestamp {
    let start = Timestamp::from_unix_ms(1_700_000_000_000);
    start.after(std::time::Duration::from_secs(n * 86_400))
}

fn home_is(value: &str, said: u64) -> Candidate {
    Candidate::is(slot(), value, Cardinality::Single, day(said))
}

async fn apply(curator: &Shared, candidate: Candidate) -> Applied {
    let applied = curator.apply(&somebody(), &home(), vec![candidate]).await;
    applied.expect("a decision").remove(0)
}

/// What is believed on some days, an hour after what is said on them.
async fn held(subject: &Subject, days: impl IntoIterator<Item = u64>) -> Vec<String> {
    let curator = curator(subject, Arc::clone(&subject.store));
    let mut held = Vec::new();
    for n in days {
        let moment = day(n).after(std::time::Duration::from_secs(3_600));
        let entry = curator.value(&somebody(), &home(), &slot(), moment).await;
        let value = entry.expect("a belief or none").map(|entry| entry.value);
        held.push(value.unwrap_or_default());
    }
    held
}

/// Writers that all read before any of them wrote leave one record of the same fact.
pub async fn the_same_fact_from_many_writers_at_once_is_one_record(subject: Subject) {
    let mut events = Vec::new();
    for n in 0..8 {
        let event = Draft::event(format!("said {n}"));
        events.push(subject.put(&somebody(), &home(), event).await);
    }
    let store = Meeting::of(&subject.store, 8);
    let mut tasks = JoinSet::new();
    for event in events {
        let curator = curator(&subject, Arc::clone(&store));
        let candidate = home_is("Rome", 1).evident_from(event);
        tasks.spawn(async move { apply(&curator, candidate).await });
    }
    let all = tasks.join_all().await;
    let n_added = all.iter().filter(|a| a.decision.action == Action::Add);
    assert_eq!(n_added.count(), 1);
    assert_eq!(held(&subject, [1]).await, ["Rome"]);
    let listing = Listing::new().with_retired();
    let listed = subject.store.list(&somebody(), home(), listing).await;
    let records = listed.expect("a list").into_iter();
    assert_eq!(records.filter(|memory| memory.kind.is_record()).count(), 1);
}

/// Whoever comes first, the value said last holds, and no two at a time.
pub async fn contradictions_from_many_writers_at_once_leave_one_belief(subject: Subject) {
    let store = Meeting::of(&subject.store, 6);
    let mut tasks = JoinSet::new();
    for n in 0..6 {
        let curator = curator(&subject, Arc::clone(&store));
        tasks.spawn(async move { apply(&curator, home_is(&format!("Town {n}"), n + 1)).await });
    }
    tasks.join_all().await;
    let towns: Vec<String> = (0..6).map(|n| format!("Town {n}")).collect();
    assert_eq!(held(&subject, 1..7).await, towns);
    let listed = subject
        .store
        .list(&somebody(), home(), Listing::new())
        .await;
    assert_eq!(listed.expect("a list").len(), 1, "one holds at present");
}

/// A belief is said again at the moment at which an older statement that arrives late is written:
/// whoever is first, it holds again from when it was said again.
pub async fn a_confirmation_that_meets_a_late_statement_holds(subject: Subject) {
    let plain = curator(&subject, Arc::clone(&subject.store));
    apply(&plain, home_is("Rome", 10)).await;
    let late = curator(&subject, Meeting::after(&subject, home_is("Rome", 30)));
    apply(&late, home_is("Oslo", 20)).await;
    assert_eq!(held(&subject, [15, 25, 35]).await, ["Rome", "Oslo", "Rome"]);
    let again = curator(&subject, Meeting::after(&subject, home_is("Lima", 40)));
    apply(&again, home_is("Rome", 50)).await;
    assert_eq!(held(&subject, [35, 45, 55]).await, ["Rome", "Lima", "Rome"]);
}

/// Of two that say a belief again at once, the later counts, whoever writes last.
pub async fn of_two_confirmations_at_once_the_later_counts(subject: Subject) {
    let plain = curator(&subject, Arc::clone(&subject.store));
    apply(&plain, home_is("Rome", 10)).await;
    let earlier = curator(&subject, Meeting::after(&subject, home_is("Rome", 40)));
    apply(&earlier, home_is("Rome", 20)).await;
    apply(&plain, home_is("Oslo", 30)).await;
    assert_eq!(held(&subject, [15, 35, 45]).await, ["Rome", "Oslo", "Rome"]);
}

/// Facts that change, are taken back, told late and erased leave the right belief at every moment.
pub async fn typed_timelines_leave_the_right_belief_at_every_moment(subject: Subject) {
    for seed in 0..6 {
        let at = Namespace::new(&format!("timeline/{seed}")).expect("a path");
        let timeline = Timeline::generate(seed);
        let store = Arc::clone(&subject.store);
        let score = score_in(store, &subject.bench, at, &timeline, Told::Typed, rules()).await;
        let score = score.expect("a score");
        assert_eq!(score.n_moments_right, score.n_moments, "timeline {seed}");
        assert_eq!((score.n_right, score.n_stale), (score.n_expected, 0));
        assert_eq!(score.n_duplicates, 0);
    }
}
