//! Several processes on one database.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use agent_core::{Env, IdempotencyKey, Timestamp};
use agent_memory::backend::Postgres;
use agent_memory::{
    Draft, Hit, Listing, MemoryStore, MemoryStoreExt, Node, Query, Relabel, Relation, Selection,
    Value,
};

use super::cluster::{self, ROLE};
use super::{database, home, open, open_in, somebody};

const BATCH: usize = 25;
pub(crate) const SOCKET: &str = "AGENT_MEMORY_TEST_SOCKET";
pub(crate) const DATABASE: &str = "AGENT_MEMORY_TEST_DATABASE";

async fn found(store: &Postgres, text: &str) -> Vec<Hit> {
    let query = Query::new(home(), text).with_limit(1_000);
    store.search(&somebody(), query).await.unwrap()
}

async fn texts(store: &Postgres, text: &str) -> Vec<String> {
    let hits = found(store, text).await.into_iter();
    hits.map(|hit| hit.memory.text).collect()
}

/// Every kind of write of one store is seen by the next call on another, whose index is warm.
#[tokio::test]
async fn writes_of_another_store_are_found() {
    let Some(database) = database().await else {
        return;
    };
    let (one, other) = (open(database.pool()).await, open(database.pool()).await);
    let (scope, at) = (somebody(), home());
    let add = |text: &str| one.add_one(&scope, at.clone(), Draft::fact(text));
    assert!(texts(&other, "crane").await.is_empty());
    let first = add("the crane lifted a box\u{0} with a zero")
        .await
        .unwrap()
        .id;
    let second = add("the crane rests").await.unwrap().id;
    assert_eq!(texts(&other, "crane").await.len(), 2);
    assert_eq!(found(&other, "crane").await, found(&one, "crane").await);
    let relation = Relation::new(first, "at", Node::entity("dock"));
    one.relate(&scope, at.clone(), vec![relation])
        .await
        .unwrap();
    let near = other.neighbours(&scope, at.clone(), Node::entity("dock"));
    assert_eq!(near.await.unwrap(), [Node::from(first)]);
    let labels = vec![("seen".to_owned(), Relabel::Set(Value::from(true)))];
    one.relabel(&scope, at.clone(), first, labels, String::new())
        .await
        .unwrap();
    assert_eq!(
        other
            .get(&scope, at.clone(), first)
            .await
            .unwrap()
            .metadata
            .len(),
        1
    );
    let end = Timestamp::from_unix_ms(1_767_225_600_000);
    one.retire(&scope, at.clone(), second, end, String::new())
        .await
        .unwrap();
    assert_eq!(
        texts(&other, "crane").await,
        ["the crane lifted a box\u{0} with a zero"]
    );
    one.forget_one(&scope, at.clone(), first, String::new())
        .await
        .unwrap();
    assert!(texts(&other, "crane").await.is_empty());
    let third = Relation::new(Node::entity("dock"), "in", Node::entity("port"));
    one.relate(&scope, at.clone(), vec![third]).await.unwrap();
    let near = || other.neighbours(&scope, at.clone(), Node::entity("port"));
    assert_eq!(near().await.unwrap().len(), 1);
    let what = Selection::Entity("dock".to_owned());
    one.forget(&scope, at.clone(), what, String::new())
        .await
        .unwrap();
    assert!(near().await.unwrap().is_empty());
}

/// Stores that write to one namespace at once, each with its own connections, lose nothing; each
/// key is used once, whoever was first; and every index ends up the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_namespace_take_turns() {
    let Some(database) = database().await else {
        return;
    };
    let process = || open_in(database.pool(), Env::system());
    let stores = [process().await, process().await, process().await];
    let mut writers = tokio::task::JoinSet::new();
    for (n, store) in stores.iter().cloned().enumerate() {
        writers.spawn(async move {
            let mut n_new = 0;
            for round in 0..20 {
                let own = Draft::event(format!("shipment {n} {round}"));
                let common = Draft::event(format!("common {round}"))
                    .with_key(IdempotencyKey::new(format!("k{round}")).unwrap());
                let drafts = vec![own, common];
                let added = store.add(&somebody(), home(), drafts).await.unwrap();
                n_new += added.iter().filter(|added| added.is_new).count();
                assert!(
                    !texts(&store, &format!("shipment {n} {round}"))
                        .await
                        .is_empty()
                );
            }
            n_new
        });
    }
    let n_new: usize = writers.join_all().await.into_iter().sum();
    assert_eq!(n_new, 3 * 20 + 20);
    let listing = Listing::new().with_limit(1_000);
    let all = stores[0].list(&somebody(), home(), listing).await.unwrap();
    assert_eq!(all.len(), n_new);
    let answer = found(&stores[0], "shipment 1 13").await;
    for store in &stores {
        assert_eq!(found(store, "shipment 1 13").await, answer);
    }
}

fn batch(n: usize) -> Vec<Draft> {
    (n * BATCH..(n + 1) * BATCH)
        .map(|n| {
            let key = IdempotencyKey::new(format!("k{n}")).unwrap();
            Draft::event(format!("shipment {n} arrived at dock {}", n % 7))
                .with_key(key)
                .in_thread(format!("dock {}", n % 7))
        })
        .collect()
}

#[tokio::test]
#[ignore = "the child process of a_killed_client_leaves_whole_batches"]
async fn ingest_until_killed() {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(std::env::var_os(SOCKET).unwrap())
        .user(ROLE);
    config.dbname(std::env::var_os(DATABASE).unwrap().to_str().unwrap());
    let store = open(cluster::pool(config)).await;
    for n in 0.. {
        store.add(&somebody(), home(), batch(n)).await.unwrap();
        println!("acknowledged {n}");
    }
}

#[tokio::test]
async fn a_killed_client_leaves_whole_batches() {
    let Some(database) = database().await else {
        return;
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "shared::ingest_until_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(SOCKET, database.cluster.dir())
        .env(DATABASE, &database.name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let n_acknowledged = output
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("acknowledged"))
        .take(8)
        .count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(n_acknowledged, 8);

    let store = Arc::new(open(database.pool()).await);
    let found = found(&store, "shipment").await;
    assert!(found.len() >= 8 * BATCH);
    assert_eq!(found.len() % BATCH, 0, "a batch is whole or absent");
    // The caller that never got an answer repeats its call: nothing is added twice.
    for n in 0..found.len() / BATCH {
        let added = store.add(&somebody(), home(), batch(n)).await.unwrap();
        assert!(added.iter().all(|added| !added.is_new));
    }
    assert_eq!(super::shared::found(&store, "shipment").await, found);
}
