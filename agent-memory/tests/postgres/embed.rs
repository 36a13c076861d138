//! Embedding again in a database, while other processes search it.

use std::sync::Arc;

use agent_core::{Embedder, Env, Principal, Scope, SeededEntropy};
use agent_memory::backend::Postgres;
use agent_memory::backend::postgres::Config;
use agent_memory::conformance::Bench;
use agent_memory::{Draft, Hit, MemoryStore, MemoryStoreExt, Namespace, Query, StaticEmbedder};

use super::cluster::{Cluster, Database, Server};
use super::{database, home, open, somebody};

const N: usize = 30;

/// A store of the bundled embedder, as another process would open it.
async fn open_anew(database: &Database, config: Config) -> Postgres {
    let env = Env::new(Bench::new().clock, Arc::new(SeededEntropy::new(2)));
    let embedder = Arc::new(StaticEmbedder::new().unwrap());
    let pool = database.pool();
    Postgres::open(pool, env, embedder, config).await.unwrap()
}

fn with_former() -> Config {
    let former: Arc<dyn Embedder> = Bench::new().embedder;
    Config::new().with_former_embedder(former)
}

fn drafts(what: &str) -> Vec<Draft> {
    let text = |n| format!("{what} {n} arrived at dock {}", n % 7);
    (0..N).map(|n| Draft::event(text(n))).collect()
}

async fn answer(store: &Postgres, scope: &Scope, at: Namespace) -> Vec<Hit> {
    let query = Query::new(at, "which arrivals at dock 3?").with_limit(1_000);
    store.search(scope, query).await.unwrap()
}

fn n_dense(hits: &[Hit]) -> usize {
    let dense = hits.iter().filter(|hit| hit.explanation.dense > 0.0);
    dense.count()
}

/// While a database is embedded again searches go by the old vectors and the new ones, in a process
/// that does it and in one that only looks; at the end both answer as one that loads it afresh and
/// knows no former embedder. Another tenant's memories wait for that tenant.
#[tokio::test]
async fn embedding_again_in_a_database_leaves_no_trace_of_the_former_embedder() {
    let Some(database) = database().await else {
        return;
    };
    let scope = somebody();
    let stranger = Scope::new(Principal::host()).with_tenant("acme");
    let other = Namespace::new("other").unwrap();
    let old = open(database.pool()).await;
    for (scope, at) in [
        (&scope, home()),
        (&scope, other.clone()),
        (&stranger, home()),
    ] {
        old.add(scope, at, drafts("shipment")).await.unwrap();
    }
    let store = open_anew(&database, with_former()).await;
    let looker = open_anew(&database, with_former()).await;
    for one in [&store, &looker] {
        let found = answer(one, &scope, home()).await;
        assert!(n_dense(&found) > 0, "the former vectors are searched");
    }
    let count = store.embed_again(&scope, 0).await.unwrap();
    assert_eq!((count.n_done, count.n_left), (0, 2 * N));
    let step = store.embed_again(&scope, N + 7).await.unwrap();
    assert_eq!((step.n_done, step.n_left), (N + 7, N - 7));
    for one in [&store, &looker] {
        for at in [home(), other.clone()] {
            let found = answer(one, &scope, at).await;
            assert!(found.len() == N && n_dense(&found) > 0, "both are searched");
        }
    }
    let gone = answer(&store, &scope, other.clone()).await[0].memory.id;
    let reason = "asked to".to_owned();
    let forgotten = store.forget_one(&scope, other.clone(), gone, reason);
    forgotten.await.unwrap();
    while store.embed_again(&scope, 5).await.unwrap().n_left > 0 {}
    let plain = open_anew(&database, Config::new()).await;
    for at in [home(), other.clone()] {
        let expected = answer(&plain, &scope, at.clone()).await;
        assert!(n_dense(&expected) > 0);
        for one in [&store, &looker] {
            assert_eq!(answer(one, &scope, at.clone()).await, expected);
        }
    }
    assert_eq!(n_dense(&answer(&plain, &stranger, home()).await), 0);
    let count = store.embed_again(&stranger, Postgres::EMBED_MAX).await;
    assert_eq!(count.unwrap().n_done, N);
    assert!(n_dense(&answer(&plain, &stranger, home()).await) > 0);
    let too_many = store.embed_again(&scope, Postgres::EMBED_MAX + 1).await;
    assert!(too_many.is_err());
}

/// An index of vectors in the database that was built halfway hides nothing that is embedded later.
#[tokio::test]
async fn an_index_built_while_embedding_hides_nothing() {
    let Some(cluster) = Cluster::shared(Server::WithVectors) else {
        return;
    };
    let database = cluster.database().await;
    let scope = somebody();
    let old = open(database.pool()).await;
    for what in ["shipment", "parcel", "letter"] {
        old.add(&scope, home(), drafts(what)).await.unwrap();
    }
    let store = open_anew(&database, with_former().with_exact_max(20)).await;
    store.embed_again(&scope, N).await.unwrap();
    assert!(store.optimize(&scope, home()).await.unwrap());
    store
        .embed_again(&scope, Postgres::EMBED_MAX)
        .await
        .unwrap();
    let scan = open_anew(&database, Config::new()).await;
    let best = |hits: Vec<Hit>| {
        hits.into_iter()
            .next()
            .map(|hit| (hit.memory.text, hit.explanation.dense > 0.0))
    };
    let query = || Query::new(home(), "a letter came").with_limit(5);
    let expected = best(scan.search(&scope, query()).await.unwrap());
    assert_eq!(best(store.search(&scope, query()).await.unwrap()), expected);
    assert!(store.optimize(&scope, home()).await.unwrap());
    assert_eq!(best(store.search(&scope, query()).await.unwrap()), expected);
}
