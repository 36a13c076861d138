//! The journal: pure steps, and steps with an intent before and an outcome after, against one
//! transaction per step; and opening a run.

mod open;

use std::sync::Arc;

use agent_core::{AgentId, Digest, Effect, EffectClass, Env, Principal, RunId, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Claim, ClaimRequest, Intended, Intent, Journal, NewRun, NewTask, Outcome, StepKey, Transition,
};
use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, params};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

const POOL: &str = "workers";
const TABLES: &str = "
    CREATE TABLE step (task INTEGER NOT NULL, ordinal INTEGER NOT NULL, name TEXT NOT NULL,
        outcome TEXT NOT NULL, PRIMARY KEY (task, ordinal)) STRICT;";

/// What the rounds of one side gave.
#[derive(Default)]
struct Side {
    rate: Samples,
    p50: Samples,
    p99: Samples,
}

impl Side {
    fn add(&mut self, steps: &Samples, n_done: u32, took: std::time::Duration) {
        self.rate.push_rate(n_done, took);
        self.p50.push(steps.percentile(50));
        self.p99.push(steps.percentile(99));
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for n_agents in [1, 50] {
        for class in [EffectClass::Pure, EffectClass::Idempotent] {
            measures.extend(steps(bench, n_agents, class).await?);
        }
    }
    measures.extend(open::run(bench).await?);
    Ok(measures)
}

/// Measures steps of one class.
async fn steps(bench: &Bench, n_agents: u32, class: EffectClass) -> Result<[Measure; 3]> {
    let (kind, commits) = match class {
        EffectClass::Pure => ("pure", "one commit a step"),
        _ => ("idempotent", "intend and settle, a commit each"),
    };
    let db = bench.db(&format!("orch-{kind}-{n_agents}.db")).await?;
    let journal: Arc<dyn Journal> = Arc::new(Sqlite::open(db.clone(), bench.env.clone()).await?);
    let agents = enlist(&journal, &bench.env, n_agents).await?;
    let plain = bench.plain(&format!("orch-{kind}-{n_agents}-plain.db"), TABLES)?;
    let plain = Arc::new(Mutex::new(plain));
    let (mut ours, mut baseline) = (Side::default(), Side::default());
    let before = db.stats();
    for round in 0..ROUNDS {
        plain_round(bench, &plain, n_agents, round, &mut baseline).await?;
        journaled_round(bench, &journal, &agents, (round, class), &mut ours).await?;
    }
    let stats = db.stats();
    let n_commits = stats.commits.saturating_sub(before.commits).max(1);
    let per_commit = stats.writes.saturating_sub(before.writes) / n_commits;
    for Agent { scope, claim } in &agents {
        journal
            .finish(scope, &claim.lease, Transition::Release)
            .await?;
    }
    // A fast journal whose chain does not hold is no journal.
    let records = journal.verify().await?.records;
    let chained = format!("power_loss, {records} records verified, {per_commit} writes a commit");
    let named = |what: &str| format!("orch/{what}_{kind}@{n_agents}");
    let rate = Unit::PerSecond("steps/s");
    Ok([
        Measure::of(named("steps"), rate, &ours.rate, &baseline.rate, chained),
        Measure::of(
            named("step_p50"),
            Unit::Millis,
            &ours.p50,
            &baseline.p50,
            commits,
        ),
        Measure::of(
            named("step_p99"),
            Unit::Millis,
            &ours.p99,
            &baseline.p99,
            commits,
        ),
    ])
}

/// An agent with a task it holds.
struct Agent {
    scope: Scope,
    claim: Claim,
}

/// Opens a run with a task for each agent and has it claimed.
async fn enlist(journal: &Arc<dyn Journal>, env: &Env, n_agents: u32) -> Result<Vec<Agent>> {
    let host = Scope::new(Principal::host());
    let new = NewRun::new("bench", Digest::of_bytes(b"bench"), json!({}));
    let run: RunId = journal.open_run(&host, new).await?.id;
    let tasks = (0..n_agents)
        .map(|n| NewTask::new(format!("task-{n}"), POOL, json!({})))
        .collect();
    journal.submit(&host, run, tasks).await?;
    let mut agents = Vec::new();
    for _ in 0..n_agents {
        let id = AgentId::generate(env);
        let scope = Scope::agent(id).with_run(run);
        let request = ClaimRequest::new(run, POOL, id);
        let claim = journal
            .claim(&scope, request)
            .await?
            .context("no task is ready")?;
        agents.push(Agent { scope, claim });
    }
    Ok(agents)
}

/// A round of the journal: all agents take steps, each as fast as its own become durable.
async fn journaled_round(
    bench: &Bench,
    journal: &Arc<dyn Journal>,
    agents: &[Agent],
    (round, class): (u32, EffectClass),
    side: &mut Side,
) -> Result<()> {
    let (start, mut running) = (bench.now(), JoinSet::new());
    for Agent { scope, claim } in agents {
        let (journal, clock) = (Arc::clone(journal), bench.clock());
        let (scope, lease) = (scope.clone(), claim.lease.clone());
        running.spawn(async move {
            let (mut steps, mut n_done) = (Samples::default(), 0_u32);
            while clock.monotonic().saturating_sub(start) < ROUND {
                let begun = clock.monotonic();
                let step = StepKey::new(format!("work-{round}"), n_done);
                let arguments = json!({ "path": "src/lib.rs", "n": n_done });
                let effect = Effect::new("bench.step", "target", class, arguments);
                let intended = journal
                    .intend(&scope, &lease, Intent::new(step, effect))
                    .await?;
                let Intended::Go(pass) = intended else {
                    bail!("the step was taken before")
                };
                let outcome = Outcome::new(Ok(json!({ "found": n_done })));
                journal.settle(&scope, &lease, &pass, outcome).await?;
                steps.push(Unit::Millis.of(clock.monotonic().saturating_sub(begun)));
                n_done += 1;
            }
            Ok((steps, n_done))
        });
    }
    collect(bench, running, start, side).await
}

/// A round of the baseline: as many tasks share the one connection, first come, first served.
async fn plain_round(
    bench: &Bench,
    plain: &Arc<Mutex<Connection>>,
    n_agents: u32,
    round: u32,
    side: &mut Side,
) -> Result<()> {
    let (start, mut running) = (bench.now(), JoinSet::new());
    for agent in 0..n_agents {
        let (plain, clock) = (Arc::clone(plain), bench.clock());
        let task = u64::from(round) << 32 | u64::from(agent);
        running.spawn(async move {
            let (mut steps, mut n_done) = (Samples::default(), 0_u32);
            while clock.monotonic().saturating_sub(start) < ROUND {
                let begun = clock.monotonic();
                let connection = plain.lock().await;
                tokio::task::block_in_place(|| take_step(&connection, task, n_done))?;
                drop(connection);
                steps.push(Unit::Millis.of(clock.monotonic().saturating_sub(begun)));
                n_done += 1;
            }
            Ok((steps, n_done))
        });
    }
    collect(bench, running, start, side).await
}

fn take_step(plain: &Connection, task: u64, ordinal: u32) -> Result<()> {
    let outcome = json!({ "found": ordinal }).to_string();
    plain
        .prepare_cached("INSERT INTO step VALUES (?1, ?2, 'work', ?3)")?
        .execute(params![i64::try_from(task)?, ordinal, outcome])?;
    Ok(())
}

async fn collect(
    bench: &Bench,
    mut running: JoinSet<Result<(Samples, u32)>>,
    start: std::time::Duration,
    side: &mut Side,
) -> Result<()> {
    let (mut steps, mut n_done) = (Samples::default(), 0);
    while let Some(agent) = running.join_next().await {
        let (of_agent, n) = agent??;
        steps.extend(of_agent);
        n_done += n;
    }
    ensure!(n_done > 0, "no step was taken");
    side.add(&steps, n_done, bench.since(start));
    Ok(())
}
