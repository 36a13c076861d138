//! Every backend, and every way a backend searches, under the laws of the contract.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_memory::MemoryStore;
use agent_memory::backend::sqlite::Config;
use agent_memory::backend::{InMemory, Sqlite};
use agent_memory::conformance::Bench;
use tempfile::TempDir;

async fn open(bench: Bench, config: Config) -> (Arc<dyn MemoryStore>, TempDir) {
    let dir = TempDir::new().unwrap();
    let store = StoreConfig::new(dir.path().join("store.db"));
    let db = Db::open(store.with_durability(Durability::Nothing), &bench.env)
        .await
        .unwrap();
    let store = Sqlite::open(db, bench.env, bench.embedder, config)
        .await
        .unwrap();
    (Arc::new(store), dir)
}

mod in_memory {
    use super::*;

    async fn make(bench: Bench) -> (Arc<dyn MemoryStore>, ()) {
        (Arc::new(InMemory::new(bench.env, bench.embedder)), ())
    }

    agent_memory::memory_conformance!(make);
}

mod sqlite {
    use super::*;

    async fn make(bench: Bench) -> (Arc<dyn MemoryStore>, TempDir) {
        open(bench, Config::new()).await
    }

    agent_memory::memory_conformance!(make);
}

/// Words are looked up by FTS5 alone.
mod sqlite_fts5 {
    use super::*;

    async fn make(bench: Bench) -> (Arc<dyn MemoryStore>, TempDir) {
        open(bench, Config::new().with_postings_max(0)).await
    }

    agent_memory::memory_conformance!(make);
}
