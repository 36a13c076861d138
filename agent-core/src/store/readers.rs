//! A few threads that read, each on its own connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::connect::Confined;
use super::{Error, Tx};
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

/// Starts one thread per connection; all share one queue.
pub(super) fn start(
    path: &Path,
    connections: Vec<Confined>,
    clock: &Arc<dyn Clock>,
    queue: mpsc::Receiver<Job>,
    threads: &TaskTracker,
) -> Result<(), Error> {
    let queue = Arc::new(Mutex::new(queue));
    for (n, connection) in connections.into_iter().enumerate() {
        let running = threads.token();
        let (queue, clock) = (Arc::clone(&queue), Arc::clone(clock));
        std::thread::Builder::new()
            .name(format!("agent-store-reader-{n}"))
            .spawn(move || {
                serve(&connection, clock.as_ref(), &queue);
                drop(connection);
                drop(running);
            })
            .map_err(|e| Error::open(path, e))?;
    }
    Ok(())
}

fn serve(connection: &Confined, clock: &dyn Clock, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held while waiting: one reader waits for a job, the others for the lock.
        let next = queue.lock().blocking_recv();
        let Some(job) = next else { return };
        read_once(connection, clock, job);
    }
}

/// Runs one read inside a transaction: without it each statement would see its own snapshot. If
/// the transaction cannot begin, the read's own statements fail and report why.
fn read_once(connection: &Confined, clock: &dyn Clock, job: Job) {
    let _began = connection.control("BEGIN", "begin a read");
    // The answer's own destructor may panic if the caller is gone; the thread serves others.
    let _panic = connection.inside(|inner| job(&Tx::new(inner, clock.now())));
    let _ended = connection.control("COMMIT", "end a read");
}
