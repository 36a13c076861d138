//! Writes that gather in the queue.

use std::sync::mpsc;

use agent_core::store::{Db, Error, Tx, sql};
use tempfile::TempDir;

use crate::common::{fast, open};

pub(crate) async fn open_fast() -> (Db, TempDir) {
    let dir = TempDir::new().unwrap();
    (open(fast(&dir)).await, dir)
}

pub(crate) fn ids(tx: &Tx<'_>) -> Result<Vec<i64>, Error> {
    tx.sql()
        .prepare_cached("SELECT id FROM item ORDER BY id")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .map_err(sql("list the items"))
}

/// Keeps the writer inside one write until the returned sender is dropped, so that what is
/// written meanwhile gathers in the queue; `last` is what that write then does.
pub(crate) async fn hold_writer(
    db: &Db,
    last: impl FnOnce(&mut Tx<'_>) -> Result<(), Error> + Send + 'static,
) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let db = db.clone();
    let _held = tokio::task::spawn(async move {
        db.write(move |tx| {
            let _gone = entered.send(());
            let _released = held.recv();
            last(tx)
        })
        .await
    });
    inside.await.unwrap();
    release
}

/// Starts a write and lets it reach the queue; writes queued so keep their order.
pub(crate) async fn queue<T: Send + 'static>(
    db: &Db,
    write: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
) -> tokio::task::JoinHandle<Result<T, Error>> {
    let db = db.clone();
    let task = tokio::task::spawn(async move { db.write(write).await });
    tokio::task::yield_now().await;
    task
}
