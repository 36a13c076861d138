//! Supervision: children started, kept idle and restarted, against bare tokio tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::{CancellationToken, ErrorKind, Event, Failure, Principal, Retry, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::supervise::{Child, Group, Handle, Notice, Signal, Supervise, Unwatched, Watch};
use agent_orch::{EventQuery, Journal, Supervision};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;

use crate::host::Bench;
use crate::measure::{Measure, Samples, Unit};

const N_CHILDREN: u32 = 10_000;
const N_RESTARTS: u32 = 1_000;
/// Fewer than elsewhere: a round starts ten thousand children.
const N_ROUNDS: u32 = 5;
/// How many messages a child's mailbox holds, on both sides.
const MAILBOX: usize = 16;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let mut rates = (Samples::default(), Samples::default());
    let sizes = sizes(bench).await?;
    for _ in 0..N_ROUNDS {
        let (mut bare, took) = start_bare(bench).await;
        rates.1.push_rate(N_CHILDREN, took);
        bare.shutdown().await;
        let (tree, took) = start_supervised(bench).await?;
        rates.0.push_rate(N_CHILDREN, took);
        tree.stop().await;
    }
    let (mut ours, mut baseline) = (Samples::default(), Samples::default());
    for round in 0..N_ROUNDS {
        baseline.extend(bare_restarts(bench).await?);
        ours.extend(recorded_restarts(bench, round).await?);
    }
    let single = |samples: &Samples, percent| {
        let mut one = Samples::default();
        one.push(samples.percentile(percent));
        one
    };
    let what = "a mailbox each; bare: tokio task and mpsc";
    let mut measures = vec![
        Measure::of(
            format!("supervise/spawn@{N_CHILDREN}"),
            Unit::PerSecond("children/s"),
            &rates.0,
            &rates.1,
            what,
        ),
        Measure::of(
            format!("supervise/idle@{N_CHILDREN}"),
            Unit::Kib,
            &sizes.0,
            &sizes.1,
            "resident memory each",
        ),
    ];
    for percent in [50, 99] {
        measures.push(Measure::of(
            format!("supervise/restart_p{percent}@{N_RESTARTS}"),
            Unit::Micros,
            &single(&ours, percent),
            &single(&baseline, percent),
            "crash to running again, each recorded; bare: joined and spawned anew",
        ));
    }
    Ok(measures)
}

/// Returns the resident memory in KiB.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc here")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(number.context("no VmRSS in /proc/self/status")?.parse()?)
}

/// Counts children that run.
#[derive(Debug, Default)]
struct Gate {
    n_running: AtomicU32,
    all: Notify,
}

impl Gate {
    fn enter(&self) {
        if self.n_running.fetch_add(1, Ordering::AcqRel) + 1 == N_CHILDREN {
            self.all.notify_one();
        }
    }
}

/// A child that waits for messages.
async fn idle(gate: Arc<Gate>, signal: Signal) -> Result<(), Failure> {
    let (_sender, mut mailbox) = mpsc::channel::<u64>(MAILBOX);
    gate.enter();
    tokio::select! {
        _message = mailbox.recv() => {}
        () = signal.canceled() => {}
    }
    Ok(())
}

/// A tree that runs.
struct Running {
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    _handle: Handle,
}

impl Running {
    async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn start_supervised(bench: &Bench) -> Result<(Running, Duration)> {
    let (start, gate) = (bench.now(), Arc::new(Gate::default()));
    let mut root = Group::pool("root", Supervision::new());
    for n in 0..N_CHILDREN {
        let gate = Arc::clone(&gate);
        root = root.with_child(Child::new(n.to_string(), move |signal| {
            idle(Arc::clone(&gate), signal)
        }));
    }
    let (tree, handle) = Supervise::new(root, &bench.env, Arc::new(Unwatched))?;
    let (cancel, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(tree.run(cancel.clone()));
    gate.all.notified().await;
    let running = Running {
        cancel,
        tasks,
        _handle: handle,
    };
    Ok((running, bench.since(start)))
}

async fn start_bare(bench: &Bench) -> (JoinSet<Option<u64>>, Duration) {
    let (start, gate) = (bench.now(), Arc::new(Gate::default()));
    let mut tasks = JoinSet::new();
    for _ in 0..N_CHILDREN {
        let gate = Arc::clone(&gate);
        tasks.spawn(async move {
            let (_sender, mut mailbox) = mpsc::channel::<u64>(MAILBOX);
            gate.enter();
            mailbox.recv().await
        });
    }
    gate.all.notified().await;
    (tasks, bench.since(start))
}

/// Returns the KiB of a child of ours and of the baseline, all alive at once, so that neither
/// lives in what the other gave back.
async fn sizes(bench: &Bench) -> Result<(Samples, Samples)> {
    let (mut ours, mut baseline) = (Samples::default(), Samples::default());
    let mut before = resident()?;
    let mut size_of = |samples: &mut Samples| {
        let now = resident()?;
        samples.push((now - before) / f64::from(N_CHILDREN));
        before = now;
        anyhow::Ok(())
    };
    let (mut bare, _took) = start_bare(bench).await;
    size_of(&mut baseline)?;
    let (tree, _took) = start_supervised(bench).await?;
    size_of(&mut ours)?;
    tree.stop().await;
    bare.shutdown().await;
    Ok((ours, baseline))
}

fn crash() -> Failure {
    Failure::new(
        ErrorKind::Internal,
        Retry::Unknown,
        "bench.crash",
        "a crash",
        "none",
    )
}

/// What a crashing child shares with whoever crashes it.
#[derive(Debug)]
struct Victim {
    crash: Mutex<mpsc::Receiver<()>>,
    runs: mpsc::Sender<Duration>,
}

/// Crashes a child over and over and returns how long each took to run again.
async fn crash_often(
    bench: &Bench,
    crash: &mpsc::Sender<()>,
    runs: &mut mpsc::Receiver<Duration>,
) -> Result<Samples> {
    let mut samples = Samples::default();
    runs.recv().await.context("the child did not start")?;
    for _ in 0..N_RESTARTS {
        let start = bench.now();
        crash.send(()).await?;
        let again = runs.recv().await.context("the child did not restart")?;
        samples.push(Unit::Micros.of(again.saturating_sub(start)));
    }
    Ok(samples)
}

fn victim() -> (Arc<Victim>, mpsc::Sender<()>, mpsc::Receiver<Duration>) {
    let (crash, crashes) = mpsc::channel(1);
    let (ran, runs) = mpsc::channel(1);
    let victim = Victim {
        crash: Mutex::new(crashes),
        runs: ran,
    };
    (Arc::new(victim), crash, runs)
}

/// Queues notices for the journal, as a fleet does.
#[derive(Debug)]
struct Recorder(mpsc::Sender<Notice>);

#[async_trait]
impl Watch for Recorder {
    async fn notice(&self, notice: Notice) {
        // The other end outlives the tree.
        let _closing = self.0.send(notice).await;
    }
}

async fn recorded_restarts(bench: &Bench, round: u32) -> Result<Samples> {
    let db = bench.db(&format!("supervise-{round}.db")).await?;
    let journal = Arc::new(Sqlite::open(db, bench.env.clone()).await?);
    let (victim, crash_it, mut runs) = victim();
    let clock = bench.clock();
    let child = Child::new("child", move |signal| {
        let (victim, clock) = (Arc::clone(&victim), Arc::clone(&clock));
        async move {
            let _going_down = victim.runs.send(clock.monotonic()).await;
            let mut crashes = victim.crash.lock().await;
            tokio::select! {
                _told = crashes.recv() => Err(crash()),
                () = signal.canceled() => Ok(()),
            }
        }
    });
    let supervision = Supervision::new().with_intensity(N_RESTARTS + 1, Duration::from_secs(60));
    let root = Group::new("root", supervision).with_child(child);
    let (notices, mut queue) = mpsc::channel(4_096);
    let (tree, _handle) = Supervise::new(root, &bench.env, Arc::new(Recorder(notices)))?;
    let (cancel, mut running) = (CancellationToken::new(), JoinSet::new());
    running.spawn(tree.run(cancel.clone()));
    let (written, clock) = (Arc::clone(&journal), bench.clock());
    running.spawn(async move {
        let (scope, mut batch) = (Scope::new(Principal::host()), Vec::new());
        while queue.recv_many(&mut batch, 256).await > 0 {
            let mut notes = JoinSet::new();
            for notice in batch.drain(..) {
                let payload = json!({ "notice": format!("{notice:?}") });
                let event = Event::new(&scope, clock.now(), "agent.restarted", payload);
                let written = Arc::clone(&written);
                notes.spawn(async move { written.note(event).await });
            }
            while notes.join_next().await.is_some() {}
        }
    });
    let samples = crash_often(bench, &crash_it, &mut runs).await?;
    cancel.cancel();
    while running.join_next().await.is_some() {}
    let mut n_records = 0;
    let mut query = EventQuery::default();
    loop {
        let page = journal.events(query.clone()).await?;
        let Some(last) = page.last() else { break };
        query.after = last.seq;
        n_records += page.iter().filter(|r| r.kind == "agent.restarted").count();
    }
    ensure!(
        n_records == usize::try_from(N_RESTARTS)?,
        "{n_records} restarts are recorded"
    );
    Ok(samples)
}

async fn bare_restarts(bench: &Bench) -> Result<Samples> {
    let (victim, crash_it, mut runs) = victim();
    let clock = bench.clock();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut child = JoinSet::new();
        loop {
            let (victim, clock) = (Arc::clone(&victim), Arc::clone(&clock));
            child.spawn(async move {
                let _going_down = victim.runs.send(clock.monotonic()).await;
                victim.crash.lock().await.recv().await
            });
            if !matches!(child.join_next().await, Some(Ok(Some(())))) {
                return;
            }
        }
    });
    let samples = crash_often(bench, &crash_it, &mut runs).await?;
    running.shutdown().await;
    Ok(samples)
}
