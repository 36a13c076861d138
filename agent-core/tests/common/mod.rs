//! What the store's tests share: a store in a temporary directory with one table.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::Env;
use agent_core::store::{Config, Db, Durability, Error, Tx, sql};
use tempfile::TempDir;

pub const STEPS: &[&str] =
    &["CREATE TABLE item (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT"];

/// Describes a store whose commits do not wait for the disk.
pub fn fast(dir: &TempDir) -> Config {
    Config::new(dir.path().join("store.db")).with_durability(Durability::Nothing)
}

pub async fn open(config: Config) -> Db {
    let db = Db::open(config, &Env::system()).await.unwrap();
    db.migrate("test", STEPS).await.unwrap();
    db
}

pub async fn open_fast() -> (Db, TempDir) {
    let dir = TempDir::new().unwrap();
    (open(fast(&dir)).await, dir)
}

pub fn put(tx: &Tx<'_>, id: i64, body: &str) -> Result<(), Error> {
    tx.sql()
        .prepare_cached("INSERT INTO item (id, body) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute((id, body)))
        .map(|_rows| ())
        .map_err(sql("insert an item"))
}

pub fn ids(tx: &Tx<'_>) -> Result<Vec<i64>, Error> {
    tx.sql()
        .prepare_cached("SELECT id FROM item ORDER BY rowid")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .map_err(sql("list the items"))
}

pub async fn stored(db: &Db) -> Vec<i64> {
    db.read(ids).await.unwrap()
}
