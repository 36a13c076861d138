//! `durare`: an outcome per step, in the schema of DBOS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Durability;
use anyhow::{Context, Result};
use async_trait::async_trait;
use durare::{
    DurableContext, DurableEngine, Error, SqliteProvider, WorkflowHandle, WorkflowOptions,
};
use serde_json::Value;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::laps::Laps;
use super::{Engine, STEPS};
use crate::host::Host;

/// As `SqliteProvider::connect` has it.
const CONNECTIONS: u32 = 5;
/// As `SqliteProvider::connect` has it.
const BUSY: Duration = Duration::from_secs(5);
/// How long closing waits for workflows that still write down that they ended.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) struct Durare {
    engine: DurableEngine,
    pool: SqlitePool,
    laps: Laps,
}

impl Durare {
    /// Opens the pool as `SqliteProvider::connect` does, but for the durability.
    pub(super) async fn open(host: &Host, dir: &Path, durability: Durability) -> Result<Self> {
        let synchronous = match durability {
            Durability::PowerLoss => SqliteSynchronous::Full,
            Durability::ProcessKill => SqliteSynchronous::Normal,
            _ => SqliteSynchronous::Off,
        };
        let options = SqliteConnectOptions::new()
            .filename(dir.join("durare.db"))
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await?;
        let provider = SqliteProvider::from_pool(pool.clone());
        let laps = Laps::new(host.clock(), STEPS);
        let of_workflows = laps.clone();
        let mut builder = DurableEngine::builder(Arc::new(provider));
        builder.register("steps", move |cx: DurableContext, id: String| {
            let laps = of_workflows.clone();
            async move {
                laps.pass(&id, 0);
                for ordinal in 0..STEPS {
                    let act = || async move { Ok::<Value, Error>(super::outcome(ordinal)) };
                    cx.step("work", act).await?;
                    laps.pass(&id, ordinal + 1);
                }
                Ok(())
            }
        });
        let engine = builder.build().await?;
        engine.launch().await?;
        Ok(Self { engine, pool, laps })
    }
}

#[async_trait]
impl Engine for Durare {
    async fn workflow(&self, agent: u32, n: u32) -> Result<Vec<Duration>> {
        let id = format!("{agent}-{n}");
        let passed = self.laps.start(&id);
        let options = WorkflowOptions::with_id(id.as_str());
        let _handle: WorkflowHandle<()> = self.engine.start("steps", id, options).await?;
        passed.await.context("the workflow ended early")
    }

    async fn synchronous(&self) -> Result<String> {
        let read = sqlx::query_scalar("PRAGMA synchronous");
        Ok(super::read_back(read.fetch_one(&self.pool).await?))
    }

    async fn close(&self) -> Result<()> {
        self.engine.shutdown(DRAIN).await?;
        self.pool.close().await;
        Ok(())
    }
}
