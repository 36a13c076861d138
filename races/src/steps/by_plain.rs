//! The plainest way: a row per step, in a transaction of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Clock;
use agent_core::store::Durability;
use anyhow::Result;
use async_trait::async_trait;
use rusqlite::{Connection, params};
use tokio::sync::Mutex;

use super::{Engine, STEPS};
use crate::host::Host;

/// One connection that all agents share, first come, first served.
pub(super) struct Plain {
    clock: Arc<dyn Clock>,
    connection: Mutex<Connection>,
}

impl Plain {
    pub(super) fn open(host: &Host, dir: &Path, durability: Durability) -> Result<Self> {
        let connection = Connection::open(dir.join("plain.db"))?;
        let synchronous = super::pragma(durability);
        connection.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};
             CREATE TABLE step (agent INTEGER NOT NULL, workflow INTEGER NOT NULL,
                 ordinal INTEGER NOT NULL, outcome TEXT NOT NULL,
                 PRIMARY KEY (agent, workflow, ordinal)) STRICT;"
        ))?;
        Ok(Self {
            clock: host.clock(),
            connection: Mutex::new(connection),
        })
    }
}

#[async_trait]
impl Engine for Plain {
    async fn workflow(&self, agent: u32, n: u32) -> Result<Vec<Duration>> {
        let mut laps = Vec::new();
        for ordinal in 0..STEPS {
            let begun = self.clock.monotonic();
            let connection = self.connection.lock().await;
            tokio::task::block_in_place(|| {
                let outcome = super::outcome(ordinal).to_string();
                connection
                    .prepare_cached("INSERT INTO step VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![agent, n, ordinal, outcome])
            })?;
            drop(connection);
            laps.push(self.clock.monotonic().saturating_sub(begun));
        }
        Ok(laps)
    }

    async fn synchronous(&self) -> Result<String> {
        let connection = self.connection.lock().await;
        let found: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        Ok(super::read_back(found))
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
