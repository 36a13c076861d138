//! Opening, refusing and migrating files.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use agent_core::store::{Config, Db, Durability, Error, sql};
use agent_core::{Classify, Env, ErrorKind, Retry};
use common::{STEPS, fast, open, put, stored};
use tempfile::TempDir;

async fn refused(path: impl AsRef<Path>) -> Error {
    let config = Config::new(path.as_ref()).with_durability(Durability::Nothing);
    Db::open(config, &Env::system()).await.unwrap_err()
}

/// Fills a store with a few hundred pages and closes it.
async fn filled(dir: &TempDir) -> std::path::PathBuf {
    let db = open(fast(dir)).await;
    for id in 0..200 {
        db.write(move |tx| put(tx, id, &"x".repeat(4_000)))
            .await
            .unwrap();
    }
    db.close().await;
    db.path().to_owned()
}

#[tokio::test]
async fn one_owner_or_many_sharers() {
    let dir = TempDir::new().unwrap();
    let db = open(fast(&dir)).await;
    let error = refused(dir.path().join("store.db")).await;
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Conflict, Retry::Safe)
    );
    let sharer = Db::open(fast(&dir).with_shared(true), &Env::system()).await;
    assert_eq!(sharer.unwrap_err().code(), "store.in_use");
    db.close().await;

    let (one, two) = (
        open(fast(&dir).with_shared(true)).await,
        open(fast(&dir).with_shared(true)).await,
    );
    one.write(|tx| put(tx, 1, "")).await.unwrap();
    two.write(|tx| put(tx, 2, "")).await.unwrap();
    assert_eq!(
        (stored(&one).await, stored(&two).await),
        (vec![1, 2], vec![1, 2])
    );
    let owner = refused(dir.path().join("store.db")).await;
    assert_eq!(owner.code(), "store.in_use");
}

#[tokio::test]
async fn what_cannot_be_opened_is_told_apart() {
    let dir = TempDir::new().unwrap();
    assert_eq!(refused(dir.path()).await.code(), "store.open");
    assert_eq!(
        refused(dir.path().join("no/such/store.db")).await.kind(),
        ErrorKind::NotFound
    );
    assert_eq!(refused("").await.code(), "store.open");
    assert_eq!(refused("/proc/self/store.db").await.code(), "store.open");
    let garbage = dir.path().join("garbage.db");
    for bytes in [&b"not a database"[..], &[0xAB; 10_000][..]] {
        std::fs::write(&garbage, bytes).unwrap();
        let error = refused(&garbage).await;
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Corrupt, Retry::Never)
        );
        assert_eq!(
            std::fs::read(&garbage).unwrap(),
            bytes,
            "it is left as it was"
        );
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    assert_eq!(refused(&path).await.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_path_is_never_a_uri_or_a_memory_database() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file:x?mode=memory");
    let config = Config::new(&path).with_durability(Durability::Nothing);
    let db = open(config).await;
    db.write(|tx| put(tx, 1, "")).await.unwrap();
    assert!(path.is_file());
}

#[tokio::test]
async fn a_damaged_file_is_found() {
    let dir = TempDir::new().unwrap();
    let path = filled(&dir).await;
    let bytes = std::fs::read(&path).unwrap();

    std::fs::write(&path, bytes.get(..bytes.len() / 2).unwrap()).unwrap();
    assert_eq!(refused(&path).await.kind(), ErrorKind::Corrupt, "truncated");

    let mut flipped = bytes.clone();
    for byte in flipped.iter_mut().skip(8_192).take(16_384) {
        *byte ^= 0x55;
    }
    std::fs::write(&path, &flipped).unwrap();
    let db = Db::open(fast(&dir), &Env::system()).await.unwrap();
    let error = db.verify().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Corrupt, Retry::Never)
    );
    let read: Result<i64, Error> = db
        .read(|tx| {
            let sum = "SELECT sum(length(body)) FROM item";
            tx.sql()
                .query_row(sum, [], |row| row.get(0))
                .map_err(sql("sum"))
        })
        .await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt);
    db.close().await;

    std::fs::write(&path, &bytes).unwrap();
    open(fast(&dir)).await.verify().await.unwrap();
}

#[tokio::test]
async fn migrations_run_once_and_are_checked() {
    const TWO: &[&str] = &[STEPS[0], "ALTER TABLE item ADD COLUMN note TEXT"];
    const ALTERED: &[&str] = &["CREATE TABLE item (id INTEGER PRIMARY KEY) STRICT", TWO[1]];
    let dir = TempDir::new().unwrap();
    let db = open(fast(&dir)).await;
    db.write(|tx| put(tx, 1, "kept")).await.unwrap();
    db.migrate("test", TWO).await.unwrap();
    db.migrate("test", TWO).await.unwrap();
    db.migrate("other", &["CREATE TABLE other_item (id INTEGER) STRICT"])
        .await
        .unwrap();
    let error = db.migrate("test", STEPS).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unsupported, "store.too_new")
    );
    let error = db.migrate("test", ALTERED).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(stored(&db).await, [1]);
}

#[tokio::test]
async fn a_failing_migration_leaves_nothing() {
    const BROKEN: &[&str] = &[
        "CREATE TABLE half (id INTEGER) STRICT",
        "CREATE TABLE half (id)",
    ];
    let dir = TempDir::new().unwrap();
    let db = open(fast(&dir)).await;
    for steps in [BROKEN, &["CREATE TABLE half (id INTEGER) STRICT; COMMIT"]] {
        assert_eq!(
            db.migrate("half", steps).await.unwrap_err().kind(),
            ErrorKind::Internal
        );
    }
    db.migrate("half", &["CREATE TABLE half (id INTEGER) STRICT"])
        .await
        .unwrap();
}

#[tokio::test]
async fn the_settings_are_in_force_at_every_durability() {
    let levels = [
        (Durability::PowerLoss, 2),
        (Durability::ProcessKill, 1),
        (Durability::Nothing, 0),
    ];
    for (durability, synchronous) in levels {
        let dir = TempDir::new().unwrap();
        let db = open(fast(&dir).with_durability(durability)).await;
        assert_eq!(db.durability(), durability);
        let look = |name: &'static str| {
            db.write(move |tx| {
                tx.sql()
                    .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
                    .map_err(sql("look"))
            })
        };
        assert_eq!(look("synchronous").await.unwrap(), synchronous);
        assert_eq!(look("foreign_keys").await.unwrap(), 1);
        assert_eq!(look("trusted_schema").await.unwrap(), 0);
    }
}
