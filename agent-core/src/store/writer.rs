//! The one thread that writes, and its group commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Statement};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::connect::{self, Confined, SAVEPOINT};
use super::stats::Counters;
use super::{Config, Error, Tx, sql};
use crate::time::Clock;

/// A queued write. Running it answers nothing yet: the answer is sent after the commit.
pub(super) type Job = Box<dyn Write + Send>;

/// A write of any result type, in the two phases the batch needs.
pub(super) trait Write {
    /// Runs the write and returns whether its changes are to be kept.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Sends the answer, or the error that undid the whole batch.
    fn answer(self: Box<Self>, undone: Option<Error>);
}

struct Pending<F, T, E> {
    write: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Write for Pending<F, T, E>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E>,
    E: From<Error>,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(write) = self.write.take() else {
            return false;
        };
        // A panic in one layer's write must not end the thread all layers share.
        let result = catch_unwind(AssertUnwindSafe(|| write(tx)))
            .unwrap_or_else(|_panic| Err(E::from(Error::internal("run a write", "it panicked"))));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, undone: Option<Error>) {
        let result = match (self.result, undone) {
            (Some(Ok(_)) | None, Some(error)) => Err(E::from(error)),
            (Some(result), _) => result,
            (None, None) => Err(E::from(Error::closed())),
        };
        // The caller may be gone: it loses the answer, not the effect.
        let _gone = self.reply.send(result);
    }
}

/// Wraps a write with the channel its answer comes back on.
pub(super) fn job<T, E, F>(write: F) -> (Job, oneshot::Receiver<Result<T, E>>)
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (
        Box::new(Pending {
            write: Some(write),
            result: None,
            reply,
        }),
        answer,
    )
}

/// Starts the writer, which opens the file and hands back the readers' connections: the host's
/// threads never wait for the disk.
pub(super) fn start(
    config: Config,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    queue: mpsc::Receiver<Job>,
    threads: &TaskTracker,
) -> Result<oneshot::Receiver<Result<Vec<Confined>, Error>>, Error> {
    let (opened_tx, opened_rx) = oneshot::channel();
    let running = threads.token();
    let path = config.path.clone();
    std::thread::Builder::new()
        .name("agent-store-writer".to_owned())
        .spawn(move || {
            match connect::open(&config) {
                Ok(opened) => {
                    // Whoever opens the store may be gone by now; the queue then ends at once.
                    let _gone = opened_tx.send(Ok(opened.readers));
                    let writer = Writer {
                        connection: opened.writer,
                        clock,
                        counters,
                    };
                    writer.serve(queue);
                    drop(writer);
                    drop(opened.lock);
                }
                Err(error) => {
                    let _gone = opened_tx.send(Err(error));
                }
            }
            drop(running);
        })
        .map_err(|e| Error::open(Path::new(&path), e))?;
    Ok(opened_rx)
}

struct Writer {
    connection: Confined,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

/// The statements around every write, prepared once and apart from the statement cache, since
/// callers could run what is in the cache unchecked.
struct Controls<'c> {
    connection: &'c Confined,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    savepoint: Statement<'c>,
    undo: Statement<'c>,
    release: Statement<'c>,
}

impl<'c> Controls<'c> {
    fn new(connection: &'c Confined) -> Result<Self, Error> {
        let prepare = |text: &str| {
            let prepared = connection.connection.prepare(text);
            prepared.map_err(sql("prepare the writer"))
        };
        Ok(Self {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            savepoint: prepare(&format!("SAVEPOINT {SAVEPOINT}"))?,
            undo: prepare(&format!("ROLLBACK TO {SAVEPOINT}"))?,
            release: prepare(&format!("RELEASE {SAVEPOINT}"))?,
            connection,
        })
    }

    /// Runs the first write and all that are queued behind it, then commits. On an error nothing
    /// of the batch is kept.
    fn commit_batch(
        &mut self,
        clock: &dyn Clock,
        first: Job,
        queue: &mut mpsc::Receiver<Job>,
        batch: &mut Vec<Job>,
    ) -> Result<(), Error> {
        let mut next = Some(first);
        let mut kept = Kept::Nothing;
        let result = run(&mut self.begin, "begin a transaction").and_then(|()| {
            while let Some(mut job) = next.take() {
                let outcome = match kept {
                    Kept::Nothing => self.run_first(clock, &mut job),
                    Kept::Some | Kept::Last => self.run_behind(clock, &mut job),
                };
                batch.push(job);
                kept = kept.max(outcome?);
                if batch.len() < Config::BATCH_MAX && kept != Kept::Last {
                    next = queue.try_recv().ok();
                }
            }
            run(&mut self.commit, "commit")
        });
        batch.extend(next);
        if result.is_err() && !self.connection.connection.is_autocommit() {
            // The answer is an error either way; a transaction left open would poison the next
            // batch.
            let _undone = self.connection.control("ROLLBACK", "undo a batch");
        }
        result
    }

    /// Runs a write of a transaction in which nothing is kept yet. It needs no savepoint, which would
    /// copy every page the write changes: where the write fails, the whole transaction begins again.
    fn run_first(&mut self, clock: &dyn Clock, job: &mut Job) -> Result<Kept, Error> {
        if self.connection.has_savepoints() {
            return self.run_behind(clock, job);
        }
        if !self.run_job(clock, job)? {
            run(&mut self.rollback, "undo a write")?;
            run(&mut self.begin, "begin a transaction")?;
            return Ok(Kept::Nothing);
        }
        // A savepoint it left open must not be one a neighbour could return to.
        Ok(match self.connection.has_savepoints() {
            true => Kept::Last,
            false => Kept::Some,
        })
    }

    /// Runs a write in a savepoint of its own.
    fn run_behind(&mut self, clock: &dyn Clock, job: &mut Job) -> Result<Kept, Error> {
        run(&mut self.savepoint, "begin a write")?;
        let keep = self.run_job(clock, job)?;
        if !keep {
            run(&mut self.undo, "undo a write")?;
        }
        run(&mut self.release, "end a write")?;
        Ok(if keep { Kept::Some } else { Kept::Nothing })
    }

    /// Runs a write and returns whether its changes are to be kept. An error undoes the batch; a
    /// failing write is no error.
    fn run_job(&self, clock: &dyn Clock, job: &mut Job) -> Result<bool, Error> {
        let now = clock.now();
        let write = |inner: &Connection| job.run(&mut Tx::new(inner, now));
        let keep = self.connection.inside(write).unwrap_or(false);
        if self.connection.connection.is_autocommit() {
            // SQLite itself undoes the whole transaction on a full disk and on some I/O errors.
            return Err(Error::undone());
        }
        Ok(keep)
    }
}

/// What a transaction has kept so far.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// All its writes failed.
    Nothing,
    /// Others may follow.
    Some,
    /// It is to be committed as it is.
    Last,
}

fn run(statement: &mut Statement<'_>, operation: &'static str) -> Result<(), Error> {
    statement.execute([]).map(drop).map_err(sql(operation))
}

impl Writer {
    fn serve(&self, mut queue: mpsc::Receiver<Job>) {
        let mut controls = match Controls::new(&self.connection) {
            Ok(controls) => controls,
            Err(error) => return refuse(queue, &error),
        };
        let mut batch = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let undone = controls
                .commit_batch(self.clock.as_ref(), first, &mut queue, &mut batch)
                .err();
            let n_jobs = batch.len();
            self.counters.count(n_jobs, undone.is_none());
            for job in batch.drain(..) {
                let undone = undone.as_ref().map(|error| error.for_write_of(n_jobs));
                // A destructor or conversion of the caller's own type may panic; the next answer
                // is owed all the same.
                let _panic = catch_unwind(AssertUnwindSafe(|| job.answer(undone)));
            }
        }
        // Everything acknowledged is in the log already. Moving it into the file leaves one whole
        // file behind, whichever connection closes last; if it fails, the next opener does it.
        let _moved = self
            .connection
            .control("PRAGMA wal_checkpoint(TRUNCATE)", "empty the log");
    }
}

/// Answers every write with the reason why there is no writer.
fn refuse(mut queue: mpsc::Receiver<Job>, error: &Error) {
    while let Some(job) = queue.blocking_recv() {
        let _panic = catch_unwind(AssertUnwindSafe(|| job.answer(Some(error.for_write_of(1)))));
    }
}
