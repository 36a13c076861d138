//! Durable bulk adding, embedding included, and search in one namespace.
//!
//! `cargo bench -p agent-memory --bench store` prints memories per second and percentiles.

#![expect(clippy::print_stdout, reason = "a bench prints its result")]
#![expect(clippy::unwrap_used, reason = "a bench stops at the first error")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config as StoreConfig, Db};
use agent_core::{Clock, Env, Principal, Scope, SystemClock};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::{Draft, MemoryStore, Namespace, Query, StaticEmbedder};

const N: usize = 10_000;
const N_SEARCHES: usize = 500;
const WORDS: &[&str] = &[
    "invoice",
    "harbour",
    "running",
    "doctor",
    "violin",
    "garden",
    "cousin",
    "holiday",
    "museum",
    "bicycle",
    "thunder",
    "recipe",
    "coffee",
    "hope",
    "train",
    "window",
    "paper",
    "signal",
    "engine",
    "market",
    "forest",
    "letter",
    "bridge",
    "computer",
    "flight",
    "sister",
    "painting",
    "the",
    "of",
    "and",
    "to",
    "with",
    "my",
    "was",
    "yesterday",
    "really",
    "visited",
    "bought",
];

fn text(n: usize, n_words: usize) -> String {
    let mut x = n.wrapping_mul(0x9e37_79b9).wrapping_add(77);
    let word = |_| {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Every third word is one of many, as names and numbers are.
        if (x >> 60).is_multiple_of(3) {
            format!("w{}", (x >> 33) % 20_000)
        } else {
            WORDS
                .get((x >> 33) % WORDS.len())
                .copied()
                .unwrap_or("a")
                .to_owned()
        }
    };
    (0..n_words).map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let (env, clock) = (Env::system(), SystemClock::new());
    let db = Db::open(StoreConfig::new(dir.path().join("store.db")), &env)
        .await
        .unwrap();
    let embedder = Arc::new(StaticEmbedder::new().unwrap());
    let store = Sqlite::open(db, env, embedder, Config::new())
        .await
        .unwrap();
    let (scope, at) = (
        Scope::new(Principal::host()),
        Namespace::new("bench").unwrap(),
    );
    let drafts: Vec<Draft> = (0..N)
        .map(|n| Draft::event(text(n, 20)).in_thread(format!("t{}", n / 20)))
        .collect();
    let start = clock.monotonic();
    for part in drafts.chunks(Draft::BATCH_MAX) {
        store.add(&scope, at.clone(), part.to_vec()).await.unwrap();
    }
    let took = clock.monotonic().saturating_sub(start);
    println!(
        "add {N}: {took:?}, {:?} each",
        took / u32::try_from(N).unwrap()
    );
    let start = clock.monotonic();
    store
        .search(&scope, Query::new(at.clone(), "load"))
        .await
        .unwrap();
    println!(
        "first search: {:?}",
        clock.monotonic().saturating_sub(start)
    );
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..N_SEARCHES {
        let query = Query::new(at.clone(), text(n * 7 + 1, 8));
        let start = clock.monotonic();
        store.search(&scope, query).await.unwrap();
        times.push(clock.monotonic().saturating_sub(start));
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100);
    println!(
        "search at {N}: p50 {:?}, p95 {:?}, p99 {:?}",
        at(50),
        at(95),
        at(99)
    );
}
