//! The postings against FTS5.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Principal, Scope};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::conformance::Bench;
use agent_memory::{Draft, MemoryStore, Namespace, Query, StaticEmbedder, Weights};
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

async fn filled(config: Config, n: usize) -> (Sqlite, TempDir) {
    let dir = TempDir::new().unwrap();
    let bench = Bench::new();
    let store = StoreConfig::new(dir.path().join("store.db"));
    let db = Db::open(store.with_durability(Durability::Nothing), &bench.env)
        .await
        .unwrap();
    let embedder = Arc::new(StaticEmbedder::new().unwrap());
    let store = Sqlite::open(db, bench.env, embedder, config).await.unwrap();
    let drafts = (0..n).map(|n| Draft::event(text(n))).collect();
    store.add(&somebody(), home(), drafts).await.unwrap();
    (store, dir)
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
    let (postings, _first) = filled(Config::new(), 300).await;
    let (fts5, _second) = filled(Config::new().with_postings_max(0), 300).await;
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
