//! The derived indexes against one another: postings against FTS5, the graph against the scan.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Principal, Scope};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::conformance::Bench;
use agent_memory::{
    Draft, Filter, MemoryId, MemoryStore, Namespace, Query, Selection, StaticEmbedder, Test,
    Weights,
};
use tempfile::TempDir;

const WORDS: [&str; 24] = [
    "invoice",
    "harbour",
    "running",
    "doctors",
    "violin",
    "garden",
    "relational",
    "happily",
    "museum",
    "bicycles",
    "thunder",
    "recipe",
    "caf\u{e9}",
    "hopefulness",
    "train",
    "window",
    "paper",
    "signal",
    "engine",
    "market",
    "forest",
    "letters",
    "bridge",
    "compute",
];

fn text(n: usize) -> String {
    // A fixed linear congruence spreads words unevenly enough for distinct scores.
    let mut x = n.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let length = 3 + n % 9;
    let mut words = Vec::new();
    for _ in 0..length {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        words.push(WORDS[(x >> 33) % WORDS.len()]);
    }
    words.join(" ")
}

async fn filled(config: Config, n: usize) -> (Sqlite, Vec<MemoryId>, TempDir) {
    let dir = TempDir::new().unwrap();
    let bench = Bench::new();
    let store = StoreConfig::new(dir.path().join("store.db"));
    let db = Db::open(store.with_durability(Durability::Nothing), &bench.env)
        .await
        .unwrap();
    let embedder = Arc::new(StaticEmbedder::new().unwrap());
    let store = Sqlite::open(db, bench.env, embedder, config).await.unwrap();
    let mut ids = Vec::new();
    let drafts: Vec<Draft> = (0..n)
        .map(|n| Draft::event(text(n)).with_label("decile", i64::try_from(n % 10).unwrap()))
        .collect();
    for part in drafts.chunks(Draft::BATCH_MAX) {
        let added = store.add(&somebody(), home(), part.to_vec()).await.unwrap();
        ids.extend(added.into_iter().map(|added| added.id));
    }
    (store, ids, dir)
}

fn somebody() -> Scope {
    Scope::new(Principal::host())
}

fn home() -> Namespace {
    Namespace::new("home").unwrap()
}

fn weights(keyword: f32, dense: f32) -> Weights {
    let mut weights = Weights::default();
    (weights.keyword, weights.dense, weights.brevity) = (keyword, dense, 0.0);
    weights
}

async fn scores(store: &Sqlite, query: Query) -> Vec<(String, f32)> {
    let hits = store.search(&somebody(), query).await.unwrap();
    hits.into_iter()
        .map(|hit| (hit.memory.text, hit.score))
        .collect()
}

#[tokio::test]
async fn postings_rank_as_fts5_does() {
    let (postings, _, _first) = filled(Config::new(), 300).await;
    let (fts5, _, _second) = filled(Config::new().with_postings_max(0), 300).await;
    for question in [
        "invoices",
        "runs happily",
        "CAFE hope relation",
        "doctor trains",
        "computing",
    ] {
        let query = Query::new(home(), question)
            .with_weights(weights(1.0, 0.0))
            .with_limit(50);
        let ours = scores(&postings, query.clone()).await;
        let theirs = scores(&fts5, query).await;
        assert!(ours.len() >= 20, "{question}");
        assert_eq!(ours.len(), theirs.len(), "{question}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(
                (ours.1 - theirs.1).abs() < 0.001,
                "{question}: {ours:?} {theirs:?}"
            );
        }
    }
}

#[cfg(feature = "hnsw")]
#[tokio::test]
async fn the_graph_finds_what_the_scan_finds() {
    const N: usize = 1_200;
    let (graph, ids, _first) = filled(Config::new().with_exact_max(100), N).await;
    let (scan, _, _second) = filled(Config::new(), N).await;
    assert!(!scan.build_graph(&somebody(), home()).await.unwrap());
    assert!(graph.build_graph(&somebody(), home()).await.unwrap());
    // A third is erased after the graph was built, and some memories are added.
    for store in [&graph, &scan] {
        let late = (N..N + 50).map(|n| Draft::event(text(n))).collect();
        store.add(&somebody(), home(), late).await.unwrap();
    }
    let erased: BTreeSet<MemoryId> = ids.iter().copied().step_by(3).collect();
    for store in [&graph, &scan] {
        let what = Selection::Ids(erased.iter().copied().collect());
        store
            .forget(&somebody(), home(), what, String::new())
            .await
            .unwrap();
    }
    let mut n_same = 0;
    for n in 0..20 {
        let query = Query::new(home(), text(1_000 + n)).with_weights(weights(0.0, 1.0));
        let found = graph.search(&somebody(), query.clone()).await.unwrap();
        let exact = scan.search(&somebody(), query).await.unwrap();
        let exact: BTreeSet<MemoryId> = exact.iter().map(|hit| hit.memory.id).collect();
        assert_eq!((found.len(), exact.len()), (10, 10));
        assert!(found.iter().all(|hit| !erased.contains(&hit.memory.id)));
        n_same += found
            .iter()
            .filter(|hit| exact.contains(&hit.memory.id))
            .count();
    }
    assert!(n_same >= 190, "{n_same} of 200");
    let narrow = Filter::new().label("decile", Test::Is(4.into()));
    let query = Query::new(home(), "violin garden").with_filter(narrow);
    let hits = graph.search(&somebody(), query).await.unwrap();
    assert_eq!(hits.len(), 10);
}
