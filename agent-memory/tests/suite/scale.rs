//! Large namespaces, at a size tests can afford: what the approximate indexes find against what a
//! look at every memory finds, and many callers at once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Embedder, Principal, Scope};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::conformance::Bench;
use agent_memory::{
    Draft, Filter, MemoryId, MemoryStore, Namespace, Query, Selection, StaticEmbedder, Test,
    Weights,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

const N: usize = 2_000;
/// Under a third of all is looked at where the approximate index answers.
const EXACT_MAX: usize = 600;
/// Enough for several blocks of codes, of which a tenth is looked at.
const N_CODED: usize = 6_000;
const QUESTIONS: usize = 20;
const HITS: usize = 10;

const WORDS: [&str; 40] = [
    "invoice", "harbour", "running", "doctor", "violin", "garden", "thunder", "recipe", "museum",
    "bicycle", "coffee", "train", "window", "paper", "signal", "engine", "market", "forest",
    "letter", "bridge", "computer", "flight", "sister", "painting", "winter", "hospital", "bread",
    "mountain", "guitar", "lawyer", "ocean", "kitchen", "soldier", "theatre", "diamond", "rabbit",
    "summer", "church", "camera", "river",
];

/// Twelve words, half of them of one of fifty subjects, so that texts are alike in groups.
fn text(n: usize) -> String {
    let mut x = n.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = |below: usize| {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % below
    };
    let subject = next(50);
    let words = (0..12).map(|k| match k % 2 {
        0 => WORDS[next(WORDS.len())].to_owned(),
        _ => {
            let k = subject * 7 + next(5);
            format!("{}{}", WORDS[k % WORDS.len()], WORDS[k * 3 % WORDS.len()])
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn somebody() -> Scope {
    Scope::new(Principal::host())
}

fn home() -> Namespace {
    Namespace::new("home").unwrap()
}

struct Filled {
    store: Sqlite,
    n: usize,
    ids: Vec<MemoryId>,
    _dir: TempDir,
}

async fn open(dir: &Path, embedder: Arc<dyn Embedder>, config: Config) -> (Sqlite, Db) {
    let bench = Bench::new();
    let file = StoreConfig::new(dir.join("store.db")).with_durability(Durability::Nothing);
    let db = Db::open(file, &bench.env).await.unwrap();
    let store = Sqlite::open(db.clone(), bench.env, embedder, config);
    (store.await.unwrap(), db)
}

fn bundled() -> Arc<dyn Embedder> {
    Arc::new(StaticEmbedder::new().unwrap())
}

async fn filled(n: usize, config: Config) -> Filled {
    let dir = TempDir::new().unwrap();
    let (store, _db) = open(dir.path(), bundled(), config).await;
    let mut filled = Filled {
        store,
        n,
        ids: Vec::new(),
        _dir: dir,
    };
    filled.add(0..n).await;
    filled
}

impl Filled {
    async fn add(&mut self, range: std::ops::Range<usize>) {
        let draft = |n: usize| {
            Draft::event(text(n))
                .with_label("hundredth", i64::try_from(n % 100).unwrap())
                .in_thread(format!("thread {}", n / 20))
        };
        let drafts: Vec<Draft> = range.map(draft).collect();
        for part in drafts.chunks(Draft::BATCH_MAX) {
            let added = self.store.add(&somebody(), home(), part.to_vec()).await;
            self.ids
                .extend(added.unwrap().into_iter().map(|added| added.id));
        }
    }

    /// Erases three in ten of those there are.
    async fn erase(&self) {
        let erased = self.ids.iter().enumerate().filter(|(n, _)| n % 10 < 3);
        let erased: Vec<MemoryId> = erased.map(|(_, id)| *id).collect();
        for part in erased.chunks(Selection::IDS_MAX) {
            let what = Selection::Ids(part.to_vec());
            let scope = somebody();
            let forgotten = self.store.forget(&scope, home(), what, String::new());
            forgotten.await.unwrap();
        }
    }

    /// The likeness of the answers to a question, by the vectors alone.
    async fn nearest(&self, question: usize, filter: &Filter) -> Vec<f32> {
        let mut weights = Weights::default();
        (weights.keyword, weights.thread, weights.brevity) = (0.0, 0.0, 0.0);
        let query = Query::new(home(), text(question))
            .with_weights(weights)
            .with_filter(filter.clone())
            .with_limit(HITS);
        let hits = self.store.search(&somebody(), query).await.unwrap();
        hits.iter().map(|hit| hit.score).collect()
    }
}

/// How many of the exact answers are found, texts being as good as others that score the same.
async fn recall(found_by: &Filled, exact: &Filled, filter: &Filter) -> f64 {
    let (mut n_found, mut n_all) = (0_u32, 0_u32);
    for question in 0..QUESTIONS {
        let found = found_by.nearest(10 * exact.n + question, filter).await;
        let wanted = exact.nearest(10 * exact.n + question, filter).await;
        assert_eq!(wanted.len(), HITS, "there is enough to find");
        let least = wanted[HITS - 1] - 1e-4;
        n_all += 10;
        n_found += u32::try_from(found.iter().filter(|score| **score >= least).count()).unwrap();
    }
    f64::from(n_found) / f64::from(n_all)
}

async fn holds_at_scale(mut approximate: Filled) {
    let n = approximate.n;
    let mut exact = filled(n, Config::new()).await;
    let all = Filter::new();
    assert!(recall(&approximate, &exact, &all).await >= 0.98);
    for side in [&mut approximate, &mut exact] {
        side.erase().await;
        side.add(n..n + 200).await;
    }
    let after = recall(&approximate, &exact, &all).await;
    assert!(after >= 0.98, "with three in ten erased: {after}");
    let third = Filter::new().label("hundredth", Test::Below(33));
    let filtered = recall(&approximate, &exact, &third).await;
    assert!(filtered >= 0.98, "of a third: {filtered}");
    let few = Filter::new().label("hundredth", Test::Is(17_i64.into()));
    let filtered = recall(&approximate, &exact, &few).await;
    assert!(filtered >= 0.98, "of one in a hundred: {filtered}");
}

#[tokio::test]
async fn codes_find_what_a_look_at_all_finds() {
    let codes = filled(N_CODED, Config::new().with_exact_max(EXACT_MAX)).await;
    holds_at_scale(codes).await;
}

/// The codes were worked out before there were vectors, and follow these one by one.
#[tokio::test]
async fn codes_of_what_was_embedded_again_find_as_much() {
    let dir = TempDir::new().unwrap();
    let former = Bench::new().embedder;
    let (store, db) = open(dir.path(), Arc::clone(&former), Config::new()).await;
    let drafts: Vec<Draft> = (0..N).map(|n| Draft::event(text(n))).collect();
    for part in drafts.chunks(Draft::BATCH_MAX) {
        store.add(&somebody(), home(), part.to_vec()).await.unwrap();
    }
    db.close().await;
    drop(store);
    let config = Config::new().with_exact_max(100);
    let config = config.with_former_embedder(former);
    let (store, _db) = open(dir.path(), bundled(), config).await;
    let question = Query::new(home(), text(10 * N));
    store.search(&somebody(), question).await.unwrap();
    while store.embed_again(&somebody(), 500).await.unwrap().n_left > 0 {}
    let codes = Filled {
        store,
        n: N,
        ids: Vec::new(),
        _dir: dir,
    };
    let exact = filled(N, Config::new()).await;
    let found = recall(&codes, &exact, &Filter::new()).await;
    assert!(found >= 0.98, "{found}");
}

#[tokio::test]
async fn a_large_namespace_answers_as_a_small_one_does() {
    let mut large = filled(N, Config::new().with_exact_max(EXACT_MAX)).await;
    let mut small = filled(N, Config::new()).await;
    for side in [&mut large, &mut small] {
        side.erase().await;
        side.add(N..N + 200).await;
    }
    let mut n_same = 0;
    for n in 0..QUESTIONS {
        let words = text(20 * n + 7);
        let question: Vec<&str> = words.split(' ').step_by(3).collect();
        let query = Query::new(home(), question.join(" ")).with_limit(HITS);
        let mut texts = Vec::new();
        for side in [&large, &small] {
            let hits = side.store.search(&somebody(), query.clone()).await.unwrap();
            let found: BTreeSet<String> = hits.into_iter().map(|hit| hit.memory.text).collect();
            texts.push(found);
        }
        n_same += texts[0].intersection(&texts[1]).count();
    }
    assert!(n_same * 100 >= QUESTIONS * HITS * 95, "{n_same} of 200");
}

/// A look at all adds up every word; in a large namespace the most frequent ones are only looked up
/// in the rows that other words have named. Here all words are frequent: the worst case.
#[tokio::test]
async fn frequent_words_decide_in_a_large_namespace_too() {
    let large = filled(N, Config::new().with_exact_max(100)).await;
    let small = filled(N, Config::new()).await;
    let mut weights = Weights::default();
    (weights.dense, weights.thread, weights.brevity) = (0.0, 0.0, 0.0);
    let mut n_same = 0;
    for n in 0..QUESTIONS {
        // Each of these words is in more than two hundred texts.
        let words = [n, n + 7, n + 19].map(|n| WORDS[n % WORDS.len()]);
        let query = Query::new(home(), words.join(" "))
            .with_weights(weights.clone())
            .with_limit(HITS);
        let mut scores: Vec<Vec<f32>> = Vec::new();
        for side in [&large, &small] {
            let hits = side.store.search(&somebody(), query.clone()).await.unwrap();
            scores.push(hits.iter().map(|hit| hit.score).collect());
        }
        assert_eq!(scores[1].len(), HITS, "there is enough to find");
        let least = scores[1][HITS - 1] - 1e-4;
        n_same += scores[0].iter().filter(|score| **score >= least).count();
    }
    assert!(n_same * 100 >= QUESTIONS * HITS * 85, "{n_same} of 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_writers_and_readers_see_what_was_acknowledged() {
    let store = filled(N, Config::new().with_exact_max(EXACT_MAX)).await;
    let mut tasks = JoinSet::new();
    for who in 0..10 {
        let store = store.store.clone();
        tasks.spawn(async move {
            for n in 0..10 {
                let word = format!("zq{who}x{n}");
                let draft = Draft::event(format!("{} {word}", text(n)));
                let added = store.add(&somebody(), home(), vec![draft]).await.unwrap();
                if who == 0 && n % 5 == 0 {
                    store.optimize(&somebody(), home()).await.unwrap();
                }
                let query = Query::new(home(), word).with_limit(100);
                let hits = store.search(&somebody(), query).await.unwrap();
                let is_found = hits.iter().any(|hit| hit.memory.id == added[0].id);
                assert!(is_found, "an own write is found");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
