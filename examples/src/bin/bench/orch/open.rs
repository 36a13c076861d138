//! Opening a run with a long history, against opening one with a short one.

use std::sync::Arc;

use agent_core::{Digest, Event, Principal, RunId, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{Journal, NewRun};
use anyhow::{Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use crate::host::{Bench, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

const SHORT: u32 = 1_000;
const LONG: u32 = 1_000_000;
/// How many callers append at once, so that a thousand records share a commit.
const N_WRITERS: u32 = 1_000;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    for n_events in [SHORT, LONG] {
        fill(bench, n_events).await?;
    }
    let (mut short, mut long) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        short.push(open(bench, SHORT).await?);
        long.push(open(bench, LONG).await?);
    }
    Ok([(SHORT, &short), (LONG, &long)]
        .map(|(n_events, samples)| {
            let name = format!("orch/open@{n_events}_events");
            Measure::of(name, Unit::Millis, samples, &short, "file, tables and run")
        })
        .into())
}

fn subject() -> NewRun {
    NewRun::new("open", Digest::of_bytes(b"open"), json!({}))
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

/// Appends records to a fresh run.
async fn fill(bench: &Bench, n_events: u32) -> Result<()> {
    let db = bench.db(&format!("open-{n_events}.db")).await?;
    let journal = Arc::new(Sqlite::open(db.clone(), bench.env.clone()).await?);
    let run = journal.open_run(&host(), subject()).await?.id;
    let mut writers = JoinSet::new();
    for _ in 0..N_WRITERS {
        let (journal, clock) = (Arc::clone(&journal), bench.clock());
        writers.spawn(async move {
            let scope = host().with_run(run);
            for n in 0..n_events / N_WRITERS {
                let event = Event::new(&scope, clock.now(), "bench.noted", json!({ "n": n }));
                journal.note(event).await?;
            }
            Ok::<(), agent_orch::Error>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    db.close().await;
    Ok(())
}

/// Opens the file and the run, and returns the milliseconds it took.
async fn open(bench: &Bench, n_events: u32) -> Result<f64> {
    let start = bench.now();
    let db = bench.db(&format!("open-{n_events}.db")).await?;
    let journal = Sqlite::open(db.clone(), bench.env.clone()).await?;
    let run = journal.open_run(&host(), subject()).await?;
    let took = Unit::Millis.of(bench.since(start));
    ensure!(
        run.is_resumed && run.id != RunId::from_bits(0),
        "it is the filled run"
    );
    db.close().await;
    Ok(took)
}
