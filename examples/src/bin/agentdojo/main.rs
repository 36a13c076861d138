//! Agents replay real tool traces while they are crashed at every call, and the world they leave
//! is the one they would have left in peace.
//!
//! ```text
//! cargo run --release -p examples --bin agentdojo -- traces.jsonl           crashes at every call
//! cargo run --release -p examples --bin agentdojo -- traces.jsonl --kill    kills the process
//! ```
//!
//! Each line of the file is one task: `{suite, task, calls: [{fn, args, result, err, write}]}`. An
//! agent makes the calls against a world that remembers every write; another one compares what the
//! world has with the trace. All tasks run once in peace and once with a crash before each effect,
//! between each effect and its outcome, and after each outcome. A world that takes a write twice
//! for one intention, misses one or has them in another order makes the program fail.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program prints its result"
)]

mod agents;
mod kill;
mod operator;
mod run;
mod trace;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use agent_core::{EntropyExt, Env};
use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::json;

use agents::{Crashes, Points};
use run::Ended;
use trace::Traces;
use world::World;

/// Replays tool traces under crashes and compares the worlds.
#[derive(Debug, Parser)]
#[command(name = "agentdojo")]
struct Cli {
    /// The traces, one JSON object a line.
    file: PathBuf,
    /// Kill the whole process at random moments until the work is done.
    #[arg(long)]
    kill: bool,
    /// The seed of the moments to kill at. Default: drawn and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Work in this directory and say each point that is passed: what `--kill` runs and kills.
    #[arg(long, hide = true, value_name = "DIR")]
    child: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(&Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: &Cli) -> Result<()> {
    let traces = Arc::new(Traces::read(&cli.file)?);
    if let Some(dir) = &cli.child {
        return kill::child(dir, traces).await;
    }
    let env = Env::system();
    let seed = cli.seed.unwrap_or_else(|| env.entropy.next_u64());
    let started = env.clock.monotonic();
    let calm_world = Arc::new(World::in_memory());
    let calm = in_memory(&traces, &calm_world, Arc::new(Crashes::none())).await?;
    check(&traces, "in peace", &calm, &calm_world)?;
    let (disturbed, world, n_kills) = if cli.kill {
        if !cli.json {
            println!("seed {seed}");
        }
        let killed = kill::until_done(&cli.file, &traces, seed)?;
        (killed.ended, Arc::new(killed.world), killed.n_kills)
    } else {
        let world = Arc::new(World::in_memory());
        let crashes = Arc::new(Crashes::everywhere(&traces));
        let ended = in_memory(&traces, &world, Arc::<Crashes>::clone(&crashes)).await?;
        let left = crashes.left();
        ensure!(left == 0, "{left} planned crashes did not happen");
        (ended, world, 0)
    };
    check(&traces, "under crashes", &disturbed, &world)?;
    ensure!(world.log() == calm_world.log(), "the write logs differ");
    ensure!(
        world.state() == calm_world.state(),
        "the final states differ"
    );
    let took = env.clock.monotonic().saturating_sub(started);
    report(cli, &traces, &calm, &disturbed, &world, n_kills);
    if !cli.json {
        println!("{:>9.1} s in all", took.as_secs_f64());
    }
    Ok(())
}

async fn in_memory(
    traces: &Arc<Traces>,
    world: &Arc<World>,
    points: Arc<dyn Points>,
) -> Result<Ended> {
    let dir = tempfile::tempdir()?;
    run::run(dir.path(), Arc::clone(traces), Arc::clone(world), points).await
}

/// A run is right if every task completed, the world has what the traces say, nothing is held any
/// more and the audit chain verified.
fn check(traces: &Traces, when: &str, ended: &Ended, world: &World) -> Result<()> {
    let (done, wanted) = (ended.completed, traces.tasks.len());
    ensure!(done == wanted, "{when}: {done} of {wanted} tasks completed");
    let (log, expected) = (world.log(), traces.writes());
    for (task, writes) in &expected {
        let found = log.get(task).map_or(&[][..], Vec::as_slice);
        ensure!(
            found == writes.as_slice(),
            "{when}: {task} wrote\n  {}\nand not\n  {}",
            found.join("\n  "),
            writes.join("\n  ")
        );
    }
    ensure!(log.len() == expected.len(), "{when}: somebody else wrote");
    ensure!(ended.is_free, "{when}: money is still held");
    Ok(())
}

fn report(cli: &Cli, traces: &Traces, calm: &Ended, ended: &Ended, world: &World, n_kills: u64) {
    let (tasks, calls, writes) = (traces.tasks.len(), traces.n_calls(), traces.n_writes());
    if cli.json {
        let line = json!({
            "tasks": tasks, "calls": calls, "writes": writes, "crashes": ended.crashes,
            "kills": n_kills, "questions": ended.questions, "asked_again": world.asked_again(),
            "records": ended.records, "records_in_peace": calm.records, "state": world.state(),
            "equal": true,
        });
        println!("{line}");
        return;
    }
    println!("{tasks:>9} tasks with {calls} calls, {writes} of which change the world");
    if cli.kill {
        println!("{n_kills:>9} times the process was killed");
    } else {
        let (crashes, again) = (ended.crashes, world.asked_again());
        println!("{crashes:>9} crashes, three at every call and at every look of an inspector");
        println!("{again:>9} calls came again under a key the world knew");
        println!(
            "{:>9} questions whether a call had happened",
            ended.questions
        );
    }
    println!("{:>9} audit records verified", ended.records);
    for (suite, state) in world.state() {
        println!("{suite:>9} {state}");
    }
    println!("    equal: the write logs and final states with and without crashes");
}
