//! What each layer costs on this machine, against the plainest way to do the same in the same run.
//!
//! ```text
//! cargo run --release -p examples --bin bench                 every area
//! cargo run --release -p examples --bin bench -- store pay    two of them
//! cargo run --release -p examples --bin bench -- --json       one JSON object per line
//! ```
//!
//! The measure and its baseline take turns within a run and the median of their rounds is printed,
//! so that a busy machine slows both. A ratio above 1 always means: better than the baseline.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program prints its result"
)]

mod host;
mod measure;
mod memory;
mod orch;
mod pay;
mod sandbox;
mod sched;
mod store;
mod supervise;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use host::Bench;
use measure::Measure;

/// Measures the layers, each against the plainest way to do the same.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = MEANINGS)]
struct Cli {
    /// The areas to measure; all of them if none is named.
    #[arg(value_name = "AREA", value_enum)]
    areas: Vec<Area>,
    /// Prints one JSON object per line, with the keys bench, value, unit, baseline and ratio; the
    /// environment goes to standard error.
    #[arg(long)]
    json: bool,
    /// Where the scratch files lie; a disk, not a RAM disk, or the fsyncs cost nothing.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Area {
    /// Group commit, against one transaction per write.
    Store,
    /// A guest from compiled module to exit, against bare wasmtime.
    Sandbox,
    /// Authorize and settle, against one transaction per pair.
    Pay,
    /// Adding and searching, against FTS5 alone and an exact scan.
    Memory,
    /// A journaled step, against one transaction per step.
    Orch,
    /// Claims among few and many tasks, and resuming many runs, against plain statements.
    Sched,
    /// Children started and restarted, against bare tokio tasks.
    Supervise,
}

const MEANINGS: &str = "\
A name is area/measure@size. The ratio is value / baseline where more is better (per second) and
baseline / value where less is better (us, ms, KiB): a ratio above 1 means better than the baseline.

Baselines, all in the same run and with the same durability (WAL, synchronous=FULL):
  store    one connection, one transaction per write, whatever the number of writers
  sandbox  the same guest on bare wasmtime: pooled instances, four host functions, no limits
  pay      one connection, one transaction per authorize+settle pair with as many rows written;
           unlike the ledger it has nothing on disk when the money is about to be spent;
           authorize@1: one row of 100 bytes; @128: one transaction for each authorization
  memory   add: FTS5 insert, one transaction per call; search: FTS5 alone, or embedding and an
           exact scan alone
  orch     one connection, one transaction per step written after it happened; the journal hash-chains
           its records and commits once for a pure step, else before it and after it; open: a run
           with 1,000 events
  sched    claim: one statement that takes the oldest of the most urgent tasks, in one transaction;
           it knows no turns, limits, fences or records. submit: an insert per task, in one
           transaction. recover: a statement per run and one for its tasks, in one transaction
  orch     one connection, one transaction per step written after it happened; the journal writes
           the intent before and the outcome after: two commits, hash-chained
  supervise  tokio tasks with a mailbox each that nobody supervises or records";

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    tokio::select! {
        done = run(&cli) => done,
        // Ending by return lets the scratch directory be removed.
        _asked = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn run(cli: &Cli) -> Result<()> {
    let bench = Bench::new(cli.dir.as_deref())?;
    let environment = bench.environment()?;
    if cli.json {
        eprintln!("{environment}");
    } else {
        println!("{environment}\n\n{}", Measure::heading());
    }
    let mut areas = match cli.areas.as_slice() {
        [] => Area::value_variants().to_vec(),
        some => some.to_vec(),
    };
    areas.sort_unstable();
    areas.dedup();
    for area in areas {
        let measures = match area {
            Area::Store => store::run(&bench).await?,
            Area::Sandbox => sandbox::run(&bench).await?,
            Area::Pay => pay::run(&bench).await?,
            Area::Memory => memory::run(&bench).await?,
            Area::Orch => orch::run(&bench).await?,
            Area::Sched => sched::run(&bench).await?,
            Area::Supervise => supervise::run(&bench).await?,
        };
        for measure in measures {
            if cli.json {
                println!("{}", measure.to_json()?);
            } else {
                println!("{measure}");
            }
        }
    }
    Ok(())
}
