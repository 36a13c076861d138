//! `duroxide`: the history of an orchestration, replayed at each turn.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{Runtime, RuntimeOptions};
use duroxide::{ActivityContext, Client, OrchestrationContext, OrchestrationRegistry};
use rusqlite::Connection;

use super::laps::Laps;
use super::{Engine, STEPS};
use crate::host::Host;

/// What `RuntimeOptions::default` has.
pub(super) const POLL_DEFAULT: Duration = Duration::from_millis(100);
/// What `tokio`'s timer can do.
pub(super) const POLL_SHORTEST: Duration = Duration::from_millis(1);
/// How long closing waits for what is in flight.
const DRAIN_MS: u64 = 2_000;

pub(super) struct Duroxide {
    client: Client,
    runtime: Arc<Runtime>,
    laps: Laps,
}

impl Duroxide {
    pub(super) async fn open(
        host: &Host,
        dir: &Path,
        poll: Duration,
        n_agents: u32,
    ) -> Result<Self> {
        let url = format!("sqlite:{}?mode=rwc", dir.join("duroxide.db").display());
        let store = Arc::new(SqliteProvider::new(&url, None).await?);
        let activities = ActivityRegistry::builder()
            .register("work", |_cx: ActivityContext, input: String| async move {
                let ordinal = input.parse().map_err(|_not_a_number| "no number")?;
                Ok(super::outcome(ordinal).to_string())
            })
            .build();
        let laps = Laps::new(host.clock(), STEPS);
        let of_workflows = laps.clone();
        let steps = move |cx: OrchestrationContext, id: String| {
            let laps = of_workflows.clone();
            async move {
                laps.pass(&id, 0);
                for ordinal in 0..STEPS {
                    cx.schedule_activity("work", ordinal.to_string()).await?;
                    laps.pass(&id, ordinal + 1);
                }
                Ok(String::new())
            }
        };
        let orchestrations = OrchestrationRegistry::builder()
            .register("steps", steps)
            .build();
        let mut options = RuntimeOptions {
            dispatcher_min_poll_interval: poll,
            ..RuntimeOptions::default()
        };
        // The shortest poll goes with more dispatchers, as its documentation advises for more
        // workflows at a time; the defaults stay the defaults.
        if poll == POLL_SHORTEST && n_agents > 1 {
            (
                options.orchestration_concurrency,
                options.worker_concurrency,
            ) = (4, 8);
        }
        let runtime =
            Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
        Ok(Self {
            client: Client::new(store),
            runtime,
            laps,
        })
    }
}

#[async_trait]
impl Engine for Duroxide {
    async fn workflow(&self, agent: u32, n: u32) -> Result<Vec<Duration>> {
        let id = format!("{agent}-{n}");
        let passed = self.laps.start(&id);
        self.client
            .start_orchestration(id.as_str(), "steps", id.as_str())
            .await?;
        passed.await.context("the orchestration ended early")
    }

    /// Its connections are its own: what it tells them is told to another one.
    async fn synchronous(&self) -> Result<String> {
        let probe = Connection::open_in_memory()?;
        probe.execute_batch("PRAGMA synchronous = WAL")?;
        let found = probe.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        Ok(format!(
            "{} from `PRAGMA synchronous = WAL` on a connection of ours",
            super::read_back(found)
        ))
    }

    async fn close(&self) -> Result<()> {
        Arc::clone(&self.runtime).shutdown(Some(DRAIN_MS)).await;
        Ok(())
    }
}
