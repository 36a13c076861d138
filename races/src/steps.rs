//! Journaled steps: workflows of so many steps, one and fifty at a time, at the same durability.

mod by_door;
mod by_durare;
mod by_duroxide;
mod by_journal;
mod by_plain;
mod laps;
mod syncs;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::EffectClass;
use agent_core::store::{self, Db, Durability, Tx};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::host::Host;
use crate::measure::{Measure, Samples, Unit, rate};

pub(crate) use syncs::solo;

/// How many steps a workflow takes: engines that replay pay for a longer history, and those that
/// journal a start and an end share them among so many steps.
const STEPS: u32 = 20;
/// How many workflows run at a time.
const AGENTS: [u32; 2] = [1, 50];
/// How long a round lasts, beyond its first workflow.
const ROUND: Duration = Duration::from_millis(400);

/// Who takes steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// One transaction per step, and nothing else.
    Plain,
    /// [`agent_orch::Journal`]: intent before, outcome after.
    Journal(EffectClass),
    /// [`agent_orch::Ctx::effect`] in an agent that a supervisor runs: all of it.
    Door(EffectClass),
    Durare,
    /// With the poll interval of its dispatchers.
    Duroxide(Duration),
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Journal(EffectClass::Pure) => f.write_str("orch_journal_pure"),
            Self::Journal(_) => f.write_str("orch_journal"),
            Self::Door(EffectClass::Pure) => f.write_str("orch_door_pure"),
            Self::Door(_) => f.write_str("orch_door"),
            Self::Durare => f.write_str("durare"),
            Self::Duroxide(poll) => write!(f, "duroxide_poll_{}ms", poll.as_millis()),
        }
    }
}

impl Contestant {
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::Durare,
        Self::Duroxide(by_duroxide::POLL_DEFAULT),
        Self::Duroxide(by_duroxide::POLL_SHORTEST),
        Self::Journal(EffectClass::Pure),
        Self::Journal(EffectClass::Idempotent),
        Self::Door(EffectClass::Pure),
        Self::Door(EffectClass::Idempotent),
    ];

    const fn is_peer(self) -> bool {
        matches!(self, Self::Durare | Self::Duroxide(_))
    }

    const fn is_ours(self) -> bool {
        matches!(self, Self::Journal(_) | Self::Door(_))
    }

    /// Returns whether the contestant can be had at a durability: duroxide opens its connections
    /// itself, with `PRAGMA synchronous = WAL`.
    fn has(self, durability: Durability) -> bool {
        !matches!(self, Self::Duroxide(_)) || durability == Durability::ProcessKill
    }

    async fn open(
        self,
        host: &Host,
        dir: &Path,
        durability: Durability,
        n_agents: u32,
    ) -> Result<Arc<dyn Engine>> {
        Ok(match self {
            Self::Plain => Arc::new(by_plain::Plain::open(host, dir, durability)?),
            Self::Journal(class) => {
                Arc::new(by_journal::Journaled::open(host, dir, durability, class, n_agents).await?)
            }
            Self::Door(class) => {
                Arc::new(by_door::Doored::open(host, dir, durability, class, n_agents).await?)
            }
            Self::Durare => Arc::new(by_durare::Durare::open(host, dir, durability).await?),
            Self::Duroxide(poll) => {
                Arc::new(by_duroxide::Duroxide::open(host, dir, poll, n_agents).await?)
            }
        })
    }
}

/// A contestant with its database open.
#[async_trait]
trait Engine: Send + Sync {
    /// Runs workflow `n` of an agent and returns how long each of its [`STEPS`] took.
    async fn workflow(&self, agent: u32, n: u32) -> Result<Vec<Duration>>;
    /// Returns the setting its commits are made with, read back where that is possible.
    async fn synchronous(&self) -> Result<String>;
    /// Ends what runs in the background.
    async fn close(&self) -> Result<()>;
}

/// What the rounds of a contestant gave.
#[derive(Debug, Default)]
struct Side {
    rate: Samples,
    p50: Samples,
    p99: Samples,
    synchronous: String,
    syncs: Option<f64>,
}

/// Lets all contestants take turns and prints who is how fast.
pub(crate) async fn run(host: &Host) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for durability in [Durability::PowerLoss, Durability::ProcessKill] {
        for n_agents in AGENTS {
            let mut sides: Vec<(Contestant, Side)> = Contestant::ALL
                .into_iter()
                .filter(|contestant| contestant.has(durability))
                .map(|contestant| (contestant, Side::default()))
                .collect();
            for n in 0..host.n_rounds {
                for (contestant, side) in &mut sides {
                    round(host, *contestant, durability, n_agents, side)
                        .await
                        .with_context(|| format!("round {n} of {contestant}"))?;
                }
            }
            for (contestant, side) in &mut sides {
                side.syncs = syncs::per_step(host, *contestant, durability, n_agents).await?;
            }
            measures.extend(compare(host, durability, n_agents, &sides));
        }
    }
    Ok(measures)
}

/// Opens a contestant on a fresh directory, runs a workflow that does not count, then all agents.
async fn round(
    host: &Host,
    contestant: Contestant,
    durability: Durability,
    n_agents: u32,
    side: &mut Side,
) -> Result<()> {
    let dir = host.directory()?;
    let engine = contestant
        .open(host, dir.path(), durability, n_agents)
        .await?;
    side.synchronous = engine.synchronous().await?;
    engine.workflow(0, 0).await?;
    let (start, mut running) = (host.now(), JoinSet::new());
    for agent in 0..n_agents {
        let (engine, clock) = (Arc::clone(&engine), host.clock());
        running.spawn(async move {
            let mut laps = Vec::new();
            for n in 1.. {
                laps.extend(engine.workflow(agent, n).await?);
                if clock.monotonic().saturating_sub(start) >= ROUND {
                    break;
                }
            }
            anyhow::Ok(laps)
        });
    }
    let mut steps = Samples::default();
    let mut n_done = 0;
    while let Some(agent) = running.join_next().await {
        let laps = agent??;
        n_done += u32::try_from(laps.len())?;
        steps.extend(&laps, 1e3);
    }
    let took = host.since(start);
    ensure!(n_done > 0, "no step was taken");
    engine.close().await?;
    side.rate.push(rate(n_done, took));
    side.p50.push(steps.percentile(50));
    side.p99.push(steps.percentile(99));
    Ok(())
}

/// Turns the rounds into lines: each contestant against the plain loop, and what is ours against
/// the fastest peer.
#[expect(clippy::too_many_lines, reason = "one statement a measure")]
fn compare(
    host: &Host,
    durability: Durability,
    n_agents: u32,
    sides: &[(Contestant, Side)],
) -> Vec<Measure> {
    let none = Side::default();
    let plain = sides
        .iter()
        .find(|(contestant, _)| *contestant == Contestant::Plain)
        .map_or(&none, |(_, side)| side);
    let fastest = sides
        .iter()
        .filter(|(contestant, _)| contestant.is_peer())
        .max_by(|(_, a), (_, b)| a.rate.median().total_cmp(&b.rate.median()));
    let mut measures = Vec::new();
    for (contestant, side) in sides {
        let line = |what: &str, value, unit, baseline, against: String| Measure {
            bench: format!("{what}@{n_agents}/{}/{contestant}", name(durability)),
            value,
            unit,
            baseline,
            against,
        };
        let against = || format!("plain; {}", side.synchronous);
        let (value, baseline) = (side.rate.median(), plain.rate.median());
        measures.push(line(
            "steps",
            value,
            Unit::More("steps/s"),
            baseline,
            against(),
        ));
        let (value, baseline) = (side.p50.median(), plain.p50.median());
        measures.push(line(
            "step_p50",
            value,
            Unit::Less("ms"),
            baseline,
            against(),
        ));
        let in_syncs = value / host.fsync_ms.max(f64::MIN_POSITIVE);
        let fsync = "one fsync of 4 KiB".to_owned();
        measures.push(line(
            "step_p50_in_fsyncs",
            in_syncs,
            Unit::Less("fsyncs"),
            1.0,
            fsync,
        ));
        let (value, baseline) = (side.p99.median(), plain.p99.median());
        measures.push(line(
            "step_p99",
            value,
            Unit::Less("ms"),
            baseline,
            against(),
        ));
        if let (Some(value), Some(baseline)) = (side.syncs, plain.syncs) {
            let counted = "plain; counted by strace".to_owned();
            measures.push(line(
                "fsyncs_per_step",
                value,
                Unit::Less("fsyncs"),
                baseline,
                counted,
            ));
        }
        if let Some((peer, of_peer)) = fastest.filter(|_| contestant.is_ours()) {
            let (value, baseline) = (side.rate.median(), of_peer.rate.median());
            let against = format!("{peer}, the fastest peer");
            measures.push(line(
                "steps_to_peer",
                value,
                Unit::More("steps/s"),
                baseline,
                against,
            ));
        }
    }
    measures
}

const fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::PowerLoss => "power_loss",
        Durability::ProcessKill => "process_kill",
        _ => "nothing",
    }
}

/// What every step is asked.
fn arguments(ordinal: u32) -> serde_json::Value {
    serde_json::json!({ "path": "src/lib.rs", "n": ordinal })
}

/// What every step returns.
fn outcome(ordinal: u32) -> serde_json::Value {
    serde_json::json!({ "found": ordinal })
}

const fn pragma(durability: Durability) -> &'static str {
    match durability {
        Durability::PowerLoss => "FULL",
        Durability::ProcessKill => "NORMAL",
        _ => "OFF",
    }
}

/// Names the setting that SQLite reports.
fn read_back(synchronous: i64) -> String {
    let name = match synchronous {
        0 => "OFF",
        1 => "NORMAL",
        2 => "FULL",
        3 => "EXTRA",
        _ => "unknown",
    };
    format!("synchronous={name}, read back")
}

/// Reads the setting back from the connection that our store writes with.
async fn read_back_of(db: &Db) -> Result<String> {
    let read = |tx: &mut Tx<'_>| -> Result<i64, store::Error> {
        let found = tx
            .sql()
            .query_row("PRAGMA synchronous", [], |row| row.get(0));
        found.map_err(store::sql("read a setting"))
    };
    Ok(read_back(db.write(read).await?))
}
