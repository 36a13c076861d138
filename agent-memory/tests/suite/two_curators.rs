//! Curators on two stores of one file, each with indexes of its own, that write at the same time.

#![expect(clippy::unwrap_used, clippy::clone_on_ref_ptr, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Embedder, Principal, Scope, Timestamp, TokenVectors};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::conformance::Bench;
use agent_memory::curate::{Action, Applied, Curator};
use agent_memory::extract::{Candidate, Cardinality, DeterministicExtractor, Slot};
use agent_memory::{Draft, MemoryStore, Namespace};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Barrier;

type Shared = Curator<Arc<dyn MemoryStore>>;

fn scope() -> Scope {
    Scope::new(Principal::host())
}

fn home() -> Namespace {
    Namespace::new("ana").unwrap()
}

fn curator(bench: &Bench, store: Arc<dyn MemoryStore>) -> Shared {
    let extractor = Arc::new(DeterministicExtractor::new());
    Curator::new(store, bench.env.clone(), extractor).with_embedder(bench.embedder.clone())
}

/// Two stores in one file, each with indexes of its own.
async fn sqlite(bench: &Bench, dir: &TempDir) -> [Arc<dyn MemoryStore>; 2] {
    let config = StoreConfig::new(dir.path().join("store.db"));
    let db = Db::open(config.with_durability(Durability::Nothing), &bench.env)
        .await
        .unwrap();
    let open = || {
        Sqlite::open(
            db.clone(),
            bench.env.clone(),
            bench.embedder.clone(),
            Config::new(),
        )
    };
    let (first, second) = (open().await.unwrap(), open().await.unwrap());
    [Arc::new(first), Arc::new(second)]
}

/// Lets writers meet: each of the next `n` texts is embedded when all of them are there. A store embeds
/// what is added after the curator read and before anything is written.
#[derive(Debug)]
struct Meeting {
    inner: Arc<dyn Embedder>,
    expected: AtomicUsize,
    barrier: Barrier,
}

impl Meeting {
    fn of(inner: &Arc<dyn Embedder>, n: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            expected: AtomicUsize::new(0),
            barrier: Barrier::new(n),
        })
    }

    fn expect(&self, n: usize) {
        self.expected.store(n, Ordering::SeqCst);
    }
}

#[async_trait]
impl Embedder for Meeting {
    fn space(&self) -> &str {
        self.inner.space()
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        self.inner.token_vectors()
    }

    async fn embed(&self, scope: &Scope, texts: &[String]) -> agent_core::Result<Vec<Vec<f32>>> {
        let one_less = |n: usize| n.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.expected.fetch_update(order, order, one_less).is_ok() {
            self.barrier.wait().await;
        }
        self.inner.embed(scope, texts).await
    }
}

async fn profile(curator: &Shared) -> Vec<String> {
    let entries = curator.profile(&scope(), &home(), "Ana").await.unwrap();
    let show = |e: agent_memory::curate::Entry| format!("{} = {}", e.slot.attribute, e.value);
    entries.into_iter().map(show).collect()
}

fn day(n: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000).after(Duration::from_secs(n * 86_400))
}

fn home_is(value: &str, said: u64) -> Candidate {
    let slot = Slot::new("Ana", "home").unwrap();
    Candidate::is(slot, value, Cardinality::Single, day(said))
}

async fn apply(curator: &Shared, candidate: Candidate) -> Applied {
    let applied = curator.apply(&scope(), &home(), vec![candidate]).await;
    applied.unwrap().remove(0)
}

async fn home_at(curator: &Shared, n: u64) -> Option<String> {
    let slot = Slot::new("Ana", "home").unwrap();
    let at = day(n).after(Duration::from_secs(1));
    let entry = curator.value(&scope(), &home(), &slot, at).await.unwrap();
    entry.map(|entry| entry.value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_fact_from_two_stores_at_once_is_one_record() {
    let (mut bench, dir) = (Bench::new(), TempDir::new().unwrap());
    let (plain, meeting) = (bench.embedder.clone(), Meeting::of(&bench.embedder, 8));
    bench.embedder = meeting.clone();
    let stores = sqlite(&bench, &dir).await;
    bench.embedder = plain;
    let mut events = Vec::new();
    for n in 0..8 {
        let draft = Draft::event(format!("said {n}"));
        let added = stores[0].add(&scope(), home(), vec![draft]).await;
        events.push(added.unwrap()[0].id);
    }
    meeting.expect(8);
    let mut tasks = tokio::task::JoinSet::new();
    for (n, event) in events.into_iter().enumerate() {
        let curator = curator(&bench, stores[n % 2].clone());
        tasks.spawn(async move {
            let candidate = home_is("Rome", 1).evident_from(event);
            curator
                .apply(&scope(), &home(), vec![candidate])
                .await
                .unwrap()
        });
    }
    let all = tasks.join_all().await;
    let n_added = all
        .iter()
        .flatten()
        .filter(|a| a.decision.action == Action::Add)
        .count();
    assert_eq!(n_added, 1);
    let curator = curator(&bench, stores[0].clone());
    assert_eq!(profile(&curator).await, ["home = Rome"]);
}

/// Whoever comes first, the value said last holds, and no two at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn contradictions_from_two_stores_at_once_leave_one_belief() {
    let (mut bench, dir) = (Bench::new(), TempDir::new().unwrap());
    let (plain, meeting) = (bench.embedder.clone(), Meeting::of(&bench.embedder, 10));
    bench.embedder = meeting.clone();
    let stores = sqlite(&bench, &dir).await;
    bench.embedder = plain;
    meeting.expect(10);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..10 {
        let curator = curator(&bench, stores[n % 2].clone());
        tasks.spawn(async move {
            let said = u64::try_from(n).unwrap() + 1;
            apply(&curator, home_is(&format!("Town {n}"), said)).await
        });
    }
    tasks.join_all().await;
    let curator = curator(&bench, stores[1].clone());
    assert_eq!(profile(&curator).await, ["home = Town 9"]);
    for n in 0..10 {
        let held = home_at(&curator, n + 1).await;
        assert_eq!(held, Some(format!("Town {n}")));
    }
}
