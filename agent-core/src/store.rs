//! The embedded store: one SQLite file, one writer thread with group commit, a few readers.
//!
//! ```text
//!  callers ──► bounded queue ──► writer thread:  BEGIN IMMEDIATE
//!                                                 write 1
//!                                                 savepoint · write 2 · release     until the queue
//!                                                 …                                 is empty
//!                                                COMMIT (one fsync) ──► all callers
//! ```
//!
//! While one commit waits for the disk the next batch gathers in the queue, so fifty callers cost
//! little more than one and a single caller never waits for a timer.

mod connect;
mod error;
mod migrate;
mod readers;
mod stats;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::env::Env;
use crate::time::{Clock, Timestamp};

pub use error::{Error, sql};
pub use stats::Stats;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// Power loss and everything below: each commit waits for the disk (`synchronous=FULL`).
    #[default]
    PowerLoss,
    /// The end of the process at any moment, not of the machine (`synchronous=NORMAL` in WAL mode).
    ProcessKill,
    /// Nothing is promised (`synchronous=OFF`); for tests and scratch data.
    Nothing,
}

impl Durability {
    const fn pragma(self) -> (&'static str, i64) {
        match self {
            Self::PowerLoss => ("FULL", 2),
            Self::ProcessKill => ("NORMAL", 1),
            Self::Nothing => ("OFF", 0),
        }
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    path: PathBuf,
    durability: Durability,
    is_shared: bool,
    n_readers: usize,
}

impl Config {
    /// The most writes waiting for the writer; a full queue makes callers wait.
    pub const QUEUE_MAX: usize = 4_096;
    /// The most writes in one commit, so that the first of them is not kept waiting for ever.
    pub const BATCH_MAX: usize = 1_024;
    /// How long a connection waits for another process's lock.
    pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    /// Describes the store at `path`: durability `PowerLoss`, one process at a time, 2 readers.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::default(),
            is_shared: false,
            n_readers: 2,
        }
    }

    /// Sets what acknowledged writes survive. Default: `PowerLoss`.
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Lets several processes open the file at once. Default: only one may.
    #[must_use]
    pub const fn with_shared(mut self, is_shared: bool) -> Self {
        self.is_shared = is_shared;
        self
    }

    /// Sets the number of reader threads, at least one. Default: 2, the cores of a small machine.
    #[must_use]
    pub const fn with_readers(mut self, n_readers: usize) -> Self {
        self.n_readers = if n_readers == 0 { 1 } else { n_readers };
        self
    }
}

/// A transaction: the connection and the time the store gives its writes.
///
/// A write shares a transaction with other writes and is undone alone if it fails. Statements that
/// would break that are refused: those that begin, commit or roll back a transaction, change the
/// store's settings, or attach files. Savepoints of a write's own are allowed.
pub struct Tx<'c> {
    connection: &'c rusqlite::Connection,
    now: Timestamp,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl<'c> Tx<'c> {
    pub(crate) const fn new(connection: &'c rusqlite::Connection, now: Timestamp) -> Self {
        Self { connection, now }
    }

    /// Returns the connection, for statements. Use `prepare_cached`.
    #[must_use]
    pub const fn sql(&self) -> &'c rusqlite::Connection {
        self.connection
    }

    /// Returns the store's time for this write; leases and expiries use it, so that workers with
    /// wrong clocks cannot disagree.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }
}

/// A handle to an open store. Cheap to clone; the last one dropped ends the threads after the
/// queue is worked off.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    durability: Durability,
    clock: Arc<dyn Clock>,
    counters: Arc<stats::Counters>,
    threads: TaskTracker,
    queues: Mutex<Option<Queues>>,
}

struct Queues {
    writer: mpsc::Sender<writer::Job>,
    readers: mpsc::Sender<readers::Job>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("path", &self.inner.path)
            .field("durability", &self.inner.durability)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// Opens or creates the store and starts its threads. The directory must exist.
    ///
    /// Opening takes the lock `<path>.lock`, alone or with other processes as the configuration
    /// says, then recovers what a killed process left in the write-ahead log. The lock is held
    /// until [`Db::close`] returns or the threads of the last handle have ended.
    ///
    /// # Errors
    /// `Conflict` if the store is already open, `Corrupt` if the file is damaged or not a store,
    /// `NotFound`, `Denied` or `Unavailable` if it cannot be opened, `Exhausted` if the disk is
    /// full.
    ///
    /// # Cancel safety
    /// Cancel safe: a store nobody waits for closes again.
    pub async fn open(mut config: Config, env: &Env) -> Result<Self, Error> {
        // Later changes of the working directory must not move the store.
        config.path = std::path::absolute(&config.path)
            .map_err(|source| Error::open_io(&config.path, source))?;
        let (path, durability) = (config.path.clone(), config.durability);
        let (writer, writer_queue) = mpsc::channel(Config::QUEUE_MAX);
        let (readers, readers_queue) = mpsc::channel(Config::QUEUE_MAX);
        let (clock, threads) = (Arc::clone(&env.clock), TaskTracker::new());
        let counters = Arc::new(stats::Counters::default());
        let opened = writer::start(
            config,
            Arc::clone(&clock),
            Arc::clone(&counters),
            writer_queue,
            &threads,
        )?;
        let connections = opened.await.map_err(|_ended| Error::closed())??;
        readers::start(&path, connections, &clock, readers_queue, &threads)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                durability,
                clock,
                counters,
                threads,
                queues: Mutex::new(Some(Queues { writer, readers })),
            }),
        })
    }

    /// Runs a write and returns when it is as durable as the store promises.
    ///
    /// Writes run one after another in the order they were queued. If `write` fails, its changes
    /// are rolled back and those of its neighbours in the commit stay.
    ///
    /// # Errors
    /// Those of `write`; the store's own, converted: `Exhausted` for a full disk, `Unavailable`
    /// for a lock held too long, `Corrupt`, `Canceled` after [`Db::close`].
    ///
    /// # Cancel safety
    /// Atomic: dropping the future before it is queued does nothing; afterwards the write happens
    /// and only its answer is lost.
    pub async fn write<T, E, F>(&self, write: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let queue = self
            .queue(|queues| queues.writer.clone())
            .map_err(E::from)?;
        let (job, answer) = writer::job(write);
        queue
            .send(job)
            .await
            .map_err(|_closed| E::from(Error::closed()))?;
        drop(queue);
        answer
            .await
            .unwrap_or_else(|_ended| Err(E::from(Error::closed())))
    }

    /// Runs a read on a consistent snapshot that includes every write acknowledged before.
    ///
    /// # Errors
    /// Those of `read`; the store's own, converted, as for [`Db::write`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn read<T, E, F>(&self, read: F) -> Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let queue = self
            .queue(|queues| queues.readers.clone())
            .map_err(E::from)?;
        let (job, answer) = readers::job(read);
        queue
            .send(job)
            .await
            .map_err(|_closed| E::from(Error::closed()))?;
        drop(queue);
        answer
            .await
            .unwrap_or_else(|_ended| Err(E::from(Error::closed())))
    }

    /// Brings a layer's tables up to its newest version: `steps[n]` leads from version `n` to
    /// `n + 1`. All steps that are missing run in one transaction.
    ///
    /// # Errors
    /// `Unsupported` if the file was written by a later version, `Corrupt` if an applied step
    /// differs from the given one.
    ///
    /// # Cancel safety
    /// Atomic, as [`Db::write`].
    pub async fn migrate(
        &self,
        layer: &'static str,
        steps: &'static [&'static str],
    ) -> Result<(), Error> {
        self.write(move |tx| migrate::apply(tx, layer, steps)).await
    }

    /// Reads every page and checks the structure of tables and indexes.
    ///
    /// # Errors
    /// `Corrupt` with the first damage found.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn verify(&self) -> Result<(), Error> {
        self.read(|tx| {
            let found: String = tx
                .sql()
                .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
                .map_err(sql("check the file"))?;
            if found == "ok" {
                Ok(())
            } else {
                Err(Error::damaged(found))
            }
        })
        .await
    }

    /// Returns what acknowledged writes survive.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.inner.durability
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns the store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Returns how many writes shared how many commits.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.counters.read()
    }

    /// Works off the queue, ends the threads and releases the file. Later calls on any clone fail
    /// with `Canceled`.
    ///
    /// # Cancel safety
    /// Cancel safe: the store closes whether or not this future is awaited to its end.
    pub async fn close(&self) {
        drop(self.inner.queues.lock().take());
        self.inner.threads.close();
        self.inner.threads.wait().await;
    }

    fn queue<Q>(&self, pick: impl FnOnce(&Queues) -> Q) -> Result<Q, Error> {
        self.inner
            .queues
            .lock()
            .as_ref()
            .map(pick)
            .ok_or_else(Error::closed)
    }
}
