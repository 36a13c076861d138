//! The file an index is loaded from: never a second truth, whatever happens to it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::child;
use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Classify, Env, ErrorKind, Principal, Scope};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::{
    Draft, Hit, MemoryStore, MemoryStoreExt, Namespace, Node, Query, Relabel, Relation,
    StaticEmbedder,
};
use tempfile::TempDir;

const INDEX: &str = "store.db-memory-index-1";

async fn open(dir: &Path) -> (Sqlite, Db) {
    try_open(dir, false).await.unwrap()
}

async fn try_open(dir: &Path, is_shared: bool) -> Result<(Sqlite, Db), agent_core::store::Error> {
    let env = Env::system();
    let config = StoreConfig::new(dir.join("store.db"))
        .with_durability(Durability::ProcessKill)
        .with_shared(is_shared);
    let db = Db::open(config, &env).await?;
    let embedder = Arc::new(StaticEmbedder::new().unwrap());
    let config = Config::new().with_exact_max(40);
    let store = Sqlite::open(db.clone(), env, embedder, config).await;
    Ok((store.unwrap(), db))
}

fn somebody() -> Scope {
    Scope::new(Principal::host())
}

fn home() -> Namespace {
    Namespace::new("home").unwrap()
}

fn drafts(range: std::ops::Range<usize>) -> Vec<Draft> {
    let draft = |n: usize| {
        Draft::fact(format!(
            "shipment {n} arrived at dock {} in the rain",
            n % 7
        ))
        .in_thread(format!("dock {}", n % 7))
        .with_label("n", i64::try_from(n).unwrap())
    };
    range.map(draft).collect()
}

async fn answers(store: &Sqlite) -> Vec<Hit> {
    let mut answers = Vec::new();
    for text in ["shipment 13", "dock 3", "rainy arrivals", "tail 7", "truck"] {
        let query = Query::new(home(), text).with_limit(100);
        answers.extend(store.search(&somebody(), query).await.unwrap());
    }
    answers
}

/// A store with an index file, then changes of every kind that erases nothing.
async fn changed_since(dir: &Path) -> Vec<Hit> {
    let (store, db) = open(dir).await;
    let (scope, at) = (somebody(), home());
    let ids = store.add(&scope, at.clone(), drafts(0..900)).await.unwrap();
    // Enough for a block of codes.
    let more = drafts(900..1_100);
    store.add(&scope, at.clone(), more).await.unwrap();
    let relation = Relation::new(ids[5].id, "by", Node::entity("truck"));
    let relations = vec![relation];
    store.relate(&scope, at.clone(), relations).await.unwrap();
    assert!(store.optimize(&scope, at.clone()).await.unwrap());
    let (now, why) = (Env::system().clock.now(), String::new());
    store
        .retire(&scope, at.clone(), ids[13].id, now, why.clone())
        .await
        .unwrap();
    let labels = vec![("n".to_owned(), Relabel::Set(7_i64.into()))];
    store
        .relabel(&scope, at.clone(), ids[14].id, labels, why)
        .await
        .unwrap();
    let relations = vec![Relation::new(ids[9].id, "by", Node::entity("truck"))];
    store.relate(&scope, at.clone(), relations).await.unwrap();
    let tail = (0..20).map(|n| Draft::event(format!("tail {n}"))).collect();
    store.add(&scope, at, tail).await.unwrap();
    drop(store);
    db.close().await;
    let (store, db) = open(dir).await;
    let answers = answers(&store).await;
    drop(store);
    db.close().await;
    answers
}

#[tokio::test]
async fn an_index_from_its_file_answers_as_one_that_saw_all_changes() {
    let dir = TempDir::new().unwrap();
    let from_file = changed_since(dir.path()).await;
    let (store, _db) = open(dir.path()).await;
    std::fs::remove_file(dir.path().join(INDEX)).unwrap();
    let rebuilt = answers(&store).await;
    let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.memory.id).collect::<Vec<_>>();
    assert_eq!(ids(&from_file), ids(&rebuilt));
}

#[tokio::test]
async fn a_damaged_file_is_passed_over() {
    let dir = TempDir::new().unwrap();
    let whole = changed_since(dir.path()).await;
    let path = dir.path().join(INDEX);
    let bytes = std::fs::read(&path).unwrap();
    let mut damaged = vec![Vec::new(), b"something else".to_vec()];
    for n in 1..4 {
        let place = bytes.len() * n / 4;
        damaged.push(bytes[..place].to_vec());
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        damaged.push(flipped);
    }
    damaged.push(bytes[..bytes.len() - 1].to_vec());
    for bytes in damaged {
        std::fs::write(&path, &bytes).unwrap();
        let (store, db) = open(dir.path()).await;
        let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.memory.id).collect::<Vec<_>>();
        assert_eq!(ids(&answers(&store).await), ids(&whole));
        drop(store);
        db.close().await;
    }
}

#[tokio::test]
async fn a_file_of_another_store_is_passed_over() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    changed_since(theirs.path()).await;
    let (store, db) = open(ours.path()).await;
    let other = (0..300)
        .map(|n| Draft::event(format!("memo {n}")))
        .collect();
    store.add(&somebody(), home(), other).await.unwrap();
    drop(store);
    db.close().await;
    std::fs::copy(theirs.path().join(INDEX), ours.path().join(INDEX)).unwrap();
    let (store, _db) = open(ours.path()).await;
    let query = Query::new(home(), "memo 17 shipment").with_limit(5);
    let hits = store.search(&somebody(), query).await.unwrap();
    assert_eq!(hits.len(), 5);
    assert!(hits.iter().all(|hit| hit.memory.text.starts_with("memo")));
}

#[tokio::test]
async fn erasing_removes_the_file_and_optimizing_writes_it_anew() {
    let dir = TempDir::new().unwrap();
    changed_since(dir.path()).await;
    // What a process left behind that was killed while it wrote.
    let unfinished = dir.path().join(format!("{INDEX}.4711"));
    std::fs::write(&unfinished, b"shipment").unwrap();
    let (store, _db) = open(dir.path()).await;
    let (scope, at) = (somebody(), home());
    let hit = &answers(&store).await[0];
    let (id, why) = (hit.memory.id, String::new());
    store.forget_one(&scope, at.clone(), id, why).await.unwrap();
    assert!(!dir.path().join(INDEX).exists() && !unfinished.exists());
    store.optimize(&scope, at).await.unwrap();
    assert!(dir.path().join(INDEX).exists());
    assert!(answers(&store).await.iter().all(|hit| hit.memory.id != id));
}

#[tokio::test]
#[ignore = "the child process of a_kill_while_the_file_is_written_loses_nothing"]
async fn optimize_until_killed() {
    let dir = child::directory();
    let (store, _db) = open(&dir).await;
    for n in 0.. {
        let drafts = drafts(n * 40..(n + 1) * 40);
        store.add(&somebody(), home(), drafts).await.unwrap();
        println!("acknowledged {}", (n + 1) * 40);
        store.optimize(&somebody(), home()).await.unwrap();
    }
}

fn run(name: &str, dir: &Path) -> std::process::Child {
    let mut command = child::command(&format!("index_file::{name}"), dir);
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_kill_while_the_file_is_written_loses_nothing() {
    for n_before in [2, 5] {
        let dir = TempDir::new().unwrap();
        let mut child = run("optimize_until_killed", dir.path());
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = output.lines().map_while(Result::ok);
        let acknowledged = lines.filter(|line| line.contains("acknowledged"));
        let last = acknowledged.take(n_before).last().unwrap();
        // The child is optimizing now, or adds the next batch.
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, n) = last.rsplit_once(' ').unwrap();
        let n: usize = n.parse().unwrap();
        let (store, db) = open(dir.path()).await;
        db.verify().await.unwrap();
        let query = Query::new(home(), "shipment").with_limit(1_000);
        let found = store.search(&somebody(), query.clone()).await.unwrap();
        assert!(found.len() >= n, "what was acknowledged is there");
        drop(store);
        db.close().await;
        let _absent = std::fs::remove_file(dir.path().join(INDEX));
        let (store, _db) = open(dir.path()).await;
        let rebuilt = store.search(&somebody(), query).await.unwrap();
        let ids = |hits: &[Hit]| {
            let mut ids: Vec<_> = hits.iter().map(|hit| hit.memory.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&found), ids(&rebuilt), "index and truth agree");
    }
}

#[tokio::test]
#[ignore = "the child process of a_second_process_is_refused_unless_the_file_is_shared"]
async fn try_to_open() {
    let dir = child::directory();
    match try_open(&dir, false).await {
        Ok(_) => println!("opened"),
        Err(e) => println!("refused {:?}", e.kind()),
    }
    if let Ok((store, db)) = try_open(&dir, true).await {
        let draft = Draft::event("the other process was here");
        store.add(&somebody(), home(), vec![draft]).await.unwrap();
        let query = Query::new(home(), "shipment 13").with_limit(1);
        let hits = store.search(&somebody(), query).await.unwrap();
        println!("shared {}", hits[0].memory.text);
        db.close().await;
    }
}

fn said_by(child: std::process::Child) -> String {
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_second_process_is_refused_unless_the_file_is_shared() {
    let dir = TempDir::new().unwrap();
    let (store, db) = open(dir.path()).await;
    store.add(&somebody(), home(), drafts(0..50)).await.unwrap();
    let said = said_by(run("try_to_open", dir.path()));
    assert!(
        said.contains(&format!("refused {:?}", ErrorKind::Conflict)),
        "{said}"
    );
    drop(store);
    db.close().await;

    let (store, _db) = try_open(dir.path(), true).await.unwrap();
    answers(&store).await;
    let said = said_by(run("try_to_open", dir.path()));
    assert!(said.contains("shared shipment 13 arrived"), "{said}");
    let query = Query::new(home(), "other process").with_limit(1);
    let hits = store.search(&somebody(), query).await.unwrap();
    assert_eq!(hits[0].memory.text, "the other process was here");
}
