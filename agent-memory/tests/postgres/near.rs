//! Candidates by pgvector.

use agent_memory::backend::Postgres;
use agent_memory::backend::postgres::Config;
use agent_memory::conformance::Bench;
use agent_memory::{Draft, MemoryStore, MemoryStoreExt, Query, Selection};

use super::cluster::{Cluster, Server};
use super::{home, somebody};

const WORDS: [&str; 12] = [
    "harbour", "crane", "lorry", "invoice", "storm", "captain", "anchor", "ledger", "customs",
    "pallet", "engine", "whistle",
];

fn text(n: usize) -> String {
    let word = |k: usize| WORDS[(n / k + n * k) % WORDS.len()];
    format!("{} {} {} {n}", word(1), word(3), word(7))
}

async fn open(database: &super::cluster::Database, exact_max: usize) -> Postgres {
    let bench = Bench::new();
    let config = Config::new().with_exact_max(exact_max);
    Postgres::open(database.pool(), bench.env, bench.embedder, config)
        .await
        .unwrap()
}

/// What the approximate index offers, with what was added since it was built and without what was
/// erased, is ranked as after a scan of everything.
#[tokio::test]
async fn pgvector_finds_what_the_scan_finds() {
    let Some(cluster) = Cluster::shared(Server::WithVectors) else {
        return;
    };
    let database = cluster.database().await;
    let (near, scan) = (
        open(&database, 400).await,
        open(&database, usize::MAX).await,
    );
    let (scope, at) = (somebody(), home());
    assert!(
        !near.optimize(&scope, at.clone()).await.unwrap(),
        "nothing to index"
    );
    let mut ids = Vec::new();
    for part in 0..2 {
        let drafts = (part * 1_000..(part + 1) * 1_000).map(|n| Draft::event(text(n)));
        let added = near
            .add(&scope, at.clone(), drafts.collect())
            .await
            .unwrap();
        ids.extend(added.into_iter().map(|added| added.id));
    }
    assert!(near.optimize(&scope, at.clone()).await.unwrap());
    assert!(near.optimize(&scope, at.clone()).await.unwrap(), "again");
    let late = Draft::event("a zeppelin over the harbour");
    let late = near.add_one(&scope, at.clone(), late).await.unwrap().id;
    let gone = Selection::Ids(ids.iter().step_by(7).copied().collect());
    near.forget(&scope, at.clone(), gone, String::new())
        .await
        .unwrap();
    let (mut n_same, mut n_all) = (0, 0);
    for question in [
        "captain whistle",
        "the invoice in the storm",
        "customs ledger 1234",
    ] {
        let query = || Query::new(at.clone(), question).with_limit(10);
        let found = near.search(&scope, query()).await.unwrap();
        let exact = scan.search(&scope, query()).await.unwrap();
        let of = |hits: &[agent_memory::Hit]| -> Vec<_> {
            hits.iter().map(|hit| hit.memory.id).collect()
        };
        let (found, exact) = (of(&found), of(&exact));
        n_all += exact.len();
        n_same += exact.iter().filter(|id| found.contains(id)).count();
        assert!(found.iter().all(|id| *id == late || ids.contains(id)));
        if question == "zeppelin harbour" {
            assert!(found.contains(&late));
        }
    }
    assert_eq!(n_all, 30);
    assert!(n_same >= 29, "{n_same} of {n_all}");
    let admin = database.admin().await;
    let left = "SELECT count(*) FROM memory_near n FULL JOIN memory_entry e USING (seq)
         WHERE e.seq IS NULL";
    let left: i64 = admin.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "vectors go with their memories");
    let scans = "SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes
         WHERE indexrelname LIKE 'memory_near_1_%'";
    let mut n_scans = 0;
    for _ in 0..100 {
        n_scans = admin.query_one(scans, &[]).await.unwrap().get::<_, i64>(0);
        if n_scans > 0 {
            break;
        }
        // Counters are published by the connections as they go on.
        near.search(&scope, Query::new(at.clone(), "anchor"))
            .await
            .unwrap();
    }
    assert!(n_scans > 0, "the index is used");
}
