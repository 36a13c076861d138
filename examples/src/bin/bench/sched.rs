//! The queue: a claim among few and among many tasks that wait, submitting them in bulk, and
//! resuming many runs, against plain statements on one connection.

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{AgentId, Digest, Principal, RunId, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{ClaimRequest, Journal, NewRun, NewTask};
use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

const POOL: &str = "workers";
/// The two sizes whose claims must cost the same.
const FEW: u32 = 1_000;
const MANY: u32 = 100_000;
/// The most claims of a round: half of the few tasks are left after all of them.
const CLAIMS_MAX: u32 = FEW / 2 / ROUNDS;
/// Among how many keys the tasks take turns.
const N_KEYS: u32 = 50;
const N_RUNS: u32 = 10_000;
/// How many resume at once.
const AT_ONCE: usize = 512;
const TABLES: &str = "
    CREATE TABLE run (id INTEGER PRIMARY KEY, subject TEXT NOT NULL UNIQUE,
        resumed INTEGER NOT NULL) STRICT;
    CREATE TABLE task (seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, run INTEGER NOT NULL,
        pool TEXT NOT NULL, priority INTEGER NOT NULL, status TEXT NOT NULL, input TEXT NOT NULL,
        owner INTEGER) STRICT;
    CREATE INDEX task_ready ON task(pool, priority, seq) WHERE status = 'ready';
    CREATE INDEX task_leased ON task(run) WHERE status = 'leased';";

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    let few = claims(bench, FEW, &mut measures).await?;
    let many = claims(bench, MANY, &mut measures).await?;
    for (name, percent) in [("cost", 50), ("cost_p99", 99)] {
        let at = |claims: &Samples| {
            let mut sample = Samples::default();
            sample.push(claims.percentile(percent));
            sample
        };
        measures.push(Measure::of(
            format!("sched/claim_{name}@{MANY}"),
            Unit::Micros,
            &at(&many),
            &at(&few),
            format!("baseline: the same among {FEW}; without fsync"),
        ));
    }
    measures.push(recover(bench).await?);
    Ok(measures)
}

fn task(n: u32) -> NewTask {
    NewTask::new(
        format!("task-{n}"),
        POOL,
        json!({ "path": "src/lib.rs", "n": n }),
    )
    .with_priority(u8::try_from(n % 5).unwrap_or(0))
    .with_fair_key(format!("tenant-{}", n % N_KEYS))
}

async fn open_run(journal: &Sqlite, subject: &str) -> Result<RunId> {
    let host = Scope::new(Principal::host());
    let new = NewRun::new(subject, Digest::of_bytes(b"bench"), Value::Null);
    Ok(journal.open_run(&host, new).await?.id)
}

/// Claims among `n_tasks` that wait, durably; returns what a claim costs without the disk.
async fn claims(bench: &Bench, n_tasks: u32, measures: &mut Vec<Measure>) -> Result<Samples> {
    let journal = Sqlite::open(
        bench.db(&format!("sched-{n_tasks}.db")).await?,
        bench.env.clone(),
    )
    .await?;
    let run = open_run(&journal, "bench").await?;
    let plain = bench.plain(&format!("sched-{n_tasks}-plain.db"), TABLES)?;
    let (mut ours, mut baseline) = (Samples::default(), Samples::default());
    let host = Scope::new(Principal::host());
    let start = bench.now();
    journal
        .submit(&host, run, (0..n_tasks).map(task).collect())
        .await?;
    ours.push_rate(n_tasks, bench.since(start));
    let start = bench.now();
    tokio::task::block_in_place(|| insert(&plain, n_tasks))?;
    baseline.push_rate(n_tasks, bench.since(start));
    measures.push(Measure::of(
        format!("sched/submit@{n_tasks}"),
        Unit::PerSecond("tasks/s"),
        &ours,
        &baseline,
        "one call, one transaction",
    ));
    let (mut ours, mut baseline) = (Side::default(), Side::default());
    let plain = Mutex::new(plain);
    for _ in 0..ROUNDS {
        let of_plain = round(bench, async || {
            let plain = plain.lock().await;
            tokio::task::block_in_place(|| claim_plain(&plain))
        });
        baseline.add(&of_plain.await?);
        let of_journal = round(bench, async || claim(&journal, run).await);
        ours.add(&of_journal.await?);
    }
    for (name, ours, baseline) in [
        ("p50", &ours.p50, &baseline.p50),
        ("p99", &ours.p99, &baseline.p99),
    ] {
        measures.push(Measure::of(
            format!("sched/claim_{name}@{n_tasks}"),
            Unit::Millis,
            ours,
            baseline,
            format!("power_loss, {N_KEYS} fairness keys, 5 priorities"),
        ));
    }
    without_disk(bench, n_tasks).await
}

/// What a claim costs when no disk is waited for.
async fn without_disk(bench: &Bench, n_tasks: u32) -> Result<Samples> {
    let at = bench.file(&format!("sched-{n_tasks}-cpu.db"));
    let db = Db::open(
        Config::new(at).with_durability(Durability::Nothing),
        &bench.env,
    )
    .await?;
    let journal = Sqlite::open(db, bench.env.clone()).await?;
    let run = open_run(&journal, "bench").await?;
    let host = Scope::new(Principal::host());
    journal
        .submit(&host, run, (0..n_tasks).map(task).collect())
        .await?;
    let mut cost = Samples::default();
    for _ in 0..FEW / 2 {
        let start = bench.now();
        claim(&journal, run).await?;
        cost.push(Unit::Micros.of(bench.since(start)));
    }
    Ok(cost)
}

#[derive(Default)]
struct Side {
    p50: Samples,
    p99: Samples,
}

impl Side {
    fn add(&mut self, claims: &Samples) {
        self.p50.push(claims.percentile(50));
        self.p99.push(claims.percentile(99));
    }
}

async fn round(bench: &Bench, claim: impl AsyncFn() -> Result<()>) -> Result<Samples> {
    let (start, mut took) = (bench.now(), Samples::default());
    for _ in 0..CLAIMS_MAX {
        if bench.since(start) >= ROUND {
            break;
        }
        let begun = bench.now();
        claim().await?;
        took.push(Unit::Millis.of(bench.since(begun)));
    }
    Ok(took)
}

async fn claim(journal: &Sqlite, run: RunId) -> Result<()> {
    let owner = AgentId::from_bits(1);
    let scope = Scope::agent(owner).with_run(run);
    let request = ClaimRequest::new(run, POOL, owner);
    journal
        .claim(&scope, request)
        .await?
        .context("no task is ready")?;
    Ok(())
}

fn insert(plain: &Connection, n_tasks: u32) -> Result<()> {
    let transaction = plain.unchecked_transaction()?;
    for n in 0..n_tasks {
        let task = task(n);
        plain
            .prepare_cached(
                "INSERT OR IGNORE INTO task(key, run, pool, priority, status, input)
                 VALUES (?1, 1, ?2, ?3, 'ready', ?4)",
            )?
            .execute(params![
                task.key,
                task.pool,
                task.priority,
                task.input.to_string()
            ])?;
    }
    Ok(transaction.commit()?)
}

fn claim_plain(plain: &Connection) -> Result<()> {
    let claimed: Option<i64> = plain
        .prepare_cached(
            "UPDATE task SET status = 'leased', owner = 1 WHERE seq = (
                SELECT seq FROM task WHERE status = 'ready' AND pool = ?1
                ORDER BY priority, seq LIMIT 1) RETURNING seq",
        )?
        .query_row([POOL], |row| row.get(0))
        .optional()?;
    claimed.context("no task is ready")?;
    Ok(())
}

/// Opens a store that a killed process left with many open runs, each with a leased task, and
/// resumes them all.
async fn recover(bench: &Bench) -> Result<Measure> {
    let file = "sched-recover.db";
    let db = bench.db(file).await?;
    let journal = Arc::new(Sqlite::open(db.clone(), bench.env.clone()).await?);
    each_run(&journal, |journal, n| async move {
        let run = open_run(&journal, &format!("run-{n}")).await?;
        let host = Scope::new(Principal::host());
        journal.submit(&host, run, vec![task(n)]).await?;
        claim(&journal, run).await
    })
    .await?;
    drop(journal);
    db.close().await;
    let plain = bench.plain("sched-recover-plain.db", TABLES)?;
    tokio::task::block_in_place(|| leave_open(&plain))?;
    drop(plain);

    let (mut ours, mut baseline) = (Samples::default(), Samples::default());
    let start = bench.now();
    let plain = bench.plain("sched-recover-plain.db", "")?;
    tokio::task::block_in_place(|| resume_plain(&plain))?;
    baseline.push(Unit::Millis.of(bench.since(start)));
    let start = bench.now();
    let db = bench.db(file).await?;
    let journal = Arc::new(Sqlite::open(db.clone(), bench.env.clone()).await?);
    each_run(&journal, |journal, n| async move {
        open_run(&journal, &format!("run-{n}")).await.map(|_run| ())
    })
    .await?;
    ours.push(Unit::Millis.of(bench.since(start)));
    let queued = db
        .read(|tx| {
            let query = "SELECT count(*) FROM orch_task WHERE status = 'ready'";
            tx.sql()
                .query_row(query, [], |row| row.get::<_, u32>(0))
                .map_err(agent_core::store::sql("count"))
        })
        .await?;
    ensure!(queued == N_RUNS, "every task is ready again");
    Ok(Measure::of(
        format!("sched/recover@{N_RUNS}_runs"),
        Unit::Millis,
        &ours,
        &baseline,
        "open the file, resume each run, take its leases back; recorded and durable",
    ))
}

/// Does something for each run, many at once.
async fn each_run<F>(journal: &Arc<Sqlite>, of_run: impl Fn(Arc<Sqlite>, u32) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for n in 0..N_RUNS {
        if running.len() >= AT_ONCE {
            running.join_next().await.context("nothing runs")???;
        }
        running.spawn(of_run(Arc::clone(journal), n));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

fn leave_open(plain: &Connection) -> Result<()> {
    let transaction = plain.unchecked_transaction()?;
    for n in 0..N_RUNS {
        plain
            .prepare_cached("INSERT INTO run VALUES (?1, ?2, 0)")?
            .execute(params![n, format!("run-{n}")])?;
        plain
            .prepare_cached(
                "INSERT INTO task(key, run, pool, priority, status, input)
                 VALUES (?1, ?2, ?3, 2, 'leased', '{}')",
            )?
            .execute(params![format!("task-{n}"), n, POOL])?;
    }
    Ok(transaction.commit()?)
}

/// The plainest way to resume: a statement for each run and one for its tasks, all in one commit.
fn resume_plain(plain: &Connection) -> Result<()> {
    let transaction = plain.unchecked_transaction()?;
    for n in 0..N_RUNS {
        let run: i64 = plain
            .prepare_cached("UPDATE run SET resumed = 1 WHERE subject = ?1 RETURNING id")?
            .query_row([format!("run-{n}")], |row| row.get(0))?;
        plain
            .prepare_cached(
                "UPDATE task SET status = 'ready' WHERE status = 'leased' AND run = ?1",
            )?
            .execute([run])?;
    }
    Ok(transaction.commit()?)
}
