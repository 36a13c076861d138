//! The journal alone: an intent before each step and its outcome after, on a lease that is held.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{AgentId, Clock, Digest, Effect, EffectClass, Env, Principal, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Claim, ClaimRequest, Intended, Intent, Journal, NewRun, NewTask, Outcome, StepKey,
};
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde_json::json;

use super::{Engine, STEPS};
use crate::host::Host;

const POOL: &str = "workers";
/// Longer than any round: nobody sends heartbeats here.
const LEASE: Duration = Duration::from_secs(600);

pub(super) struct Journaled {
    clock: Arc<dyn Clock>,
    db: Db,
    journal: Arc<dyn Journal>,
    class: EffectClass,
    agents: Vec<(Scope, Claim)>,
}

impl Journaled {
    pub(super) async fn open(
        host: &Host,
        dir: &Path,
        durability: Durability,
        class: EffectClass,
        n_agents: u32,
    ) -> Result<Self> {
        let config = Config::new(dir.join("orch.db")).with_durability(durability);
        let db = Db::open(config, &host.env).await?;
        let journal: Arc<dyn Journal> = Arc::new(Sqlite::open(db.clone(), host.env.clone()).await?);
        Ok(Self {
            clock: host.clock(),
            agents: enlist(&journal, &host.env, n_agents).await?,
            db,
            journal,
            class,
        })
    }

    async fn step(&self, agent: &(Scope, Claim), n: u32, ordinal: u32) -> Result<()> {
        let (scope, Claim { lease, .. }) = agent;
        let effect = Effect::new(
            "bench.step",
            "target",
            self.class,
            super::arguments(ordinal),
        );
        let intent = Intent::new(StepKey::new(format!("work-{n}"), ordinal), effect);
        let Intended::Go(pass) = self.journal.intend(scope, lease, intent).await? else {
            bail!("the step was taken before");
        };
        let outcome = Outcome::new(Ok(super::outcome(ordinal)));
        Ok(self.journal.settle(scope, lease, &pass, outcome).await?)
    }
}

/// Opens a run with a task for each agent and has it claimed.
async fn enlist(
    journal: &Arc<dyn Journal>,
    env: &Env,
    n_agents: u32,
) -> Result<Vec<(Scope, Claim)>> {
    let host = Scope::new(Principal::host());
    let new = NewRun::new("races", Digest::of_bytes(b"races"), json!({}));
    let run = journal.open_run(&host, new).await?.id;
    let tasks = (0..n_agents).map(|n| NewTask::new(format!("task-{n}"), POOL, json!({})));
    journal.submit(&host, run, tasks.collect()).await?;
    let mut agents = Vec::new();
    for _ in 0..n_agents {
        let id = AgentId::generate(env);
        let scope = Scope::agent(id).with_run(run);
        let mut request = ClaimRequest::new(run, POOL, id);
        request.lease = LEASE;
        let claim = journal.claim(&scope, request).await?;
        agents.push((scope, claim.context("no task is ready")?));
    }
    Ok(agents)
}

#[async_trait]
impl Engine for Journaled {
    async fn workflow(&self, agent: u32, n: u32) -> Result<Vec<Duration>> {
        let agent = self.agents.get(usize::try_from(agent)?);
        let agent = agent.context("no such agent")?;
        let mut laps = Vec::new();
        for ordinal in 0..STEPS {
            let begun = self.clock.monotonic();
            self.step(agent, n, ordinal).await?;
            laps.push(self.clock.monotonic().saturating_sub(begun));
        }
        Ok(laps)
    }

    async fn synchronous(&self) -> Result<String> {
        super::read_back_of(&self.db).await
    }

    async fn close(&self) -> Result<()> {
        // A fast journal whose chain does not hold is no journal.
        self.journal.verify().await?;
        self.db.close().await;
        Ok(())
    }
}
