//! What the store's tests share: a store in a temporary directory with one table.

use agent_core::Env;
use agent_core::store::{Config, Db, Durability, Error, Tx, sql};
use tempfile::TempDir;

pub(crate) const STEPS: &[&str] =
    &["CREATE TABLE item (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT"];

/// Describes a store whose commits do not wait for the disk.
pub(crate) fn fast(dir: &TempDir) -> Config {
    Config::new(dir.path().join("store.db")).with_durability(Durability::Nothing)
}

pub(crate) async fn open(config: Config) -> Db {
    let db = Db::open(config, &Env::system()).await.unwrap();
    db.migrate("test", STEPS).await.unwrap();
    db
}

pub(crate) fn put(tx: &Tx<'_>, id: i64, body: &str) -> Result<(), Error> {
    tx.sql()
        .prepare_cached("INSERT INTO item (id, body) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute((id, body)))
        .map(|_rows| ())
        .map_err(sql("insert an item"))
}

pub(crate) async fn stored(db: &Db) -> Vec<i64> {
    db.read(|tx| {
        tx.sql()
            .prepare_cached("SELECT id FROM item ORDER BY id")
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
            .map_err(sql("list the items"))
    })
    .await
    .unwrap()
}
