//! `agent-memory` against Mem0 in raw mode: the same texts, one after the other. See README.md.

#![expect(clippy::print_stdout, reason = "a program prints its result")]

mod corpus;
mod mem0;
mod ours;

use std::path::PathBuf;
use std::sync::Arc;

use agent_memory::StaticEmbedder;
use anyhow::Result;
use clap::Parser;
use corpus::Corpus;

/// Races agent-memory against Mem0.
#[derive(Debug, Parser)]
struct Cli {
    /// A Python that has mem0ai 2.2.1 and numpy; without it our side runs alone.
    #[arg(long)]
    python: Option<PathBuf>,
    /// How many users there are, each with a namespace (`user_id` in Mem0).
    #[arg(long, default_value_t = 10)]
    users: usize,
    /// How many memories there are in all.
    #[arg(long, default_value_t = 5_900)]
    memories: usize,
    /// How many questions are asked.
    #[arg(long, default_value_t = 500)]
    questions: usize,
    /// Where the stores lie while the race runs; a temporary folder is made in it.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut builder = tempfile::Builder::new();
    builder.prefix("race-mem0-");
    let dir = match &cli.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    };
    let corpus = Corpus::new(cli.users.max(1), cli.memories, cli.questions);
    let embedder = Arc::new(StaticEmbedder::new()?);
    println!(
        "{} memories of {} users, {} questions",
        corpus.texts.len(),
        cli.users,
        corpus.questions.len()
    );
    let theirs = match &cli.python {
        Some(python) => {
            let theirs = mem0::run(python, dir.path(), &corpus, embedder.as_ref()).await?;
            theirs.iter().for_each(|lap| println!("mem0  {lap}"));
            theirs
        }
        None => {
            println!("mem0  skipped: no --python");
            Vec::new()
        }
    };
    let ours = ours::run(dir.path(), &corpus, embedder).await?;
    ours.iter().for_each(|lap| println!("ours  {lap}"));
    let of_theirs = |what: &str| theirs.iter().find(|lap| lap.what == what);
    for lap in &ours {
        match (lap.what.as_str(), of_theirs("add"), of_theirs("search")) {
            ("search", _, Some(theirs)) => println!(
                "search: Mem0's p50 is {:.1} times ours, its p95 {:.1} times",
                theirs.p50_ms / lap.p50_ms,
                theirs.p95_ms / lap.p95_ms
            ),
            (what, Some(theirs), _) if what.starts_with("add") => {
                println!("{what}: {:.1} times Mem0's rate", lap.per_s / theirs.per_s);
            }
            _ => {}
        }
    }
    Ok(())
}
