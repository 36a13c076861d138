//! A few threads that read, each on its own connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Config, Error, Tx, sql, writer};
use crate::time::Clock;

/// A queued read, which answers by itself.
pub(super) type Job = Box<dyn FnOnce(&Tx<'_>) + Send>;

/// Wraps a read with the channel its answer comes back on.
pub(super) fn job<T, E, F>(read: F) -> (Job, oneshot::Receiver<Result<T, E>>)
where
    F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job = move |tx: &Tx<'_>| {
        let result = catch_unwind(AssertUnwindSafe(|| read(tx)))
            .unwrap_or_else(|_panic| Err(E::from(Error::internal("run a read", "it panicked"))));
        // The caller may be gone, then nobody wants the answer.
        let _gone = reply.send(result);
    };
    (Box::new(job), answer)
}

/// Starts the readers, which share one queue.
pub(super) fn start(
    config: &Config,
    clock: &Arc<dyn Clock>,
    queue: mpsc::Receiver<Job>,
) -> Result<Vec<oneshot::Receiver<()>>, Error> {
    let queue = Arc::new(Mutex::new(queue));
    let mut ended = Vec::new();
    for n in 0..config.n_readers {
        let connection = writer::connect(config)?;
        connection
            .execute_batch("PRAGMA query_only=ON")
            .map_err(sql("make a connection read-only"))?;
        let (ended_tx, ended_rx) = oneshot::channel();
        let (queue, clock) = (Arc::clone(&queue), Arc::clone(clock));
        std::thread::Builder::new()
            .name(format!("agent-store-reader-{n}"))
            .spawn(move || {
                let _ended = ended_tx;
                serve(&connection, clock.as_ref(), &queue);
            })
            .map_err(|e| Error::open(&config.path, e))?;
        ended.push(ended_rx);
    }
    Ok(ended)
}

fn serve(connection: &Connection, clock: &dyn Clock, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held while waiting: one reader waits for a job, the others for the lock.
        let next = queue.lock().blocking_recv();
        let Some(job) = next else { return };
        // Without the transaction each statement of the read would see its own snapshot. If it
        // cannot begin, the job's own statements fail and report why.
        let _began = connection.execute_batch("BEGIN");
        job(&Tx::new(connection, clock.now()));
        let _ended = connection.execute_batch("COMMIT");
    }
}
