//! Agents as a managed service, on a real stack: pools that scale, probes, the registry, and
//! another configuration while they work.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use agent_core::store::Durability;
use agent_core::{
    Asset, Classify, Effect, EffectClass, Env, ErrorKind, Failure, ManualClock, OsEntropy,
    Principal, Retry, Scope, SecretBytes, Timestamp,
};
use agent_identity::Unlock;
use agent_orch::{
    Acted, Agent, AgentQuery, AgentState, Branch, ClaimRequest, Class, Ctx, Ended, Error,
    EventQuery, Fleet, Layers, NewTask, OnMeltdown, Pool, Probes, Result, Retirement, RunHandle,
    Scale, Stack, StackConfig, Status, Supervision, Supervisor, Task,
};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What the agents of a test share.
#[derive(Debug)]
struct World {
    /// One permit lets one attempt end.
    gate: Semaphore,
    is_ready: AtomicBool,
    /// How often a hanging agent calls `alive` before it falls silent.
    breaths: AtomicU32,
    attempts: AtomicU32,
    crashes: AtomicBool,
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

#[derive(Debug)]
struct Checker;

#[async_trait]
impl Agent for Checker {
    async fn run(&self, _cx: &Ctx, _task: &Task) -> Result<Ended> {
        Ok(Ended::accepted(Value::Null))
    }
}

struct Host {
    world: Arc<World>,
    env: Env,
    clock: Option<Arc<ManualClock>>,
    stack: Stack,
    _dir: TempDir,
}

impl Host {
    async fn new(clock: Option<Arc<ManualClock>>) -> Self {
        let env = match &clock {
            Some(clock) => Env::new(Arc::<ManualClock>::clone(clock), Arc::new(OsEntropy::new())),
            None => Env::system(),
        };
        let dir = TempDir::new().unwrap();
        let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone())).unwrap());
        let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, []).unwrap()));
        let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
        let rates = RateCard::new("none", Asset::USD).unwrap();
        let config =
            StackConfig::new(dir.path(), unlock, rates).with_durability(Durability::Nothing);
        let stack = Stack::open(config, env.clone(), layers).await.unwrap();
        Self {
            world: Arc::default(),
            env,
            clock,
            stack,
            _dir: dir,
        }
    }

    async fn manual() -> Self {
        let start = Timestamp::from_unix_ms(1_750_000_000_000);
        Self::new(Some(Arc::new(ManualClock::new(start)))).await
    }

    async fn start(&self, fleet: &Fleet) -> RunHandle {
        let run = self
            .stack
            .open_run(fleet, "subject", Value::Null)
            .await
            .unwrap();
        let (world, clock) = (Arc::clone(&self.world), Arc::clone(&self.env.clock));
        Supervisor::new(self.stack.clone(), fleet.clone())
            .with_agent("worker", move || Worker {
                world: Arc::clone(&world),
                clock: Arc::clone(&clock),
            })
            .with_agent("checker", || Checker)
            .start(run)
            .await
            .unwrap()
    }

    /// Lets time pass until something holds.
    async fn until(&self, handle: &RunHandle, what: &str, holds: impl AsyncFn(&RunHandle) -> bool) {
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

    async fn kinds(&self, kind: &str) -> Vec<Value> {
        let all = self.stack.journal().events(EventQuery::default()).await;
        let of_kind = all.unwrap().into_iter().filter(|r| r.kind == kind);
        of_kind.filter_map(|record| record.payload).collect()
    }
}

fn fleet(work: impl FnOnce(Pool) -> Pool) -> Fleet {
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

async fn submit(handle: &RunHandle, tasks: std::ops::Range<u32>) {
    let tasks = tasks.map(|n| NewTask::new(format!("t{n}"), "work", json!(n)));
    handle.submit(tasks.collect()).await.unwrap();
}

fn n_workers(handle: &RunHandle) -> usize {
    let agents = handle.agents();
    agents
        .values()
        .filter(|name| name.contains("/work/"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_grows_with_its_backlog_and_shrinks_after_a_lull() {
    let host = Host::manual().await;
    let scale = Scale::new(4)
        .with_target(2)
        .with_windows(Duration::ZERO, secs(30));
    let handle = host.start(&fleet(|pool| pool.with_scale(scale))).await;
    assert_eq!(n_workers(&handle), 1);
    submit(&handle, 0..20).await;
    host.until(&handle, "it grows", async |h| n_workers(h) == 4)
        .await;
    host.world.gate.add_permits(20);
    host.until(&handle, "it shrinks", async |h| n_workers(h) == 1)
        .await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 20);
    let scaled = host.kinds("pool.scaled").await;
    assert_eq!(
        (&scaled[0]["from"], &scaled[0]["to"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(scaled.last().unwrap()["to"], json!(1));
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_sign_of_life_is_restarted() {
    let host = Host::manual().await;
    let probes = Probes::new().with_liveness(secs(5));
    let mut fleet = fleet(|pool| pool.with_probes(probes));
    fleet.recovery = fleet
        .recovery
        .with(Class::Timeout, vec!["fail".parse().unwrap()])
        .unwrap();
    host.world.breaths.store(10, Ordering::SeqCst);
    let handle = host.start(&fleet).await;
    submit(&handle, 0..1).await;
    host.until(&handle, "it is found", async |h| {
        h.progress().await.unwrap().restarts > 0
    })
    .await;
    assert_eq!(
        host.world.breaths.load(Ordering::SeqCst),
        0,
        "alive until then"
    );
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    let found = host.kinds("agent.probe_failed").await;
    assert_eq!(found[0]["failure"]["code"], "orch.not_alive");
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_progress_is_stuck_and_goes_to_the_table() {
    for probes in [
        Probes::new().with_progress(Some(secs(5)), None),
        Probes::new().with_progress(None, Some(secs(5))),
    ] {
        let host = Host::manual().await;
        let mut fleet = fleet(|pool| pool.with_probes(probes));
        fleet.recovery = fleet
            .recovery
            .with(Class::Stuck, vec!["fail".parse().unwrap()])
            .unwrap();
        let handle = host.start(&fleet).await;
        submit(&handle, 0..1).await;
        host.until(&handle, "it is found", async |h| {
            h.progress().await.unwrap().counts.of(Status::Failed) == 1
        })
        .await;
        assert_eq!(handle.progress().await.unwrap().restarts, 0);
        let found = host.kinds("agent.probe_failed").await;
        assert_eq!(found[0]["failure"]["code"], Class::STUCK_CODE);
        handle.stop().await;
        host.stack.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_ready_gets_no_task() {
    let host = Host::manual().await;
    let probes = Probes::new().with_startup(secs(20));
    host.world.is_ready.store(false, Ordering::SeqCst);
    host.world.gate.add_permits(1);
    let handle = host.start(&fleet(|pool| pool.with_probes(probes))).await;
    submit(&handle, 0..1).await;
    host.until(&handle, "it is overdue", async |h| {
        h.progress().await.unwrap().restarts > 0
    })
    .await;
    assert_eq!(host.world.attempts.load(Ordering::SeqCst), 0);
    host.world.is_ready.store(true, Ordering::SeqCst);
    host.until(&handle, "it works", async |h| {
        h.progress().await.unwrap().counts.of(Status::Completed) == 1
    })
    .await;
    let codes: Vec<Value> = host.kinds("agent.probe_failed").await;
    let code = |n: usize| codes[n]["failure"]["code"].clone();
    assert_eq!(
        (code(0), code(1)),
        (json!("test.unready"), json!("orch.not_started"))
    );
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_knows_every_agent_and_retires_some() {
    let host = Host::new(None).await;
    let fleet = fleet(|pool| pool);
    let handle = host.start(&fleet).await;
    submit(&handle, 0..1).await;
    let of_work = AgentQuery::new().of_pool("work");
    host.until(&handle, "it works", async |_| {
        let all = host.stack.agents(&of_work, &fleet).await.unwrap();
        all[0].state == AgentState::Working
    })
    .await;
    let worker = host.stack.agents(&of_work, &fleet).await.unwrap().remove(0);
    assert_eq!(worker.agent.owner.as_deref(), Some("team"));
    assert_eq!(worker.agent.purpose.as_deref(), Some("to work"));
    assert_eq!(worker.agent.name, "test/work/0001");
    assert_eq!(worker.agent.version, fleet.version_of("work").unwrap());
    assert_eq!(worker.agent.grants.len(), 1);
    let busy = host.stack.retire(worker.agent.id, &fleet, "no").await;
    assert_eq!(busy.unwrap_err().kind(), ErrorKind::Invalid);

    host.world.gate.add_permits(2);
    handle.settled().await.unwrap();
    handle.retire(worker.agent.id, "for a test").await.unwrap();
    let request = ClaimRequest::new(handle.id(), "work", worker.agent.id);
    let scope = Scope::new(Principal::new(worker.agent.did.as_str()).unwrap());
    submit(&handle, 1..2).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Completed),
        2,
        "another one works"
    );
    let journal = host.stack.journal();
    handle.stop().await;
    journal
        .submit(
            &scope,
            handle.id(),
            vec![NewTask::new("t3", "work", json!(3))],
        )
        .await
        .unwrap();
    let claimed = journal.claim(&scope, request).await;
    assert_eq!(claimed.unwrap_err().kind(), ErrorKind::Denied);
    let balance = host
        .stack
        .balance("test/work/0001", fleet.budget)
        .await
        .unwrap();
    assert!(balance.available().is_zero(), "its budget is its pool's");
    let left = host.stack.agents(&of_work, &fleet).await.unwrap();
    let names: Vec<&str> = left.iter().map(|r| r.agent.name.as_str()).collect();
    assert_eq!(names, ["test/work/0002"]);

    let mut other = fleet.clone();
    other.pools.get_mut("work").unwrap().steps_max = 7;
    let check = other.pools.remove("check").unwrap();
    other.pools.insert("control".to_owned(), check);
    let sprawl = host.stack.sprawl(&other, Duration::ZERO).await.unwrap();
    assert_eq!(sprawl.orphans[0].agent.pool, "check");
    assert_eq!(sprawl.drifted[0].agent.name, "test/work/0002");
    assert_eq!(sprawl.idle.len(), 2);
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_retires_orphans_and_the_idle_and_nobody_who_runs() {
    let host = Host::manual().await;
    let budget = "1.00 USD".parse().unwrap();
    let mut before = fleet(|pool| pool);
    before.pools.get_mut("work").unwrap().size = 3;
    before = before.with_pool("old", Pool::new("checker", 2, budget));
    let handle = host.start(&before).await;
    let all = host.stack.agents(&AgentQuery::new(), &before).await;
    assert_eq!(all.unwrap().len(), 6);
    handle.stop().await;

    let mut after = fleet(|pool| pool);
    after.registry = Retirement::new().with_idle(secs(3_600)).with_orphans();
    let handle = host.start(&after).await;
    let names = async || -> Vec<String> {
        let all = host.stack.agents(&AgentQuery::new(), &after).await.unwrap();
        all.into_iter().map(|record| record.agent.name).collect()
    };
    host.until(&handle, "orphans are retired", async |_| {
        names().await.len() == 4
    })
    .await;
    host.clock.as_ref().unwrap().advance(secs(3_600));
    host.until(&handle, "the idle are retired", async |_| {
        names().await.len() == 2
    })
    .await;
    assert_eq!(names().await, ["test/check/0001", "test/work/0001"]);
    let reasons: Vec<Value> = host.kinds("agent.retired").await;
    let count = |why: &str| reasons.iter().filter(|r| r["reason"] == why).count();
    assert_eq!(count("its pool is gone"), 2);
    assert_eq!(count("idle for too long"), 2);
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_come_move_and_go_while_their_agents_work() {
    let host = Host::new(None).await;
    let mut plain = fleet(|pool| pool);
    plain.pools.get_mut("work").unwrap().size = 4;
    let strict = Supervision::new().with_intensity(0, secs(60));
    plain.supervisor = strict;
    let handle = host.start(&plain).await;
    submit(&handle, 0..20).await;
    host.world.gate.add_permits(20);

    let climbs = strict.with_on_meltdown(OnMeltdown::Escalate);
    let line = |children: [&'static str; 2]| Branch::new(climbs, children);
    let above = plain
        .clone()
        .with_supervisor("line", line(["pool.work", "pool.check"]));
    handle.reload(above.clone()).await.unwrap();
    let turned = plain
        .clone()
        .with_supervisor("line", line(["pool.check", "pool.work"]))
        .with_supervisor("top", Branch::new(strict, ["supervisor.line"]));
    handle.reload(turned).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 20);
    assert_eq!((progress.restarts, progress.quarantined.len()), (0, 0));
    assert_eq!(n_workers(&handle), 4);

    // The supervisors are really there: a crash climbs through both of them.
    host.world.crashes.store(true, Ordering::SeqCst);
    submit(&handle, 20..21).await;
    host.until(&handle, "the top is given up", async |handle| {
        let given_up = handle.progress().await.unwrap().quarantined;
        given_up.keys().eq(["supervisor.top"])
    })
    .await;
    // And they go, and what they had given up with them.
    host.world.crashes.store(false, Ordering::SeqCst);
    host.world.gate.add_permits(5);
    handle.reload(plain).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 21);
    assert!(progress.quarantined.is_empty());
    assert_eq!(host.kinds("run.reloaded").await.len(), 3);
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_agents_change_their_configuration_while_they_work() {
    let host = Host::new(None).await;
    let budget = "1.00 USD".parse().unwrap();
    let mut before = fleet(|pool| pool);
    before.pools.get_mut("work").unwrap().size = 50;
    before = before.with_pool("old", Pool::new("checker", 2, budget));
    let handle = host.start(&before).await;
    submit(&handle, 0..300).await;
    host.world.gate.add_permits(100);

    let mut wrong = before.clone();
    wrong.pools.get_mut("work").unwrap().verifier = Some("nobody".to_owned());
    assert!(matches!(handle.reload(wrong).await, Err(Error::Config(_))));
    let mut unknown = before.clone();
    unknown.pools.get_mut("work").unwrap().agent = "stranger".to_owned();
    let refused = handle.reload(unknown).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let mut renamed = before.clone();
    renamed.name = "other".to_owned();
    assert!(matches!(
        handle.reload(renamed).await,
        Err(Error::Config(_))
    ));
    assert!(
        host.kinds("run.reloaded").await.is_empty(),
        "nothing changed"
    );

    let mut after = before.clone();
    let work = after.pools.get_mut("work").unwrap();
    (work.steps_max, work.size, work.budget) = (77, 40, "0.50 USD".parse().unwrap());
    after.pools.remove("old");
    let after = after.with_pool("young", Pool::new("checker", 3, budget));
    host.world.gate.add_permits(200);
    let reloaded = handle.reload(after.clone()).await.unwrap();
    assert_eq!(
        (
            reloaded.changed,
            reloaded.added,
            reloaded.removed,
            reloaded.unchanged
        ),
        (
            vec!["work".to_owned()],
            vec!["young".to_owned()],
            vec!["old".to_owned()],
            vec!["check".to_owned()]
        )
    );
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 300);
    assert_eq!((progress.restarts, progress.quarantined.len()), (0, 0));
    host.until(&handle, "it shrinks", async |h| n_workers(h) == 40)
        .await;
    let record = host.kinds("run.reloaded").await.remove(0);
    assert_eq!(record["from"], json!(before.digest().unwrap()));
    assert_eq!(record["to"], json!(after.digest().unwrap()));
    let balance = host.stack.balance("test/work", budget).await.unwrap();
    assert_eq!(balance.limit, "0.50 USD".parse().unwrap());
    let same = handle.reload(after.clone()).await.unwrap();
    assert!(same.changed.is_empty() && same.added.is_empty() && same.removed.is_empty());
    let all = host.stack.agents(&AgentQuery::new(), &after).await.unwrap();
    let running = handle.agents();
    for record in all.iter().filter(|r| running.contains_key(&r.agent.id)) {
        assert!(!record.has_drifted(&after), "{}", record.agent.name);
    }
    handle.stop().await;
    host.stack.close().await;
}
