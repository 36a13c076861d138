//! How much of the evidence for a question memory finds: LoCoMo's conversations, turn by turn.
//!
//! ```text
//! cargo run --release -p examples --bin locomo -- FILE [--json]
//! ```
//!
//! Each conversation is a namespace of its own, its turns are events with their dates, its sessions
//! are threads, and its speakers are entities. No model is asked. The baseline is SQLite's FTS5
//! with the porter stemmer over the same texts. LoCoMo is for evaluation only (CC BY-NC 4.0); the
//! file is not part of this repository.

#![expect(clippy::print_stdout, reason = "a program prints its result")]

mod data;
mod score;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db};
use agent_core::{Env, Principal, Scope};
use agent_memory::backend::{Sqlite, sqlite};
use agent_memory::{
    ContextBuilder, Draft, MemoryStore, Namespace, Node, Query, Relation, StaticEmbedder,
};
use anyhow::{Context, Result};
use clap::Parser;
use rusqlite::{Connection, params};

use data::Sample;
use score::{K_MAX, Scores};

/// Measures how much of the evidence for LoCoMo's questions memory finds.
#[derive(Debug, Parser)]
#[command(name = "locomo")]
struct Cli {
    /// LoCoMo's file of conversations.
    file: PathBuf,
    /// Prints one JSON object per line.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let text = std::fs::read_to_string(&cli.file)
        .with_context(|| format!("cannot read {}", cli.file.display()))?;
    let samples = data::parse(&text)?;
    let scratch = tempfile::tempdir()?;
    let env = Env::system();
    let db = Db::open(Config::new(scratch.path().join("memory.db")), &env).await?;
    let embedder = Arc::new(StaticEmbedder::new()?);
    let shared = Arc::<StaticEmbedder>::clone(&embedder);
    let store = Sqlite::open(db, env.clone(), shared, sqlite::Config::new()).await?;
    let mut scores = Scores::default();
    for sample in &samples {
        let added = ingest(&store, &env, sample, &mut scores).await?;
        ask(&store, &env, &embedder, sample, &added, &mut scores).await?;
        ask_fts5(sample, &mut scores)?;
    }
    if cli.json {
        scores.print_json()?;
    } else {
        scores.print();
    }
    Ok(())
}

fn namespace(sample: &Sample) -> Result<Namespace> {
    Ok(Namespace::new(&format!("locomo/{}", sample.id))?)
}

/// Adds a conversation turn by turn; each is durable before the next is said.
async fn ingest(
    store: &Sqlite,
    env: &Env,
    sample: &Sample,
    scores: &mut Scores,
) -> Result<Vec<agent_memory::MemoryId>> {
    let (scope, at) = (Scope::new(Principal::host()), namespace(sample)?);
    let mut added = Vec::with_capacity(sample.turns.len());
    for turn in &sample.turns {
        let draft = Draft::event(turn.text.as_str())
            .in_thread(format!("session {}", turn.session))
            .occurred_at(turn.at);
        let (new, took) = timed(env, store.add(&scope, at.clone(), vec![draft])).await;
        added.extend(new?.iter().map(|new| new.id));
        scores.add.push(took);
    }
    let relations: Vec<Relation> = added
        .iter()
        .zip(&sample.turns)
        .map(|(id, turn)| Relation::new(*id, "said by", Node::entity(turn.speaker.as_str())))
        .collect();
    for part in relations.chunks(Relation::BATCH_MAX) {
        store.relate(&scope, at.clone(), part.to_vec()).await?;
    }
    Ok(added)
}

/// Asks every question.
async fn ask(
    store: &Sqlite,
    env: &Env,
    embedder: &Arc<StaticEmbedder>,
    sample: &Sample,
    added: &[agent_memory::MemoryId],
    scores: &mut Scores,
) -> Result<()> {
    let (scope, at) = (Scope::new(Principal::host()), namespace(sample)?);
    for question in &sample.questions {
        let query = Query::new(at.clone(), question.text.as_str()).with_limit(K_MAX);
        let (hits, took) = timed(env, store.search(&scope, query)).await;
        let hits = hits?;
        let place = |hit: &agent_memory::Hit| added.iter().position(|id| *id == hit.memory.id);
        let found: Vec<usize> = hits.iter().filter_map(place).collect();
        scores.search.push(took);
        scores.ours.add(question, &found);
        for (budget, contexts) in &mut scores.contexts {
            let query = Query::new(at.clone(), question.text.as_str()).with_limit(10);
            let counter = Arc::<StaticEmbedder>::clone(embedder);
            let builder = ContextBuilder::of(query).with_counter(counter);
            let context = builder.with_budget(*budget).build(store, &scope).await?;
            let shown = context.items.iter().map(|item| item.memory.id);
            let place = |id| added.iter().position(|other| *other == id);
            let shown: Vec<usize> = shown.filter_map(place).collect();
            contexts.add(question, &shown, context.tokens);
        }
    }
    Ok(())
}

/// Asks every question of FTS5 alone.
fn ask_fts5(sample: &Sample, scores: &mut Scores) -> Result<()> {
    let plain = Connection::open_in_memory()?;
    plain.execute_batch("CREATE VIRTUAL TABLE turn USING fts5(body, tokenize = 'porter')")?;
    for (n, turn) in sample.turns.iter().enumerate() {
        plain
            .prepare_cached("INSERT INTO turn (rowid, body) VALUES (?1, ?2)")?
            .execute(params![i64::try_from(n)?, turn.text])?;
    }
    for question in &sample.questions {
        let words: Vec<String> = question
            .text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| format!("\"{word}\""))
            .collect();
        let mut select = plain
            .prepare_cached("SELECT rowid FROM turn WHERE turn MATCH ?1 ORDER BY rank LIMIT ?2")?;
        let limit = i64::try_from(K_MAX)?;
        let found = select
            .query_map(params![words.join(" OR "), limit], |row| {
                row.get::<_, i64>(0)
            })?
            .map(|row| Ok(usize::try_from(row?)?))
            .collect::<Result<Vec<usize>>>()?;
        scores.fts5.add(question, &found);
    }
    Ok(())
}

async fn timed<T>(env: &Env, work: impl Future<Output = T>) -> (T, Duration) {
    let start = env.clock.monotonic();
    let done = work.await;
    (done, env.clock.monotonic().saturating_sub(start))
}
