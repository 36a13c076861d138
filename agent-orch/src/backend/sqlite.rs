//! The journal in the embedded store, next to the ledger it commits with.

mod admission;
mod agents;
mod audit;
mod claim;
mod configure;
mod control;
mod drift;
mod due;
mod events;
mod finish;
mod fork;
mod journal;
mod limits;
mod money;
mod outbox;
mod outcomes;
mod queue;
mod reaper;
mod requests;
mod rows;
mod runs;
mod schedules;
mod schema;
mod seen;
mod signals;
mod steps;
mod submit;
mod sweep;
mod tasks;
mod trees;
mod undo;
mod waits;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use agent_core::Env;
use agent_core::store::{Db, Durability, Tx, sql};

use crate::error::Result;
use seen::Seen;

/// The journal on a [`Db`] that also holds the SQLite ledger's tables.
#[derive(Clone)]
pub struct Sqlite {
    db: Db,
    env: Env,
    seen: Arc<Seen>,
    /// When the reaper last looked at everything that waits, in the store's time.
    looked: Arc<AtomicI64>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("db", &self.db)
            .finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Brings the tables of the journal and of the ledger up to date.
    ///
    /// # Errors
    /// The store's: `Unsupported` for a file of a later version, `Corrupt` for a damaged one.
    ///
    /// # Cancel safety
    /// Atomic for each of the two sets of tables; opening again continues.
    pub async fn open(db: Db, env: Env) -> Result<Self> {
        agent_pay::backend::sqlite::migrate(&db).await?;
        db.migrate("agent-orch", schema::STEPS).await?;
        Ok(Self {
            db,
            env,
            seen: Arc::default(),
            looked: Arc::new(AtomicI64::new(i64::MIN)),
        })
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.db.write(write).await
    }

    /// Empties the write-ahead log, which has older copies of the pages of the file, and returns
    /// whether it is empty.
    async fn scrub(&self) -> Result<bool> {
        self.db
            .read(|tx| {
                let is_busy: i64 = tx
                    .sql()
                    .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                    .map_err(sql("empty the write-ahead log"))?;
                Ok(is_busy == 0)
            })
            .await
    }

    fn durability(&self) -> &'static str {
        match self.db.durability() {
            Durability::PowerLoss => "power_loss",
            Durability::ProcessKill => "process_kill",
            _ => "nothing",
        }
    }
}
