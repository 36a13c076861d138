//! What is left after an erasure: nothing in any table, and after a scrub nothing in a table's file.

use std::path::Path;

use agent_memory::backend::Postgres;
use agent_memory::{Draft, Listing, MemoryId, MemoryStore, MemoryStoreExt, Node, Relation};
use tokio_postgres::Client;

use super::{database, home, open, somebody};

const SECRETS: [&str; 8] = [
    "qwyxzzy",
    "peanut",
    "vrunkelstilz",
    "grobnitz",
    "plexiquar",
    "jubbjubbird",
    "snarkboojum",
    "frumiousbandersnatch",
];

fn found_in(dir: &Path) -> Vec<&'static str> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(found_in(&path));
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        let is_there = |secret: &&str| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        found.extend(SECRETS.into_iter().filter(is_there));
    }
    found.sort_unstable();
    found.dedup();
    found
}

const TABLES: [&str; 4] = [
    "memory_change",
    "memory_entry",
    "memory_relation",
    "memory_key",
];

async fn crowd(store: &Postgres, from: usize) {
    let arrival = |n: usize| Draft::event(format!("shipment {n} arrived")).in_thread("dock");
    let drafts = (from..from + 300).map(arrival).collect();
    store.add(&somebody(), home(), drafts).await.unwrap();
}

/// An event with every secret, a fact derived from it, and three hundred others around them.
async fn fill(store: &Postgres) -> MemoryId {
    let (scope, at) = (somebody(), home());
    crowd(store, 0).await;
    let draft = Draft::event("qwyxzzy has a peanut allergy, told by vrunkelstilz")
        .with_label("grobnitz", "plexiquar")
        .in_thread("jubbjubbird")
        .because("snarkboojum");
    let event = store.add_one(&scope, at.clone(), draft).await.unwrap().id;
    let fact = Draft::fact("qwyxzzy avoids peanuts").derived_from(event);
    store.add_one(&scope, at.clone(), fact).await.unwrap();
    let relation = Relation::new(event, "mentions", Node::entity("frumiousbandersnatch"));
    store.relate(&scope, at, vec![relation]).await.unwrap();
    crowd(store, 300).await;
    event
}

async fn count(client: &Client, statement: &str) -> i64 {
    client.query_one(statement, &[]).await.unwrap().get(0)
}

/// How many rows of a table show a secret, as text or as bytes.
async fn rows_with_secrets(client: &Client, table: &str) -> i64 {
    let hex = |secret: &str| -> String { secret.bytes().map(|b| format!("{b:02x}")).collect() };
    let statement = format!(
        "SELECT count(*) FROM {table} t WHERE t::text ~ '{}' OR t::text ~ '{}'",
        SECRETS.join("|"),
        SECRETS.map(hex).join("|"),
    );
    count(client, &statement).await
}

#[tokio::test]
async fn a_scrubbed_table_holds_no_byte_of_what_was_erased() {
    let Some(database) = database().await else {
        return;
    };
    let store = open(database.pool()).await;
    let event = fill(&store).await;
    let admin = database.admin().await;
    let oid = "SELECT oid::bigint FROM pg_database WHERE datname = current_database()";
    let base = database.cluster.dir().join("data/base");
    let files = base.join(count(&admin, oid).await.to_string());
    admin.batch_execute("ANALYZE; CHECKPOINT").await.unwrap();
    let mut all = SECRETS.to_vec();
    all.sort_unstable();
    assert_eq!(found_in(&files), all, "the scan finds what is there");
    for table in TABLES {
        let n = rows_with_secrets(&admin, table).await;
        assert_eq!(n > 0, table != "memory_key", "{table}");
    }
    let sampled = "SELECT count(*) FROM pg_stats WHERE tablename LIKE 'memory%' AND attname IN
         ('text', 'metadata', 'thread', 'channel', 'reason', 'vector', 'content', 'from_node',
          'label', 'to_node')";
    assert_eq!(count(&admin, sampled).await, 0, "the planner has copies");

    let receipt = store
        .forget_one(&somebody(), home(), event, "asked to".to_owned())
        .await
        .unwrap();
    assert_eq!(receipt.erased.len(), 2);
    assert!(
        !receipt.is_scrubbed,
        "nobody can vouch for a server's files"
    );
    for table in TABLES {
        assert_eq!(rows_with_secrets(&admin, table).await, 0, "{table}");
    }
    let vacuumed = "SELECT count(*) FROM pg_stat_user_tables
         WHERE relname LIKE 'memory%' AND last_vacuum IS NOT NULL";
    assert_eq!(count(&admin, vacuumed).await, 5);

    store.scrub().await.unwrap();
    admin.batch_execute("CHECKPOINT").await.unwrap();
    let left = found_in(&files);
    assert!(left.is_empty(), "{left:?}");
    let listing = Listing::new().with_limit(1_000);
    let rest = store.list(&somebody(), home(), listing).await.unwrap();
    assert_eq!(rest.len(), 600, "the rest is untouched");
}
