//! All of it: a supervisor runs agents that claim tasks, cause each step through the door (gate,
//! intent, act, outcome, event), and hand the task to a verifier.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Durability;
use agent_core::{Asset, Effect, EffectClass, SecretBytes};
use agent_identity::Unlock;
use agent_orch::{
    Acted, Agent, Ctx, Ended, Fleet, Layers, NewTask, Pool, RunHandle, Stack, StackConfig,
    Supervisor, Task,
};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::laps::Laps;
use super::{Engine, STEPS};
use crate::host::Host;

/// Verifiers: a verification is two transactions, a workflow forty.
const fn n_verifiers(n_agents: u32) -> u32 {
    n_agents.div_ceil(5)
}

#[derive(Debug)]
struct Worker {
    laps: Laps,
    class: EffectClass,
}

#[async_trait]
impl Agent for Worker {
    async fn run(&self, cx: &Ctx, task: &Task) -> agent_orch::Result<Ended> {
        let id = task.input.as_str().unwrap_or_default();
        self.laps.pass(id, 0);
        for ordinal in 0..STEPS {
            let arguments = super::arguments(ordinal);
            let effect = Effect::new("bench.step", "target", self.class, arguments);
            let act = async |_scope| Ok(Acted::new(super::outcome(ordinal)));
            let _found: Value = cx.effect("work", effect, act).await?;
            self.laps.pass(id, ordinal + 1);
        }
        Ok(Ended::done(Value::Null))
    }
}

#[derive(Debug)]
struct Checker;

#[async_trait]
impl Agent for Checker {
    async fn run(&self, _cx: &Ctx, _task: &Task) -> agent_orch::Result<Ended> {
        Ok(Ended::accepted(Value::Null))
    }
}

pub(super) struct Doored {
    stack: Stack,
    handle: RunHandle,
    laps: Laps,
}

impl Doored {
    pub(super) async fn open(
        host: &Host,
        dir: &Path,
        durability: Durability,
        class: EffectClass,
        n_agents: u32,
    ) -> Result<Self> {
        let env = host.env.clone();
        let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone()))?);
        let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, [])?));
        let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
        let rates = RateCard::new("none", Asset::USD)?;
        let config = StackConfig::new(dir, unlock, rates).with_durability(durability);
        let stack = Stack::open(config, env, layers).await?;
        let budget = "1.00 USD".parse()?;
        let work = Pool::new("worker", n_agents, budget)
            .with_verifier("check", None)
            .with_grant("bench.step:target");
        let check = Pool::new("checker", n_verifiers(n_agents), budget);
        let fleet = Fleet::new("races", budget)
            .with_pool("work", work)
            .with_pool("check", check);
        let run = stack.open_run(&fleet, "races", json!({})).await?;
        let laps = Laps::new(host.clock(), STEPS);
        let of_workers = laps.clone();
        let handle = Supervisor::new(stack.clone(), fleet)
            .with_agent("worker", move || Worker {
                laps: of_workers.clone(),
                class,
            })
            .with_agent("checker", || Checker)
            .start(run)
            .await?;
        Ok(Self {
            stack,
            handle,
            laps,
        })
    }
}

#[async_trait]
impl Engine for Doored {
    async fn workflow(&self, agent: u32, n: u32) -> Result<Vec<Duration>> {
        let id = format!("{agent}-{n}");
        let passed = self.laps.start(&id);
        let task = NewTask::new(id.as_str(), "work", json!(id));
        self.handle.submit(vec![task]).await?;
        passed.await.context("the task ended early")
    }

    async fn synchronous(&self) -> Result<String> {
        super::read_back_of(self.stack.db()).await
    }

    async fn close(&self) -> Result<()> {
        self.handle.stop().await;
        self.stack.journal().verify().await?;
        self.stack.close().await;
        Ok(())
    }
}
