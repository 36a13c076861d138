//! `agent-orch` against its peers, in one run on one machine.
//!
//! ```text
//! cargo run --release --manifest-path races/Cargo.toml                    both races
//! cargo run --release --manifest-path races/Cargo.toml -- steps           one of them
//! cargo run --release --manifest-path races/Cargo.toml -- --json          one JSON object per line
//! ```
//!
//! The contestants take turns within a run and the median of their rounds is printed, so that a
//! busy machine slows all. What is not like for like stands in the README.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program prints its result"
)]

mod actors;
mod host;
mod measure;
mod steps;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use host::Host;
use measure::Measure;

/// Races agent-orch against duroxide, durare, ractor and kameo.
#[derive(Debug, Parser)]
#[command(name = "races")]
struct Cli {
    #[command(subcommand)]
    race: Option<Race>,
    /// Prints one JSON object per line, with the keys bench, value, unit, baseline and ratio; the
    /// environment goes to standard error.
    #[arg(long, global = true)]
    json: bool,
    /// Where the scratch files lie; a disk, not a RAM disk, or the fsyncs cost nothing.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often each contestant has its turn.
    #[arg(long, global = true, value_name = "N", default_value_t = 5)]
    rounds: u32,
}

#[derive(Clone, Debug, Subcommand)]
enum Race {
    /// Journaled steps, at the same durability.
    Steps,
    /// Supervised actors: spawning, memory, restarting.
    Actors,
    /// One contestant takes steps, for whoever traces the process.
    #[command(hide = true)]
    SoloSteps {
        contestant: String,
        durability: String,
        n_agents: u32,
        n_workflows: u32,
    },
    /// One contestant spawns and restarts, in a process of its own.
    #[command(hide = true)]
    SoloActors { contestant: String },
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    // duroxide installs a logger unless there is one; nobody is to pay for it.
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default())?;
    tokio::select! {
        done = run(cli) => done,
        // Ending by return lets the scratch directory be removed.
        _asked = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn run(cli: Cli) -> Result<()> {
    let host = Host::new(cli.dir, cli.rounds)?;
    match &cli.race {
        Some(Race::SoloSteps {
            contestant,
            durability,
            n_agents,
            n_workflows,
        }) => return steps::solo(&host, contestant, durability, *n_agents, *n_workflows).await,
        Some(Race::SoloActors { contestant }) => {
            println!("{}", actors::solo(&host, contestant).await?);
            return Ok(());
        }
        _ => {}
    }
    let environment = host.environment();
    if cli.json {
        eprintln!("{environment}");
    } else {
        println!("{environment}\n\n{}", Measure::heading());
    }
    let mut measures = Vec::new();
    if !matches!(cli.race, Some(Race::Actors)) {
        measures.extend(steps::run(&host).await?);
    }
    if !matches!(cli.race, Some(Race::Steps)) {
        measures.extend(actors::run(&host).await?);
    }
    for measure in measures {
        if cli.json {
            println!("{}", measure.to_json()?);
        } else {
            println!("{measure}");
        }
    }
    Ok(())
}
