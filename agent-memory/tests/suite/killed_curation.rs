//! A curator on a file that is killed while it decides.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../killed/curation.rs"]
mod killed;

use std::path::Path;
use std::sync::Arc;

use crate::child;
use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_memory::backend::Sqlite;
use agent_memory::backend::sqlite::Config;
use agent_memory::conformance::Bench;
use tempfile::TempDir;

async fn open(bench: &Bench, dir: &Path) -> (Arc<Sqlite>, Db) {
    let config = StoreConfig::new(dir.join("store.db")).with_durability(Durability::ProcessKill);
    let db = Db::open(config, &bench.env).await.unwrap();
    let (env, embedder) = (bench.env.clone(), Arc::clone(&bench.embedder));
    let store = Sqlite::open(db.clone(), env, embedder, Config::new()).await;
    (Arc::new(store.unwrap()), db)
}

#[tokio::test]
#[ignore = "the child process of a_killed_curator_leaves_whole_decisions"]
async fn curate_until_killed() {
    let dir = child::directory();
    let bench = Bench::new();
    let (store, _db) = open(&bench, &dir).await;
    killed::curate_until_killed(&bench, store).await;
}

#[tokio::test]
async fn a_killed_curator_leaves_whole_decisions() {
    let dir = TempDir::new().unwrap();
    let mut child = child::command("killed_curation::curate_until_killed", dir.path())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let n_acknowledged = killed::killed(child, output);
    let (store, db) = open(&Bench::new(), dir.path()).await;
    db.verify().await.unwrap();
    killed::is_whole(store, n_acknowledged).await;
}
