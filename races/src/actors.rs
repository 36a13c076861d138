//! Supervised actors: ten thousand are spawned under one supervisor, stay idle, and a thousand of
//! them crash, one after the other.

mod by_kameo;
mod by_orch;
mod by_ractor;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::Clock;
use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};

use crate::host::Host;
use crate::measure::{Measure, Samples, Unit, rate};

/// How many actors one supervisor has.
const ACTORS: u32 = 10_000;
/// How many of them crash.
const CRASHES: u32 = 1_000;

/// Who supervises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Contestant {
    Orch,
    Ractor,
    Kameo,
}

impl Contestant {
    const ALL: [Self; 3] = [Self::Orch, Self::Ractor, Self::Kameo];
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Orch => "orch",
            Self::Ractor => "ractor",
            Self::Kameo => "kameo",
        })
    }
}

/// A supervisor with its actors.
#[async_trait]
trait Troupe: Send {
    /// Makes an actor end by an error; its supervisor starts it again.
    async fn crash(&self, actor: u32) -> Result<()>;
    /// Ends all.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Where actors report when they run. Cheap to clone.
#[derive(Clone, Debug)]
struct Stage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    n_started: AtomicU32,
    all_started: Notify,
    crashed: Mutex<Duration>,
    restarts: mpsc::Sender<Duration>,
}

impl Stage {
    fn new(clock: Arc<dyn Clock>) -> (Self, mpsc::Receiver<Duration>) {
        let (restarts, answers) = mpsc::channel(1);
        let inner = Arc::new(Inner {
            clock,
            n_started: AtomicU32::new(0),
            all_started: Notify::new(),
            crashed: Mutex::default(),
            restarts,
        });
        (Self { inner }, answers)
    }

    /// What an actor does first.
    fn enter(&self) {
        let now = self.inner.clock.monotonic();
        let n_started = self.inner.n_started.fetch_add(1, Ordering::AcqRel) + 1;
        if n_started == ACTORS {
            self.inner.all_started.notify_one();
        }
        if n_started > ACTORS {
            let took = now.saturating_sub(*self.inner.crashed.lock());
            // One crash at a time: there is room.
            let _sent = self.inner.restarts.try_send(took);
        }
    }

    /// What an actor does last, before it crashes.
    fn crash(&self) {
        *self.inner.crashed.lock() = self.inner.clock.monotonic();
    }
}

/// What one round of a contestant gave.
#[derive(Debug, Deserialize, Serialize)]
struct Outcome {
    spawn_rate: f64,
    kib_per_actor: f64,
    restart_p50_us: f64,
    restart_p99_us: f64,
}

/// Lets all contestants take turns, each in a process of its own, so that nobody inherits the
/// memory of another.
pub(crate) async fn run(host: &Host) -> Result<Vec<Measure>> {
    let mut sides: BTreeMap<Contestant, Vec<Outcome>> = BTreeMap::new();
    for _ in 0..host.n_rounds {
        for contestant in Contestant::ALL {
            let outcome = child(contestant).await?;
            sides.entry(contestant).or_default().push(outcome);
        }
    }
    Ok(compare(&sides))
}

async fn child(contestant: Contestant) -> Result<Outcome> {
    let output = Command::new(std::env::current_exe()?)
        .args(["solo-actors", &contestant.to_string()])
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{contestant}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).with_context(|| format!("the result of {contestant}"))
}

/// Runs one contestant in this process and returns its result as JSON.
pub(crate) async fn solo(host: &Host, contestant: &str) -> Result<String> {
    let contestant = Contestant::ALL
        .into_iter()
        .find(|known| known.to_string() == contestant)
        .context("no such contestant")?;
    let (stage, mut restarts) = Stage::new(host.clock());
    let record = by_orch::Record::open(host).await?;
    let (before, start) = (resident_kib()?, host.now());
    let troupe: Box<dyn Troupe> = match contestant {
        Contestant::Orch => Box::new(by_orch::Troupe::spawn(&stage, record)?),
        Contestant::Ractor => Box::new(by_ractor::Troupe::spawn(&stage).await?),
        Contestant::Kameo => Box::new(by_kameo::Troupe::spawn(&stage).await?),
    };
    stage.inner.all_started.notified().await;
    let took = host.since(start);
    let kib = resident_kib()?.saturating_sub(before);
    let mut restart = Samples::default();
    for actor in 0..CRASHES {
        troupe.crash(actor).await?;
        let Some(took) = restarts.recv().await else {
            bail!("the stage is gone");
        };
        restart.extend(&[took], 1e6);
    }
    troupe.close().await?;
    let outcome = Outcome {
        spawn_rate: rate(ACTORS, took),
        kib_per_actor: f64::from(u32::try_from(kib)?) / f64::from(ACTORS),
        restart_p50_us: restart.percentile(50),
        restart_p99_us: restart.percentile(99),
    };
    Ok(serde_json::to_string(&outcome)?)
}

/// Returns what the process holds of the machine's memory.
fn resident_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.context("the kernel does not say")?
        .parse()
        .context("the kernel says no number")
}

fn compare(sides: &BTreeMap<Contestant, Vec<Outcome>>) -> Vec<Measure> {
    type Pick = fn(&Outcome) -> f64;
    let lines: [(&str, Unit, Pick); 4] = [
        ("spawn", Unit::More("actors/s"), |o| o.spawn_rate),
        ("idle", Unit::Less("KiB/actor"), |o| o.kib_per_actor),
        ("restart_p50", Unit::Less("us"), |o| o.restart_p50_us),
        ("restart_p99", Unit::Less("us"), |o| o.restart_p99_us),
    ];
    let median = |contestant: Contestant, pick: Pick| {
        let mut samples = Samples::default();
        for outcome in sides.get(&contestant).into_iter().flatten() {
            samples.push(pick(outcome));
        }
        samples.median()
    };
    let mut measures = Vec::new();
    for contestant in Contestant::ALL {
        for (what, unit, pick) in lines {
            measures.push(Measure {
                bench: format!("actors/{what}@{ACTORS}/{contestant}"),
                value: median(contestant, pick),
                unit,
                baseline: median(Contestant::Ractor, pick),
                against: "ractor".to_owned(),
            });
        }
    }
    measures
}
