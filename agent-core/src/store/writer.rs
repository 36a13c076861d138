//! The one thread that writes, and its group commit.

use std::fs::{File, OpenOptions, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Config, Error, Tx, sql};
use crate::time::Clock;

/// Statements kept prepared: more than all layers of a stack use together.
const STATEMENT_CACHE: usize = 256;

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

/// Starts the writer; `opened` tells whether the file could be opened.
pub(super) fn start(
    config: Config,
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Job>,
    opened: oneshot::Sender<Result<(), Error>>,
) -> Result<oneshot::Receiver<()>, Error> {
    let (ended_tx, ended_rx) = oneshot::channel();
    let path = config.path.clone();
    std::thread::Builder::new()
        .name("agent-store-writer".to_owned())
        .spawn(move || {
            let _ended = ended_tx;
            match open(&config) {
                Ok((connection, lock)) => {
                    // Whoever opens the store may be gone by now; the queue then ends at once.
                    let _gone = opened.send(Ok(()));
                    serve(&connection, clock.as_ref(), queue);
                    drop(connection);
                    drop(lock);
                }
                Err(error) => {
                    let _gone = opened.send(Err(error));
                }
            }
        })
        .map_err(|e| Error::open(&path, e))?;
    Ok(ended_rx)
}

fn open(config: &Config) -> Result<(Connection, Option<File>), Error> {
    let lock = if config.is_shared {
        None
    } else {
        Some(take_lock(&config.path)?)
    };
    let connection = connect(config)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok((connection, lock))
}

/// Opens a connection with the store's settings and checks that they took effect, since SQLite
/// ignores a setting it cannot read.
pub(super) fn connect(config: &Config) -> Result<Connection, Error> {
    let connection =
        Connection::open(&config.path).map_err(|source| Error::open(&config.path, source))?;
    connection
        .busy_timeout(Config::BUSY_TIMEOUT)
        .map_err(sql("set the time limit for locks"))?;
    let (synchronous, expected) = config.durability.pragma();
    let settings = format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA foreign_keys=ON;
         PRAGMA temp_store=MEMORY; PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF;"
    );
    connection
        .execute_batch(&settings)
        .map_err(sql("apply the store's settings"))?;
    let effective: i64 = connection
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .map_err(sql("read the store's settings"))?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(sql("read the store's settings"))?;
    if effective != expected || mode != "wal" {
        let found = format!("synchronous={effective} journal_mode={mode}");
        return Err(Error::internal("apply the store's settings", found));
    }
    Ok(connection)
}

fn take_lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))
        .map_err(|source| Error::open(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::open(path, source)),
    }
}

fn serve(connection: &Connection, clock: &dyn Clock, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut done = Vec::new();
        let undone = commit_batch(connection, clock, first, &mut queue, &mut done).err();
        let undone = undone.map(Arc::new);
        for job in done {
            job.answer(undone.as_deref().map(Error::for_neighbour));
        }
    }
}

/// Runs the first write and all that are queued behind it, then commits. On an error nothing of
/// the batch is kept.
fn commit_batch(
    connection: &Connection,
    clock: &dyn Clock,
    first: Job,
    queue: &mut mpsc::Receiver<Job>,
    done: &mut Vec<Job>,
) -> Result<(), Error> {
    let run = |statement: &str, operation| {
        connection
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute([]))
            .map_err(sql(operation))
    };
    let mut next = Some(first);
    if let Err(error) = run("BEGIN IMMEDIATE", "begin a transaction") {
        done.extend(next);
        return Err(error);
    }
    let mut batch = || {
        while let Some(mut job) = next.take() {
            let mut tx = Tx::new(connection, clock.now());
            let outcome = run("SAVEPOINT write", "begin a write").and_then(|_| {
                let keep = job.run(&mut tx);
                if connection.is_autocommit() {
                    // SQLite undoes the whole transaction on a full disk and on some I/O errors.
                    return Err(Error::undone());
                }
                if !keep {
                    run("ROLLBACK TO write", "undo a write")?;
                }
                run("RELEASE write", "end a write")
            });
            done.push(job);
            outcome?;
            if done.len() < Config::BATCH_MAX {
                next = queue.try_recv().ok();
            }
        }
        run("COMMIT", "commit")
    };
    let result = batch();
    if result.is_err() && !connection.is_autocommit() {
        // The answer is an error either way; a transaction left open would poison the next batch.
        let _undone = run("ROLLBACK", "undo a batch");
    }
    result.map(|_| ())
}
