//! Each write of a batch is kept or undone alone, also the first, which has no savepoint around it.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests await the tasks they spawn"
)]

mod common;
#[path = "common/queued.rs"]
mod queued;

use agent_core::store::{Error, Tx, sql};
use agent_core::{Classify, ErrorKind};
use common::{put, stored};
use queued::{hold_writer, ids, open_fast, queue};

#[tokio::test]
async fn failing_writes_before_and_behind_one_that_is_kept_leave_nothing() {
    let (db, _dir) = open_fast().await;
    // One that fails when it has written, as `n`; or one that is kept.
    let write = |n: i64, is_kept: bool| {
        move |tx: &mut Tx<'_>| {
            let before = ids(tx)?;
            put(tx, n, "")?;
            if is_kept {
                return Ok(before);
            }
            put(tx, n, "again").map(|()| before)
        }
    };
    for first in 0..4_i64 {
        let (before, commits) = (stored(&db).await, db.stats().commits);
        // The one that holds the writer has nobody before it.
        let release = hold_writer(&db, write_and_fail).await;
        let mut tasks = Vec::new();
        let base = first * 100;
        for n in 0..4 {
            tasks.push(queue(&db, write(base + n, n == first)).await);
        }
        tasks.push(queue(&db, write(base + 9, true)).await);
        drop(release);
        for (n, task) in (0_i64..).zip(tasks) {
            match task.await.unwrap() {
                Ok(seen) if n == first => assert_eq!(seen, before),
                Ok(seen) => assert_eq!((n, seen.len()), (4, before.len() + 1)),
                Err(error) => assert_eq!((n == first, error.kind()), (false, ErrorKind::Conflict)),
            }
        }
        assert_eq!(stored(&db).await[before.len()..], [base + first, base + 9]);
        assert_eq!(db.stats().commits - commits, 1, "they were one batch");
    }
    assert_eq!(db.stats().commits_undone, 0);
}

fn write_and_fail(tx: &mut Tx<'_>) -> Result<(), Error> {
    put(tx, 1_000, "")?;
    put(tx, 1_000, "again")
}

#[tokio::test]
async fn a_write_that_fails_alone_leaves_nothing_and_the_next_goes_on() {
    let (db, _dir) = open_fast().await;
    for _ in 0..3 {
        let failed = db.write(write_and_fail).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Conflict);
        assert!(db.write(|tx| ids(tx)).await.unwrap().is_empty());
    }
    assert!(stored(&db).await.is_empty());
}

#[tokio::test]
async fn a_savepoint_left_open_is_none_a_neighbour_can_return_to() {
    let (db, _dir) = open_fast().await;
    let run = |tx: &Tx<'_>, statement: &str| {
        let prepared = tx.sql().prepare_cached(statement);
        let done = prepared.and_then(|mut prepared| prepared.execute([]));
        done.map(drop).map_err(sql("use a savepoint"))
    };
    // The first write that has one has no savepoint around it, the second has.
    for id in [1, 2] {
        let release = hold_writer(&db, write_and_fail).await;
        let leaves = queue(&db, move |tx| {
            run(tx, "SAVEPOINT mine")?;
            put(tx, id, "")
        });
        let leaves = leaves.await;
        let cheats = queue(&db, move |tx| {
            put(tx, id + 10, "")?;
            run(tx, "ROLLBACK TO mine")
        });
        let cheats = cheats.await;
        drop(release);
        leaves.await.unwrap().unwrap();
        assert!(cheats.await.unwrap().is_err(), "{id}");
        assert_eq!(stored(&db).await.last(), Some(&id));
    }
    assert_eq!(stored(&db).await, [1, 2]);
}
