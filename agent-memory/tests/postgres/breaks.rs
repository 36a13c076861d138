//! Connections that break, and waits that end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use agent_core::{Classify, ErrorKind, IdempotencyKey, Retry};
use agent_memory::backend::Postgres;
use agent_memory::backend::postgres::Config;
use agent_memory::conformance::Bench;
use agent_memory::{Draft, MemoryStore, MemoryStoreExt, Query};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{database, home, open, somebody};

/// A connection that was closed by the server is an error that may be repeated; the next call gets
/// another connection.
#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let Some(database) = database().await else {
        return;
    };
    let store = open(database.pool()).await;
    let scope = somebody();
    let add = |n: u8| store.add_one(&scope, home(), Draft::event(format!("box {n}")));
    add(0).await.unwrap();
    let admin = database.admin().await;
    admin
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
            &[],
        )
        .await
        .unwrap();
    let mut n_lost = 0;
    while let Err(error) = add(1).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.retry(), Retry::Safe);
        n_lost += 1;
        assert!(n_lost < 10, "it does not recover");
    }
    let query = Query::new(home(), "box");
    let found = store.search(&somebody(), query).await.unwrap();
    assert_eq!(found.len(), 2, "what failed was not done");
}

/// When a relay breaks its connections.
const NEVER: u8 = 0;
const BEFORE_COMMIT: u8 = 1;
const AFTER_COMMIT: u8 = 2;

/// Passes connections on to the server, and breaks them when it sees a commit: before the server
/// gets it, or before the client gets the answer.
async fn relay(dir: &Path, server: &Path, when: Arc<AtomicU8>) {
    let listener = UnixListener::bind(dir.join(".s.PGSQL.5432")).unwrap();
    let server = server.join(".s.PGSQL.5432");
    let serve = async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&server).await.unwrap();
            drop(tokio::task::spawn(pass(client, server, Arc::clone(&when))));
        }
    };
    drop(tokio::task::spawn(serve));
}

async fn pass(client: UnixStream, server: UnixStream, when: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::task::spawn(async move {
        tokio::io::copy(&mut from_server, &mut to_client).await.ok();
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
        let sent = &buffer[..n];
        let is_commit = sent.windows(7).any(|bytes| bytes == b"COMMIT\0");
        let when = when.load(Ordering::SeqCst);
        if is_commit && when != NEVER {
            back.abort();
            back.await.ok();
            if when == AFTER_COMMIT {
                to_server.write_all(sent).await.unwrap();
                // The server reads it although nobody waits for the answer.
                to_server.shutdown().await.unwrap();
            }
            return;
        }
        to_server.write_all(sent).await.unwrap();
    }
}

/// A connection lost during a commit leaves the outcome unknown, whichever it is; repeating the
/// call with the same key makes it known, and the memory is there once.
#[tokio::test]
async fn a_lost_commit_is_unknown_and_can_be_repeated() {
    let Some(database) = database().await else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let when = Arc::new(AtomicU8::new(NEVER));
    relay(dir.path(), database.cluster.dir(), Arc::clone(&when)).await;
    let store = open(database.pool_through(dir.path())).await;
    for (n, cut, is_done) in [(1, BEFORE_COMMIT, false), (2, AFTER_COMMIT, true)] {
        let key = IdempotencyKey::new(format!("k{n}")).unwrap();
        let draft = Draft::event(format!("parcel {n}")).with_key(key);
        let scope = somebody();
        let add = || store.add_one(&scope, home(), draft.clone());
        when.store(cut, Ordering::SeqCst);
        let error = add().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.retry(), Retry::Unknown);
        when.store(NEVER, Ordering::SeqCst);
        // The writer waits for the transaction that may still be ending.
        let added = add().await.unwrap();
        assert_eq!(added.is_new, !is_done);
        let query = Query::new(home(), format!("parcel {n}"));
        let hits = store.search(&somebody(), query).await.unwrap();
        let same = |hit: &&agent_memory::Hit| hit.memory.text == format!("parcel {n}");
        assert_eq!(hits.iter().filter(same).count(), 1);
    }
}

/// A writer waits for its turn as long as it was told, or until its scope ends, and then nothing
/// has changed.
#[tokio::test]
async fn a_writer_waits_for_its_turn_within_limits() {
    let Some(database) = database().await else {
        return;
    };
    let bench = Bench::new();
    let config = Config::new().with_lock_timeout(Duration::from_millis(50));
    let store = Postgres::open(database.pool(), bench.env, bench.embedder, config)
        .await
        .unwrap();
    let patient = open(database.pool()).await;
    let scope = somebody();
    store
        .add_one(&scope, home(), Draft::event("first"))
        .await
        .unwrap();
    let admin = database.admin().await;
    admin
        .batch_execute("BEGIN; SELECT 1 FROM memory_partition FOR UPDATE")
        .await
        .unwrap();
    let refused = store.add_one(&scope, home(), Draft::event("second")).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(refused.retry(), Retry::Safe);

    let stopped = somebody();
    let waiting = patient.add_one(&stopped, home(), Draft::event("third"));
    let watcher = database.admin().await;
    let stop = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
             AND datname = current_database()";
        while watcher
            .query_one(waits, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {}
        stopped.cancellation.cancel();
    };
    let (stopped, ()) = tokio::join!(waiting, stop);
    let stopped = stopped.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Canceled);
    admin.batch_execute("ROLLBACK").await.unwrap();
    // The pool's connections are fit for use again.
    for store in [&store, &patient] {
        let query = Query::new(home(), "first second third");
        let found = store.search(&scope, query).await.unwrap();
        assert_eq!(found.len(), 1);
    }
    patient
        .add_one(&scope, home(), Draft::event("fourth"))
        .await
        .unwrap();
}
