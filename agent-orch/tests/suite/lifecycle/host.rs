//! A host with workers that work, hang, breathe and crash when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use agent_core::{
    Effect, EffectClass, Env, ErrorKind, Failure, ManualClock, OsEntropy, Retry, Timestamp,
};
use agent_orch::{
    Acted, Agent, Ctx, Ended, Fleet, NewTask, Pool, Result, RunHandle, Stack, Supervision,
    Supervisor, Task,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::common::{Does, Rig, records};

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What the agents of a test share.
#[derive(Debug)]
pub(super) struct World {
    /// One permit lets one attempt end.
    pub(super) gate: Semaphore,
    pub(super) is_ready: AtomicBool,
    /// How often a hanging agent calls `alive` before it falls silent.
    pub(super) breaths: AtomicU32,
    pub(super) attempts: AtomicU32,
    pub(super) crashes: AtomicBool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            gate: Semaphore::new(0),
            is_ready: AtomicBool::new(true),
            breaths: AtomicU32::new(0),
            attempts: AtomicU32::new(0),
            crashes: AtomicBool::new(false),
        }
    }
}

#[derive(Debug)]
struct Worker {
    world: Arc<World>,
    clock: Arc<dyn agent_core::Clock>,
}

#[async_trait]
impl Agent for Worker {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        self.world.attempts.fetch_add(1, Ordering::SeqCst);
        assert!(!self.world.crashes.load(Ordering::SeqCst), "a crash");
        let kind = EffectClass::Idempotent;
        let effect = Effect::new("tool.call", "world", kind, task.input.clone());
        let done: String = cx
            .effect("act", effect, |_scope| async {
                Ok(Acted::new("done".to_owned()))
            })
            .await?;
        while self.world.breaths.load(Ordering::SeqCst) > 0 {
            self.world.breaths.fetch_sub(1, Ordering::SeqCst);
            self.clock
                .sleep_until(self.clock.now().after(secs(1)))
                .await;
            cx.alive();
        }
        self.world.gate.acquire().await.unwrap().forget();
        Ok(Ended::done(json!(done)))
    }

    async fn ready(&self) -> Result<(), Failure> {
        if self.world.is_ready.load(Ordering::SeqCst) {
            return Ok(());
        }
        let kind = ErrorKind::Unavailable;
        Err(Failure::new(kind, Retry::Safe, "test.unready", "m", "f"))
    }
}

pub(super) struct Host {
    pub(super) world: Arc<World>,
    rig: Rig,
    pub(super) clock: Option<Arc<ManualClock>>,
    pub(super) stack: Stack,
}

impl Host {
    pub(super) async fn new(clock: Option<Arc<ManualClock>>) -> Self {
        let env = match &clock {
            Some(clock) => Env::new(Arc::<ManualClock>::clone(clock), Arc::new(OsEntropy::new())),
            None => Env::system(),
        };
        let rig = Rig::with_env(env);
        Self {
            world: Arc::default(),
            clock,
            stack: rig.stack().await,
            rig,
        }
    }

    pub(super) async fn manual() -> Self {
        let start = Timestamp::from_unix_ms(1_750_000_000_000);
        Self::new(Some(Arc::new(ManualClock::new(start)))).await
    }

    pub(super) async fn start(&self, fleet: &Fleet) -> RunHandle {
        let run = self
            .stack
            .open_run(fleet, "subject", Value::Null)
            .await
            .unwrap();
        let (world, clock) = (Arc::clone(&self.world), Arc::clone(&self.rig.env.clock));
        Supervisor::new(self.stack.clone(), fleet.clone())
            .with_agent("worker", move || Worker {
                world: Arc::clone(&world),
                clock: Arc::clone(&clock),
            })
            .with_agent("checker", Does::accept)
            .start(run)
            .await
            .unwrap()
    }

    /// Lets time pass until something holds.
    pub(super) async fn until(
        &self,
        handle: &RunHandle,
        what: &str,
        holds: impl AsyncFn(&RunHandle) -> bool,
    ) {
        for _ in 0..20_000 {
            if holds(handle).await {
                return;
            }
            if let Some(clock) = &self.clock {
                clock.advance(Duration::from_millis(50));
            }
            // A look into the store, so that time does not run away from those who work.
            handle.progress().await.unwrap();
        }
        assert!(holds(handle).await, "{what}");
    }

    pub(super) async fn kinds(&self, kind: &str) -> Vec<Value> {
        let of_kind = records(&self.stack, kind).await.into_iter();
        of_kind.filter_map(|record| record.payload).collect()
    }
}

pub(super) fn fleet(work: impl FnOnce(Pool) -> Pool) -> Fleet {
    let budget = "1.00 USD".parse().unwrap();
    let pool = Pool::new("worker", 1, budget)
        .with_verifier("check", None)
        .with_grant("tool.call:world")
        .with_owner("team", "to work");
    let mut fleet = Fleet::new("test", budget)
        .with_pool("work", work(pool))
        .with_pool("check", Pool::new("checker", 1, budget));
    fleet.supervisor = Supervision::new().with_intensity(100, secs(60));
    fleet
}

pub(super) async fn submit(handle: &RunHandle, tasks: std::ops::Range<u32>) {
    let tasks = tasks.map(|n| NewTask::new(format!("t{n}"), "work", json!(n)));
    handle.submit(tasks.collect()).await.unwrap();
}

pub(super) fn n_workers(handle: &RunHandle) -> usize {
    let agents = handle.agents();
    agents
        .values()
        .filter(|name| name.contains("/work/"))
        .count()
}
