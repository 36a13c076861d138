//! One run of all tasks on a real stack.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Asset, Env, SecretBytes};
use agent_identity::Unlock;
use agent_orch::{
    Action, Backoff, Class, Fleet, Intensity, Layers, NewTask, Pool, Progress, RecoveryTable,
    RunHandle, Rung, Stack, StackConfig, Status, Supervisor,
};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::agents::{Desk, Inspector, Points, Replayer};
use crate::operator;
use crate::trace::{Trace, Traces};
use crate::world::World;

/// How a run ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// How many tasks completed.
    pub(crate) completed: usize,
    /// How many agents crashed and were restarted.
    pub(crate) crashes: u64,
    /// How many questions were answered.
    pub(crate) questions: u64,
    /// How many audit records were verified.
    pub(crate) records: u64,
    /// Whether no money is held.
    pub(crate) is_free: bool,
}

/// Runs all tasks, or the rest of them, in a data directory.
pub(crate) async fn run(
    data: &Path,
    traces: Arc<Traces>,
    world: Arc<World>,
    points: Arc<dyn Points>,
) -> Result<Ended> {
    let fleet = fleet(&traces)?;
    let stack = open(data).await?;
    let run = stack.open_run(&fleet, "traces", json!(null)).await?;
    let desk = Desk {
        world: Arc::clone(&world),
        points,
    };
    let (replayer, inspector) = (desk.clone(), desk);
    let handle = Supervisor::new(stack.clone(), fleet.clone())
        .with_agent("replayer", move || Replayer(replayer.clone()))
        .with_agent("inspector", move || Inspector(inspector.clone()))
        .start(run)
        .await?;
    let task = |trace: &Trace| NewTask::new(trace.key(), "replayers", json!(trace));
    handle
        .submit(traces.tasks.iter().map(task).collect())
        .await?;
    let settled = settle(&handle, &world).await;
    handle.stop().await;
    let (progress, questions) = settled?;
    let audit = stack.journal().verify().await?;
    let balance = stack.balance(&fleet.name, fleet.budget).await?;
    if progress.counts.moving() == 0 {
        handle.end().await?;
    }
    stack.close().await;
    Ok(Ended {
        completed: usize::try_from(progress.counts.of(Status::Completed))?,
        crashes: progress.restarts,
        questions,
        records: audit.records,
        is_free: balance.held.is_zero(),
    })
}

/// Waits for the run and answers what it asks.
async fn settle(handle: &RunHandle, world: &World) -> Result<(Progress, u64)> {
    let mut n_answered = 0;
    loop {
        let progress = handle.settled().await?;
        if let Some((pool, failure)) = progress.quarantined.first_key_value() {
            bail!("the pool {pool} was given up: {failure}");
        }
        match operator::answer(handle, world).await? {
            0 => return Ok((progress, n_answered)),
            n => n_answered += n,
        }
    }
}

/// An agent for each task and one inspector for eight of them.
fn fleet(traces: &Traces) -> Result<Fleet> {
    let budget = "1.00 USD".parse()?;
    let n_agents = u32::try_from(traces.tasks.len())?;
    let mut replayers = Pool::new("replayer", n_agents, budget).with_verifier("inspectors", None);
    for suite in traces.suites() {
        replayers = replayers.with_grant(format!("tool.call:{suite}"));
    }
    let inspectors = Pool::new("inspector", n_agents.div_ceil(8), budget);
    let mut fleet = Fleet::new("dojo", budget)
        .with_pool("replayers", replayers)
        .with_pool("inspectors", inspectors.with_grant("tool.call:look"));
    // A crash says nothing about the work: it goes on in the same round, where each step keeps its
    // key. A new round would be a new intention with new keys.
    let again = vec![
        Rung::new(Action::Retry, Rung::TIMES_MAX),
        Rung::new(Action::Fail, 1),
    ];
    fleet.recovery = RecoveryTable::default().with(Class::Bug, again)?;
    // Every task crashes more often than any task should: three times at each call.
    for pool in fleet.pools.values_mut() {
        pool.recovery.retries_max = Rung::TIMES_MAX;
        pool.limits.tree_retries = Rung::TIMES_MAX;
    }
    fleet.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(4));
    fleet.supervisor.intensity = Intensity::new(u32::MAX, Duration::from_secs(1));
    Ok(fleet)
}

async fn open(data: &Path) -> Result<Stack> {
    let env = Env::system();
    let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone()))?);
    let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, [])?));
    // The directory is thrown away: nothing in it is worth a real key.
    let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
    let rates = RateCard::new("none", Asset::USD)?;
    Ok(Stack::open(StackConfig::new(data, unlock, rates), env, layers).await?)
}
