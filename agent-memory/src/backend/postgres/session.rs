//! A transaction with its walls up: the tenant, and one partition at a time, as settings that
//! row-level security compares every row with.

use agent_core::Timestamp;
use deadpool_postgres::{Client, Transaction};
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::fault::{self, db};
use crate::error::Result;
use crate::namespace::Namespace;

/// Values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Statements see one snapshot and change nothing.
    Read,
    /// Writers of a partition take turns.
    Write,
}

/// A namespace as a transaction found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) partition: i64,
    pub(super) last_seq: i64,
    /// The space of its index of vectors and the number of the last memory in it.
    pub(super) near: Option<(i64, i64)>,
}

/// A transaction of one tenant. Dropped, it is rolled back.
pub(super) struct Session<'c> {
    tx: Transaction<'c>,
    tenant: String,
    mode: Mode,
    pub(super) now: Timestamp,
}

impl<'c> Session<'c> {
    pub(super) async fn begin(
        client: &'c mut Client,
        mode: Mode,
        tenant: &str,
        lock_ms_max: u64,
        now: Timestamp,
    ) -> Result<Self> {
        let level = match mode {
            Mode::Read => IsolationLevel::RepeatableRead,
            // The second of two writers must see what the first one did.
            Mode::Write => IsolationLevel::ReadCommitted,
        };
        let tx = client
            .build_transaction()
            .isolation_level(level)
            .read_only(mode == Mode::Read)
            .start()
            .await
            .map_err(db("begin"))?;
        let session = Self {
            tx,
            tenant: tenant.to_owned(),
            mode,
            now,
        };
        session
            .rows(
                "name the tenant",
                "SELECT set_config('agent_memory.tenant', $1, true),
                     set_config('lock_timeout', $2, true)",
                &[&tenant, &lock_ms_max.to_string()],
            )
            .await?;
        Ok(session)
    }

    /// Enters a namespace: everything after this is about its rows. A writer waits for its turn.
    pub(super) async fn enter(&self, at: &Namespace) -> Result<Option<Found>> {
        let statement = match self.mode {
            Mode::Read => {
                "SELECT id, last_seq, near_space, near_seq FROM memory_partition
                 WHERE tenant = $1 AND namespace = $2"
            }
            Mode::Write => {
                "SELECT id, last_seq, near_space, near_seq FROM memory_partition
                 WHERE tenant = $1 AND namespace = $2
                 FOR NO KEY UPDATE"
            }
        };
        let values: Values<'_> = &[&self.tenant, &at.as_str()];
        let rows = self.rows("find a namespace", statement, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let space: Option<i64> = row.try_get(2).map_err(db("find a namespace"))?;
        let near: Option<i64> = row.try_get(3).map_err(db("find a namespace"))?;
        let found = Found {
            near: space.zip(near),
            partition: row.try_get(0).map_err(db("find a namespace"))?,
            last_seq: row.try_get(1).map_err(db("find a namespace"))?,
        };
        self.rows(
            "name the namespace",
            "SELECT set_config('agent_memory.partition', $1, true)",
            &[&found.partition.to_string()],
        )
        .await?;
        Ok(Some(found))
    }

    /// Enters a namespace, which is created if it is not there.
    pub(super) async fn enter_or_make(&self, at: &Namespace) -> Result<Found> {
        if let Some(found) = self.enter(at).await? {
            return Ok(found);
        }
        self.run(
            "create a namespace",
            "INSERT INTO memory_partition (tenant, namespace) VALUES ($1, $2)
             ON CONFLICT (tenant, namespace) DO NOTHING",
            &[&self.tenant, &at.as_str()],
        )
        .await?;
        let found = self.enter(at).await?;
        found.ok_or_else(|| fault::internal("create a namespace", "it is not there"))
    }

    pub(super) async fn rows(
        &self,
        operation: &'static str,
        statement: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>> {
        let prepared = self
            .tx
            .prepare_cached(statement)
            .await
            .map_err(db(operation))?;
        self.tx
            .query(&prepared, values)
            .await
            .map_err(db(operation))
    }

    pub(super) async fn run(
        &self,
        operation: &'static str,
        statement: &str,
        values: Values<'_>,
    ) -> Result<u64> {
        let prepared = self
            .tx
            .prepare_cached(statement)
            .await
            .map_err(db(operation))?;
        self.tx
            .execute(&prepared, values)
            .await
            .map_err(db(operation))
    }

    /// Makes the transaction hold. If the answer is lost, it may hold all the same.
    pub(super) async fn commit(self) -> Result<()> {
        self.tx.commit().await.map_err(fault::commit)
    }

    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }
}
