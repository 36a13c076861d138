//! The store's promises about writes, reads and group commit.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests await the tasks they spawn"
)]

mod common;
#[path = "common/queued.rs"]
mod queued;

use std::sync::Arc;
use std::sync::mpsc;

use agent_core::store::{Config, Error, Tx, sql};
use agent_core::{Classify, ErrorKind, Retry};
use common::{open, put, stored};
use queued::{hold_writer, ids, open_fast, queue};
use tempfile::TempDir;

#[tokio::test]
async fn a_read_sees_every_write_acknowledged_before() {
    let (db, _dir) = open_fast().await;
    for id in 0..100 {
        db.write(move |tx| put(tx, id, "")).await.unwrap();
        assert_eq!(stored(&db).await.last(), Some(&id));
    }
}

#[tokio::test]
async fn queued_writes_share_commits_and_keep_their_order() {
    let (db, _dir) = open_fast().await;
    let before = db.stats();
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let mut tasks = Vec::new();
    for id in 0..1_000_i64 {
        // Each write tells how many came before it.
        let write = move |tx: &mut Tx<'_>| {
            let n = i64::try_from(ids(tx)?.len()).unwrap_or(-1);
            put(tx, id, "").map(|()| n)
        };
        tasks.push(queue(&db, write).await);
    }
    drop(release);
    for (nth, task) in (0_i64..).zip(tasks) {
        assert_eq!(task.await.unwrap().unwrap(), nth);
    }
    let after = db.stats();
    assert_eq!(after.writes - before.writes, 1_001);
    assert!(
        after.commits - before.commits <= 2,
        "{} commits",
        after.commits - before.commits
    );
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let (db, _dir) = open_fast().await;
    let before = db.stats();
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let n_writes = i64::try_from(Config::BATCH_MAX).unwrap() * 2;
    let mut tasks = Vec::new();
    for id in 0..n_writes {
        tasks.push(queue(&db, move |tx| put(tx, id, "")).await);
    }
    drop(release);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(db.stats().commits - before.commits, 3);
}

#[tokio::test]
async fn a_failing_write_undoes_only_itself() {
    let (db, _dir) = open_fast().await;
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let first = queue(&db, |tx| put(tx, 1, "")).await;
    let failing = queue(&db, |tx| {
        put(tx, 2, "")?;
        put(tx, 1, "again")
    })
    .await;
    let last = queue(&db, |tx| put(tx, 3, "")).await;
    drop(release);
    first.await.unwrap().unwrap();
    let error = failing.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "store.constraint")
    );
    last.await.unwrap().unwrap();
    assert_eq!(stored(&db).await, [1, 3]);
}

#[tokio::test]
async fn a_panicking_write_or_read_fails_alone() {
    let (db, _dir) = open_fast().await;
    let failed: Result<(), Error> = db
        .write(|tx| {
            put(tx, 1, "")?;
            panic!("a bug in a layer")
        })
        .await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Internal);
    let failed: Result<(), Error> = db.read(|_tx| panic!("a bug in a layer")).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Internal);
    db.write(|tx| put(tx, 2, "")).await.unwrap();
    assert_eq!(stored(&db).await, [2]);
}

#[derive(Debug)]
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a bug in a destructor"));
    }
}

#[tokio::test]
async fn an_answer_that_panics_when_dropped_does_not_end_the_threads() {
    let (db, _dir) = open_fast().await;
    for _ in 0..4 {
        let release = hold_writer(&db, |_tx| Ok(())).await;
        let abandoned = queue(&db, |_tx| Ok(PanicsWhenDropped)).await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        drop(release);
        db.write(|_tx| Ok::<_, Error>(())).await.unwrap();
    }
    assert!(stored(&db).await.is_empty());
}

#[tokio::test]
async fn a_caller_that_goes_away_loses_the_answer_and_not_the_effect() {
    let (db, _dir) = open_fast().await;
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let abandoned = queue(&db, |tx| put(tx, 7, "")).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    drop(release);
    db.write(|tx| put(tx, 8, "")).await.unwrap();
    assert_eq!(stored(&db).await, [7, 8]);
}

#[tokio::test]
async fn a_write_cannot_break_the_transaction_it_shares() {
    let (db, _dir) = open_fast().await;
    let forbidden = [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "RELEASE agent_store_write",
        "ROLLBACK TO Agent_Store_Write",
        "PRAGMA synchronous=OFF",
        "PRAGMA Journal_Mode=DELETE",
        "PRAGMA writable_schema=ON",
        "ATTACH ':memory:' AS other",
    ];
    for statement in forbidden {
        let refused = db
            .write(move |tx| {
                put(tx, 1, "")?;
                tx.sql()
                    .prepare_cached(statement)
                    .map(|_| ())
                    .map_err(sql("cheat"))
            })
            .await;
        assert_eq!(
            refused.unwrap_err().kind(),
            ErrorKind::Internal,
            "{statement}"
        );
    }
    assert!(stored(&db).await.is_empty());
    db.write(|tx| {
        let run = |statement| tx.sql().execute_batch(statement).map_err(sql("nest"));
        run("SAVEPOINT mine")?;
        put(tx, 2, "")?;
        run("ROLLBACK TO mine")?;
        put(tx, 3, "")
    })
    .await
    .unwrap();
    assert_eq!(stored(&db).await, [3]);
}

#[tokio::test]
async fn a_read_cannot_write() {
    let (db, _dir) = open_fast().await;
    for statement in [
        "INSERT INTO item VALUES (1, '')",
        "PRAGMA query_only=OFF",
        "COMMIT",
    ] {
        let refused = db
            .read(move |tx| tx.sql().execute_batch(statement).map_err(sql("cheat")))
            .await;
        assert!(refused.is_err(), "{statement}");
    }
    assert!(stored(&db).await.is_empty());
}

#[tokio::test]
async fn a_statement_that_ends_the_transaction_leaves_nothing_and_is_safe_to_repeat() {
    let (db, _dir) = open_fast().await;
    db.write(|tx| put(tx, 1, "")).await.unwrap();
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let neighbour = queue(&db, |tx| put(tx, 2, "")).await;
    let guilty = queue(&db, |tx| {
        tx.sql()
            .execute_batch("INSERT OR ROLLBACK INTO item VALUES (1, 'again')")
            .map_err(sql("insert or roll back"))
    })
    .await;
    let later = queue(&db, |tx| put(tx, 3, "")).await;
    drop(release);
    let error = neighbour.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Safe)
    );
    assert_eq!(
        guilty.await.unwrap().unwrap_err().kind(),
        ErrorKind::Conflict
    );
    later.await.unwrap().unwrap();
    assert_eq!(stored(&db).await, [1, 3]);
    assert_eq!(db.stats().commits_undone, 1);
}

#[tokio::test]
async fn a_full_disk_is_told_to_the_write_that_hit_it() {
    let (db, _dir) = open_fast().await;
    db.write(|tx| {
        tx.sql()
            .query_row("PRAGMA max_page_count=16", [], |_row| Ok(()))
            .map_err(sql("set a quota"))
    })
    .await
    .unwrap();
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let neighbour = queue(&db, |tx| put(tx, 1, "small")).await;
    let guilty = queue(&db, |tx| put(tx, 2, &"x".repeat(1 << 20))).await;
    drop(release);
    let error = guilty.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.retry(), error.code()),
        (ErrorKind::Exhausted, Retry::Safe, "store.disk_full")
    );
    match neighbour.await.unwrap() {
        Ok(()) => assert_eq!(stored(&db).await, [1]),
        Err(error) => {
            assert_eq!(error.retry(), Retry::Safe);
            assert!(stored(&db).await.is_empty());
        }
    }
    db.write(|tx| put(tx, 3, "small")).await.unwrap();
}

#[tokio::test]
async fn a_constraint_broken_at_the_commit_is_safe_to_repeat_for_the_others() {
    let (db, _dir) = open_fast().await;
    db.migrate(
        "deferred",
        &["CREATE TABLE part (
               item INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED) STRICT"],
    )
    .await
    .unwrap();
    let orphan = |tx: &mut Tx<'_>| {
        tx.sql()
            .execute_batch("INSERT INTO part VALUES (99)")
            .map_err(sql("insert a part"))
    };
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let neighbour = queue(&db, |tx| put(tx, 1, "")).await;
    let guilty = queue(&db, orphan).await;
    drop(release);
    for task in [neighbour, guilty] {
        assert_eq!(task.await.unwrap().unwrap_err().retry(), Retry::Safe);
    }
    let alone = db.write(orphan).await.unwrap_err();
    assert_eq!(
        (alone.kind(), alone.retry()),
        (ErrorKind::Conflict, Retry::Never)
    );
    db.write(|tx| put(tx, 1, "")).await.unwrap();
    assert_eq!(stored(&db).await, [1]);
}

#[tokio::test]
async fn the_statements_of_a_read_see_one_snapshot() {
    let (db, _dir) = open_fast().await;
    let (seen_tx, seen) = tokio::sync::oneshot::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let reader = db.clone();
    let read = tokio::task::spawn(async move {
        reader
            .read(move |tx| {
                let before = ids(tx)?;
                let _gone = seen_tx.send(());
                let _released = wait.recv();
                Ok::<_, Error>((before, ids(tx)?))
            })
            .await
    });
    seen.await.unwrap();
    db.write(|tx| put(tx, 1, "")).await.unwrap();
    assert_eq!(stored(&db).await, [1]);
    drop(go_on);
    assert_eq!(read.await.unwrap().unwrap(), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_concurrent_writers_all_get_their_own_answer() {
    let (db, _dir) = open_fast().await;
    let barrier = Arc::new(tokio::sync::Barrier::new(1_000));
    let tasks: Vec<_> = (0..1_000_i64)
        .map(|id| {
            let (db, barrier) = (db.clone(), Arc::clone(&barrier));
            tokio::task::spawn(async move {
                barrier.wait().await;
                db.write(move |tx| put(tx, id, "").map(|()| id)).await
            })
        })
        .collect();
    for (id, task) in (0_i64..).zip(tasks) {
        assert_eq!(task.await.unwrap().unwrap(), id);
    }
    assert_eq!(stored(&db).await, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_closed_store_refuses_calls_on_every_clone() {
    let dir = TempDir::new().unwrap();
    let db = open(common::fast(&dir)).await;
    let clone = db.clone();
    let release = hold_writer(&db, |_tx| Ok(())).await;
    let queued = queue(&db, |tx| put(tx, 1, "")).await;
    let closing = tokio::task::spawn(async move { clone.close().await });
    tokio::task::yield_now().await;
    let refused = db.write(|tx| put(tx, 2, "")).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Canceled, "store.closed")
    );
    assert_eq!(db.read(ids).await.unwrap_err().kind(), ErrorKind::Canceled);
    assert!(!closing.is_finished(), "close waits for the queue");
    drop(release);
    queued.await.unwrap().unwrap();
    closing.await.unwrap();
    db.close().await;
    assert_eq!(stored(&open(common::fast(&dir)).await).await, [1]);
}

#[tokio::test]
async fn the_last_handle_dropped_works_off_the_queue() {
    let dir = TempDir::new().unwrap();
    let db = open(common::fast(&dir)).await;
    let release = hold_writer(&db, |_tx| Ok(())).await;
    for id in 0..100 {
        let abandoned = queue(&db, move |tx| put(tx, id, "")).await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
    }
    drop(db);
    drop(release);
    // The writer holds this lock until it has ended.
    let lock = std::fs::File::open(dir.path().join("store.db.lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock().unwrap())
        .await
        .unwrap();
    let db = open(common::fast(&dir)).await;
    assert_eq!(stored(&db).await, (0..100).collect::<Vec<_>>());
}
