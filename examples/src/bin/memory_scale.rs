//! Memory at a size of choice: how fast it fills, opens and answers.
//!
//! ```text
//! cargo run --release -p examples --bin memory_scale -- --dir DIR --records 1000000
//! ```
//!
//! The texts are made up: twenty words of a vocabulary of 50,000 in which a word's frequency falls
//! with its rank, half of them about the subject of the thread. A store left in DIR is used again,
//! so that a second run measures opening alone.

#![expect(clippy::print_stdout, reason = "a program prints its result")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, sql};
use agent_core::{Env, Principal, Scope};
use agent_memory::backend::{Sqlite, sqlite};
use agent_memory::{Draft, MemoryStore, Namespace, Query, StaticEmbedder};
use anyhow::{Context, Result, ensure};
use clap::Parser;

const VOCABULARY: u64 = 50_000;
const WORDS_PER_TEXT: u64 = 20;
const WORDS_PER_QUERY: usize = 5;
const TEXTS_PER_THREAD: u64 = 20;
const WORDS_PER_SUBJECT: u64 = 100;
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
    let store = open(&env, &path).await?.0;
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
        let start = env.clock.monotonic();
        let is_optimized = store.optimize(&scope, at.clone()).await?;
        let took = env.clock.monotonic().saturating_sub(start);
        println!("optimize  {:.1} s, {is_optimized}", took.as_secs_f64());
    }
    let mut laps = Vec::new();
    for n in 0..cli.searches {
        let query = Query::new(at.clone(), question(n * 7 + 3)).with_limit(HITS);
        let start = env.clock.monotonic();
        let hits = store.search(&scope, query).await?;
        laps.push(env.clock.monotonic().saturating_sub(start));
        ensure!(hits.len() == HITS, "a search found too little");
    }
    laps.sort_unstable();
    println!(
        "search  n {}, p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, resident {} MiB",
        laps.len(),
        percentile(&laps, 50)?,
        percentile(&laps, 95)?,
        percentile(&laps, 99)?,
        resident_mib()?
    );
    Ok(())
}

async fn open(env: &Env, path: &std::path::Path) -> Result<(Sqlite, Db)> {
    let db = Db::open(Config::new(path), env).await?;
    let embedder = Arc::new(StaticEmbedder::new()?);
    let store = Sqlite::open(db.clone(), env.clone(), embedder, sqlite::Config::new()).await?;
    Ok((store, db))
}

/// Adds what is missing, in full batches, each durable before the next.
async fn fill(
    cli: &Cli,
    env: &Env,
    path: &std::path::Path,
    scope: &Scope,
    at: &Namespace,
) -> Result<()> {
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
        let drafts = (n..end)
            .map(|n| Draft::event(text(n)).in_thread(format!("thread {}", n / TEXTS_PER_THREAD)));
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

/// The words of a question that one of the texts answers.
fn question(n: u64) -> String {
    let of = mix(n) % 10_000;
    let text = text(of);
    let words: Vec<&str> = text.split(' ').collect();
    let offset = usize::try_from(mix(n) >> 60).unwrap_or_default() % 4;
    let asked = words.into_iter().skip(offset).step_by(3);
    asked.take(WORDS_PER_QUERY).collect::<Vec<_>>().join(" ")
}

/// Makes up a text that is the same in every run.
fn text(n: u64) -> String {
    let mut words = Vec::new();
    let subject = mix(n / TEXTS_PER_THREAD) % 5_000;
    for k in 0..WORDS_PER_TEXT {
        let x = mix(n * WORDS_PER_TEXT + k);
        let rank = if x & 1 == 0 {
            frequent(x >> 1)
        } else {
            mix(subject * WORDS_PER_SUBJECT + (x >> 1) % WORDS_PER_SUBJECT) % VOCABULARY
        };
        words.push(word(rank));
    }
    words.join(" ")
}

/// A rank drawn so that rank r comes up about as often as 1/r.
fn frequent(x: u64) -> u64 {
    // The exponent is uniform in the logarithm of the vocabulary, as 1/r is.
    let octaves = u64::from(VOCABULARY.ilog2()) + 1;
    let octave = x % octaves;
    let within = (x >> 8) % (1 << octave);
    ((1 << octave) + within - 1).min(VOCABULARY - 1)
}

/// A word by its rank, of syllables.
fn word(rank: u64) -> String {
    const STARTS: [&str; 16] = [
        "b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    ];
    const ENDS: [&str; 8] = ["an", "el", "or", "i", "um", "et", "ar", "o"];
    let (mut left, mut word) = (rank + 128, String::new());
    while left > 0 {
        let (start, end) = (left % 16, left / 16 % 8);
        let pick =
            |of: &[&'static str], n: u64| usize::try_from(n).ok().and_then(|n| of.get(n).copied());
        word.push_str(pick(&STARTS, start).unwrap_or_default());
        word.push_str(pick(&ENDS, end).unwrap_or_default());
        left /= 128;
    }
    word
}

/// Spreads the bits of a number (the finalizer of `SplitMix64`).
const fn mix(n: u64) -> u64 {
    let x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
