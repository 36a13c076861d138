//! Memory at a size of choice: how fast it fills, opens and answers.
//!
//! ```text
//! cargo run --release -p examples --bin memory_scale -- --dir DIR --records 1000000
//! ```
//!
//! The texts are made up: twenty words of a vocabulary of 50,000 in which a word's frequency falls
//! with its rank, half of them about the subject of the thread. A store left in DIR is used again,
//! so that a second run measures opening alone. `--recall N` measures what share of the ten nearest
//! vectors is found, `--erase` the same once three in ten memories are gone; both look at all
//! vectors for comparison, with an index of their own.

#![expect(clippy::print_stdout, reason = "a program prints its result")]

mod recall;
mod texts;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, sql};
use agent_core::{Env, Principal, Scope, Timestamp};
use agent_memory::backend::{Sqlite, sqlite};
use agent_memory::{Draft, MemoryStore, Namespace, Query, StaticEmbedder};
use anyhow::{Context, Result, ensure};
use clap::Parser;

use texts::{TEXTS_PER_THREAD, question, text};

const HITS: usize = 10;

/// Measures memory at a size of choice.
#[derive(Debug, Parser)]
#[command(name = "memory_scale")]
struct Cli {
    /// Where the store lies; kept, so that a second run measures opening alone.
    #[arg(long)]
    dir: PathBuf,
    /// How many memories one namespace has.
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// How many searches are measured.
    #[arg(long, default_value_t = 500)]
    searches: u64,
    /// Optimizes the namespace before the searches.
    #[arg(long)]
    optimize: bool,
    /// Of how many questions the share of the nearest that is found is measured, after the searches.
    #[arg(long, default_value_t = 0)]
    recall: u64,
    /// Erases three in ten memories and measures that share again. The store is of no use after it.
    #[arg(long, requires = "recall")]
    erase: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let env = Env::system();
    std::fs::create_dir_all(&cli.dir)?;
    let path = cli.dir.join(format!("memory-{}.db", cli.records));
    let (scope, at) = (Scope::new(Principal::host()), Namespace::new("scale")?);
    fill(&cli, &env, &path, &scope, &at).await?;

    let start = env.clock.monotonic();
    let (store, db) = open(&env, &path).await?;
    let first = Query::new(at.clone(), question(1)).with_limit(HITS);
    let hits = store.search(&scope, first).await?;
    let opened = env.clock.monotonic().saturating_sub(start);
    ensure!(hits.len() == HITS, "a search found too little");
    println!(
        "open to first search  {:.2} s, resident {} MiB",
        opened.as_secs_f64(),
        resident_mib()?
    );
    if cli.optimize {
        optimize(&env, &store, &scope, &at).await?;
    }
    search(&cli, &env, &store, &scope, &at).await?;
    if cli.recall > 0 {
        recall::measure(&cli, &env, &store, db, &scope, &at).await?;
    }
    Ok(())
}

async fn optimize(env: &Env, store: &Sqlite, scope: &Scope, at: &Namespace) -> Result<()> {
    let start = env.clock.monotonic();
    let is_optimized = store.optimize(scope, at.clone()).await?;
    let took = env.clock.monotonic().saturating_sub(start);
    println!("optimize  {:.1} s, {is_optimized}", took.as_secs_f64());
    Ok(())
}

/// Measures searches, one after another: how long each takes, and how much of a core.
async fn search(cli: &Cli, env: &Env, store: &Sqlite, scope: &Scope, at: &Namespace) -> Result<()> {
    let (mut laps, mut cores) = (Vec::new(), Vec::new());
    for n in 0..cli.searches {
        let query = Query::new(at.clone(), question(n * 7 + 3)).with_limit(HITS);
        let (start, before) = (env.clock.monotonic(), core_time()?);
        let hits = store.search(scope, query).await?;
        laps.push(env.clock.monotonic().saturating_sub(start));
        cores.push(core_time()?.saturating_sub(before));
        ensure!(hits.len() == HITS, "a search found too little");
    }
    for (what, mut times) in [("search", laps), ("core time of a search", cores)] {
        times.sort_unstable();
        println!(
            "{what}  n {}, p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, resident {} MiB",
            times.len(),
            percentile(&times, 50)?,
            percentile(&times, 95)?,
            percentile(&times, 99)?,
            resident_mib()?
        );
    }
    Ok(())
}

/// What all threads of this process have computed so far, as the scheduler counts it: unlike the
/// time that passes, it grows little where other programs compete for the cores.
fn core_time() -> Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let counts = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let ns = counts.split_whitespace().next();
        sum += ns
            .context("the kernel counts no core time")?
            .parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

async fn open(env: &Env, path: &Path) -> Result<(Sqlite, Db)> {
    let db = Db::open(Config::new(path), env).await?;
    let embedder = Arc::new(StaticEmbedder::new()?);
    let store = Sqlite::open(db.clone(), env.clone(), embedder, sqlite::Config::new()).await?;
    Ok((store, db))
}

/// Adds what is missing, in full batches, each durable before the next.
async fn fill(cli: &Cli, env: &Env, path: &Path, scope: &Scope, at: &Namespace) -> Result<()> {
    let (store, db) = open(env, path).await?;
    let there: i64 = db
        .read(|tx| {
            tx.sql()
                .query_row("SELECT count(*) FROM memory_entry", [], |row| row.get(0))
                .map_err(sql("count the memories"))
        })
        .await?;
    let there = u64::try_from(there)?;
    let (start, mut n) = (env.clock.monotonic(), there);
    while n < cli.records {
        let end = cli.records.min(n + u64::try_from(Draft::BATCH_MAX)?);
        let drafts = (n..end).map(|n| {
            Draft::event(text(n))
                .in_thread(format!("thread {}", n / TEXTS_PER_THREAD))
                .occurred_at(happened(n))
        });
        store.add(scope, at.clone(), drafts.collect()).await?;
        n = end;
        if n.is_multiple_of(100_000) {
            let took = env.clock.monotonic().saturating_sub(start).as_secs();
            println!("{n} after {took} s");
        }
    }
    if n > there {
        let took = env.clock.monotonic().saturating_sub(start);
        let (n, ms) = (n - there, u64::try_from(took.as_millis())?.max(1));
        println!(
            "add  {n} in batches of {}, {}/s",
            Draft::BATCH_MAX,
            n * 1_000 / ms
        );
    }
    db.close().await;
    Ok(())
}

/// When a memory happened: one a minute.
fn happened(n: u64) -> Timestamp {
    Timestamp::from_unix_ms(i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(60_000))
}

fn percentile(laps: &[Duration], percent: usize) -> Result<f64> {
    let n = laps.len() * percent / 100;
    let lap = laps.get(n).context("no searches")?;
    Ok(lap.as_secs_f64() * 1e3)
}

fn resident_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib
        .context("the kernel names no resident memory")?
        .parse::<u64>()?
        / 1_024)
}
