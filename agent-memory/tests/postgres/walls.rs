//! Partitions behind row-level security, and databases that are refused.

use agent_core::{Classify, ErrorKind};
use agent_memory::backend::Postgres;
use agent_memory::backend::postgres::Config;
use agent_memory::conformance::Bench;
use agent_memory::{Draft, MemoryStore, MemoryStoreExt, Node, Relation};
use deadpool_postgres::Pool;
use tokio_postgres::Client;

use super::cluster::SUPERUSER;
use super::{database, home, open, somebody};

const TABLES: [&str; 6] = [
    "memory_partition",
    "memory_change",
    "memory_entry",
    "memory_source",
    "memory_key",
    "memory_relation",
];

async fn fill(store: &Postgres) {
    for tenant in ["ours", "theirs"] {
        let scope = somebody().with_tenant(tenant);
        let key = agent_core::IdempotencyKey::new("k").unwrap();
        let draft = Draft::event("the safe opens with 1234").with_key(key);
        let id = store.add_one(&scope, home(), draft).await.unwrap().id;
        let fact = Draft::fact("there is a safe").derived_from(id);
        store.add_one(&scope, home(), fact).await.unwrap();
        let relation = Relation::new(id, "about", Node::entity("safe"));
        store.relate(&scope, home(), vec![relation]).await.unwrap();
    }
}

/// A statement that forgets to name its partition sees nothing, or what the settings of its
/// transaction name; it cannot write elsewhere, either. A superuser sees all, which the store says.
#[tokio::test]
async fn the_second_wall_stands_alone() {
    let Some(database) = database().await else {
        return;
    };
    let store = open(database.pool()).await;
    assert!(store.is_walled().await.unwrap());
    fill(&store).await;
    let client = database.connect().await;
    let admin = database.admin().await;
    let count = async |client: &Client, table| {
        let statement = format!("SELECT count(*) FROM {table}");
        let row = client.query_one(&statement, &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    for table in TABLES {
        assert_eq!(count(&client, table).await, 0, "{table} is open");
        assert!(count(&admin, table).await >= 2, "{table} is empty");
    }
    client
        .batch_execute("SET agent_memory.tenant = 'ours'")
        .await
        .unwrap();
    let row = client
        .query_one("SELECT id, tenant FROM memory_partition", &[])
        .await
        .unwrap();
    let ours: i64 = row.get(0);
    assert_eq!(row.get::<_, &str>(1), "ours");
    client
        .batch_execute(&format!("SET agent_memory.partition = '{ours}'"))
        .await
        .unwrap();
    for table in &TABLES[1..] {
        let half = count(&admin, table).await / 2;
        assert_eq!(count(&client, table).await, half, "{table}");
    }
    let theirs = "INSERT INTO memory_partition (tenant, namespace) VALUES ('theirs', 'more')";
    let other = format!(
        "INSERT INTO memory_key (partition, digest, id) VALUES ({}, '\\x00', '\\x00')",
        ours + 1
    );
    for statement in [theirs, &other] {
        let refused = client.batch_execute(statement).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501");
    }
    let above = open(database.pool_as(SUPERUSER)).await;
    assert!(!above.is_walled().await.unwrap());
}

#[tokio::test]
async fn stores_that_open_at_once_make_the_tables_once() {
    let Some(database) = database().await else {
        return;
    };
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = database.pool();
        opening.spawn(async move { open(pool).await });
    }
    let stores = opening.join_all().await;
    stores[0]
        .add_one(&somebody(), home(), Draft::event("once"))
        .await
        .unwrap();
    assert_eq!(stores.len(), 4);
}

async fn refused(pool: Pool) -> ErrorKind {
    let bench = Bench::new();
    let opened = Postgres::open(pool, bench.env, bench.embedder, Config::new()).await;
    opened.unwrap_err().kind()
}

#[tokio::test]
async fn a_database_that_cannot_serve_is_refused() {
    let Some(database) = database().await else {
        return;
    };
    drop(open(database.pool()).await);
    let client = database.connect().await;
    client
        .batch_execute("UPDATE memory_schema SET version = 99")
        .await
        .unwrap();
    assert_eq!(refused(database.pool()).await, ErrorKind::Unsupported);
    client
        .batch_execute(
            "UPDATE memory_schema SET version = 3; UPDATE memory_space SET dimensions = 3",
        )
        .await
        .unwrap();
    assert_eq!(refused(database.pool()).await, ErrorKind::Corrupt);

    let latin = format!("{}_latin", database.name);
    let create = format!(
        "CREATE DATABASE {latin} OWNER agent ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' \
         LC_CTYPE 'C'"
    );
    let admin = database.admin().await;
    admin.batch_execute(&create).await.unwrap();
    let mut other = database.clone();
    other.name = latin;
    assert_eq!(refused(other.pool()).await, ErrorKind::Unsupported);
    other.name = "nowhere".to_owned();
    assert_eq!(refused(other.pool()).await, ErrorKind::NotFound);
    assert_eq!(
        refused(database.pool_as("nobody_here")).await,
        ErrorKind::Denied
    );
    let nowhere = database.pool_through(std::path::Path::new("/nonexistent"));
    assert_eq!(refused(nowhere).await, ErrorKind::Unavailable);

    // A role that may read and write but not create opens tables that are there.
    let fresh = super::database().await.unwrap();
    let admin = fresh.admin().await;
    admin
        .batch_execute("CREATE ROLE reader LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        .await
        .unwrap();
    assert_eq!(refused(fresh.pool_as("reader")).await, ErrorKind::Denied);
    drop(open(fresh.pool()).await);
    admin
        .batch_execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader;
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO reader",
        )
        .await
        .unwrap();
    let store = open(fresh.pool_as("reader")).await;
    assert!(store.is_walled().await.unwrap());
    fill(&store).await;
}
