//! Another embedder: what it finds of memories that it did not embed, and embedding them again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::child;
use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Env, SeededEntropy};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::conformance::Bench;
use agent_memory::{Hit, MemoryStore, MemoryStoreExt, Query};
use tempfile::TempDir;

use super::{BATCH, answers, batch, home, open, somebody};

#[tokio::test]
async fn another_embedder_finds_old_memories_by_words() {
    let dir = TempDir::new().unwrap();
    let (store, db) = open(dir.path()).await;
    store.add(&somebody(), home(), batch(0)).await.unwrap();
    db.close().await;
    drop(store);
    let bench = Bench::new();
    let config = StoreConfig::new(dir.path().join("store.db"));
    let db = Db::open(config, &bench.env).await.unwrap();
    let embedder = Arc::new(agent_memory::StaticEmbedder::new().unwrap());
    let store = Sqlite::open(db, bench.env, embedder, Config::new())
        .await
        .unwrap();
    let query = Query::new(home(), "shipment 13");
    let hits = store.search(&somebody(), query).await.unwrap();
    assert_eq!(hits[0].memory.text, "shipment 13 arrived at dock 6");
    assert!(hits.iter().all(|hit| hit.explanation.dense.abs() < 1e-9));
}

/// Opens the store with the bundled embedder; what [`open`] embedded is of a former one.
async fn open_anew(dir: &Path, former: Option<Arc<dyn agent_core::Embedder>>) -> (Sqlite, Db) {
    // Other ids than those of [`open`], as in another process.
    let env = Env::new(Bench::new().clock, Arc::new(SeededEntropy::new(2)));
    let config = StoreConfig::new(dir.join("store.db")).with_durability(Durability::ProcessKill);
    let db = Db::open(config, &env).await.unwrap();
    let embedder = Arc::new(agent_memory::StaticEmbedder::new().unwrap());
    let config = match former {
        Some(former) => Config::new().with_former_embedder(former),
        None => Config::new(),
    };
    let store = Sqlite::open(db.clone(), env, embedder, config)
        .await
        .unwrap();
    (store, db)
}

fn dense(answers: &[Vec<Hit>]) -> usize {
    let hits = answers.iter().flatten();
    hits.filter(|hit| hit.explanation.dense > 0.0).count()
}

/// While a store is embedded again, searches go by the old vectors and the new ones; at the end it
/// answers as one that never knew another embedder.
#[tokio::test]
async fn embedding_again_leaves_no_trace_of_the_former_embedder() {
    let (dir, plain) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let scope = somebody();
    let (store, db) = open(dir.path()).await;
    for n in 0..4 {
        store.add(&scope, home(), batch(n)).await.unwrap();
    }
    let before = answers(&store).await;
    assert!(dense(&before) > 0);
    db.close().await;
    drop(store);

    let (store, db) = open_anew(dir.path(), Some(Bench::new().embedder)).await;
    let n_of_former = dense(&answers(&store).await);
    assert!(n_of_former > 0, "the former vectors are searched");
    let count = store.embed_again(&scope, 0).await.unwrap();
    assert_eq!((count.n_done, count.n_left), (0, 4 * BATCH));
    let step = store.embed_again(&scope, 30).await.unwrap();
    assert_eq!((step.n_done, step.n_left), (30, 4 * BATCH - 30));
    let mixed = answers(&store).await;
    assert!(dense(&mixed) > 0);
    store.add(&scope, home(), batch(4)).await.unwrap();
    let gone = mixed[0][0].memory.id;
    store
        .forget_one(&scope, home(), gone, "asked to".to_owned())
        .await
        .unwrap();
    while store.embed_again(&scope, 17).await.unwrap().n_left > 0 {
        assert_eq!(answers(&store).await[0].len(), 5 * BATCH - 1);
    }
    let after = answers(&store).await;
    db.close().await;
    drop(store);
    let (store, _db) = open_anew(dir.path(), None).await;
    assert_eq!(answers(&store).await, after, "loaded from the file");
    let too_many = store.embed_again(&scope, Sqlite::EMBED_MAX + 1).await;
    assert!(too_many.is_err());

    let (fresh, _db) = open_anew(plain.path(), None).await;
    for n in 0..5 {
        fresh.add(&scope, home(), batch(n)).await.unwrap();
    }
    let query = Query::new(home(), "shipment 90 at the dock").with_limit(1_000);
    let scores = |hits: Vec<Hit>| -> Vec<(String, f32)> {
        let score = |hit: Hit| (hit.memory.text, hit.explanation.tokens);
        hits.into_iter().map(score).collect()
    };
    let (of_fresh, of_store) = (
        scores(fresh.search(&scope, query.clone()).await.unwrap()),
        scores(store.search(&scope, query).await.unwrap()),
    );
    assert_eq!(of_store.len(), of_fresh.len() - 1);
    assert_eq!(of_store[0], of_fresh[0]);
}

#[tokio::test]
#[ignore = "the child process of embedding_again_goes_on_after_a_kill"]
async fn embed_again_until_killed() {
    let dir = child::directory();
    let (store, _db) = open_anew(&dir, Some(Bench::new().embedder)).await;
    loop {
        let step = store.embed_again(&somebody(), 5).await.unwrap();
        println!("acknowledged {}", step.n_left);
    }
}

#[tokio::test]
async fn embedding_again_goes_on_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let (store, db) = open(dir.path()).await;
    for n in 0..40 {
        store.add(&somebody(), home(), batch(n)).await.unwrap();
    }
    db.close().await;
    drop(store);
    let mut child = child::command(
        "durability::embed_again::embed_again_until_killed",
        dir.path(),
    )
    .spawn()
    .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let last = output
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("acknowledged"))
        .nth(7)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let n_acknowledged: usize = last.rsplit(' ').next().unwrap().parse().unwrap();

    let (store, db) = open_anew(dir.path(), Some(Bench::new().embedder)).await;
    db.verify().await.unwrap();
    let n_left = store.embed_again(&somebody(), 0).await.unwrap().n_left;
    assert!(n_left <= n_acknowledged, "what was acknowledged is done");
    let step = store.embed_again(&somebody(), Sqlite::EMBED_MAX).await;
    assert_eq!(step.unwrap().n_left, 0);
    assert!(dense(&answers(&store).await) > 0);
}
