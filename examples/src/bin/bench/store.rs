//! The embedded store: group commit against one transaction per write.

use agent_core::store::{Db, Error, Tx, sql};
use anyhow::Result;
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

const TABLES: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT";
const INSERT: &str = "INSERT INTO item (body) VALUES (?1)";
/// What one write stores: about an audit record.
const BODY: [u8; 200] = [0x5a; 200];

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for n_writers in [1, 50, 1_000] {
        let db = bench.db(&format!("store-{n_writers}.db")).await?;
        db.migrate("bench", &[TABLES]).await?;
        let plain = bench.plain(&format!("store-{n_writers}-plain.db"), TABLES)?;
        let (mut ours, mut baseline) = (Samples::default(), Samples::default());
        let before = db.stats();
        for _ in 0..ROUNDS {
            one_by_one(bench, &plain, &mut baseline)?;
            together(bench, &db, n_writers, &mut ours).await?;
        }
        let (stats, unit) = (db.stats(), Unit::PerSecond("writes/s"));
        let n_commits = stats.commits.saturating_sub(before.commits).max(1);
        let per_commit = stats.writes.saturating_sub(before.writes) / n_commits;
        let environment = format!("power_loss, {per_commit} writes a commit");
        let name = format!("store/group_commit@{n_writers}");
        measures.push(Measure::of(name, unit, &ours, &baseline, environment));
        db.close().await;
    }
    Ok(measures)
}

/// A round of the baseline.
fn one_by_one(bench: &Bench, plain: &Connection, samples: &mut Samples) -> Result<()> {
    let (start, mut n_done) = (bench.now(), 0);
    while bench.since(start) < ROUND {
        plain.prepare_cached(INSERT)?.execute([BODY])?;
        n_done += 1;
    }
    samples.push_rate(n_done, bench.since(start));
    Ok(())
}

/// A round of the store: each writer waits for its write to be durable before the next.
async fn together(bench: &Bench, db: &Db, n_writers: usize, samples: &mut Samples) -> Result<()> {
    let (start, mut writers) = (bench.now(), JoinSet::new());
    for _ in 0..n_writers {
        let (db, clock) = (db.clone(), bench.clock());
        writers.spawn(async move {
            let mut n_done = 0;
            while clock.monotonic().saturating_sub(start) < ROUND {
                db.write(insert).await?;
                n_done += 1;
            }
            Ok::<u32, Error>(n_done)
        });
    }
    let mut n_done = 0;
    while let Some(writer) = writers.join_next().await {
        n_done += writer??;
    }
    samples.push_rate(n_done, bench.since(start));
    Ok(())
}

fn insert(tx: &mut Tx<'_>) -> Result<(), Error> {
    tx.sql()
        .prepare_cached(INSERT)
        .and_then(|mut insert| insert.execute([BODY]))
        .map_err(sql("insert an item"))?;
    Ok(())
}
