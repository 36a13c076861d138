//! The PostgreSQL backend, on temporary clusters of the machine's own servers: the laws of the
//! contract, and those of a store that several processes share over connections that may break.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "postgres/breaks.rs"]
mod breaks;
#[path = "postgres/cluster.rs"]
mod cluster;
#[path = "postgres/curation.rs"]
mod curation;
#[path = "postgres/embed.rs"]
mod embed;
#[path = "postgres/erasure.rs"]
mod erasure;
#[path = "killed/curation.rs"]
mod killed;
#[path = "postgres/near.rs"]
mod near;
#[path = "postgres/shared.rs"]
mod shared;
#[path = "postgres/walls.rs"]
mod walls;

use std::sync::Arc;

use agent_core::{Env, Principal, Scope};
use agent_memory::backend::postgres::Config;
use agent_memory::backend::{InMemory, Postgres};
use agent_memory::conformance::Bench;
use agent_memory::portable::Portable;
use agent_memory::{MemoryStore, Namespace};

use deadpool_postgres::Pool;

use cluster::{Cluster, Database, Server};

fn somebody() -> Scope {
    Scope::new(Principal::host())
}

fn home() -> Namespace {
    Namespace::new("home").unwrap()
}

/// An empty database of the installed server, if there is one.
async fn database() -> Option<Database> {
    Some(Cluster::shared(Server::Installed)?.database().await)
}

/// A store as another process would open it, but for the clock and the ids, which are repeatable.
async fn open(pool: Pool) -> Postgres {
    open_in(pool, Bench::new().env).await
}

async fn open_in(pool: Pool, env: Env) -> Postgres {
    let embedder = Bench::new().embedder;
    Postgres::open(pool, env, embedder, Config::new())
        .await
        .unwrap()
}

async fn make_on(server: Server, bench: Bench) -> Option<(Arc<Postgres>, Database)> {
    let database = Cluster::shared(server)?.database().await;
    let pool = database.pool();
    let store = Postgres::open(pool, bench.env, bench.embedder, Config::new())
        .await
        .unwrap();
    assert!(store.is_walled().await.unwrap());
    Some((Arc::new(store), database))
}

async fn installed(bench: Bench) -> Option<(Arc<dyn MemoryStore>, Database)> {
    let (store, database) = make_on(Server::Installed, bench).await?;
    Some((store, database))
}

async fn with_vectors(bench: Bench) -> Option<(Arc<dyn MemoryStore>, Database)> {
    let (store, database) = make_on(Server::WithVectors, bench).await?;
    Some((store, database))
}

async fn portable(bench: Bench) -> Option<(Arc<dyn Portable>, Database)> {
    let (store, database) = make_on(Server::Installed, bench).await?;
    Some((store, database))
}

async fn in_memory(bench: Bench) -> (Arc<dyn Portable>, ()) {
    (Arc::new(InMemory::new(bench.env, bench.embedder)), ())
}

mod contract {
    agent_memory::memory_conformance!(super::installed);
}

mod contract_on_the_server_with_pgvector {
    agent_memory::memory_conformance!(super::with_vectors);
}

mod between_databases {
    agent_memory::portable_conformance!(super::portable, super::portable);
}

mod from_main_memory_to_a_database {
    agent_memory::portable_conformance!(super::in_memory, super::portable);
}

mod from_a_database_to_main_memory {
    agent_memory::portable_conformance!(super::portable, super::in_memory);
}
