//! A real supervisor on a real stack, with small agents that misbehave.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::store::Durability;
use agent_core::{Asset, Effect, EffectClass, Env, Principal, SecretBytes};
use agent_identity::Unlock;
use agent_orch::audit::Verification;
use agent_orch::report::Report;
use agent_orch::{
    Acted, Agent, Answer, Backoff, Chaos, Ctx, Ended, Fleet, Intensity, Layers, NewTask, Pool,
    Progress, Result, RunHandle, Stack, StackConfig, Status, Supervisor, Task,
};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The outside world: acts once per key, and counts how often it was asked.
#[derive(Debug, Default)]
struct World {
    done: Mutex<BTreeSet<String>>,
    asked: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Fine,
    PanicsFirst,
    AlwaysPanics,
    RefusedFirst,
    AsksFirst,
    Costly,
}

#[derive(Debug)]
struct Worker {
    world: Arc<World>,
    mood: Mood,
    runs: Arc<AtomicU32>,
}

#[async_trait]
impl Agent for Worker {
    #[expect(clippy::panic, reason = "the point of the test")]
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let n = self.runs.fetch_add(1, Ordering::SeqCst);
        let world = Arc::clone(&self.world);
        let mut effect = Effect::new(
            "tool.call",
            "world",
            EffectClass::Idempotent,
            task.input.clone(),
        );
        if self.mood == Mood::Costly {
            effect = effect.with_cost_max("5.00 USD".parse().unwrap());
        }
        let said: String = cx
            .effect("act", effect, |scope| async move {
                world.asked.fetch_add(1, Ordering::SeqCst);
                let key = scope.idempotency_key.unwrap();
                world.done.lock().insert(key.as_str().to_owned());
                Ok(Acted::new("done".to_owned()))
            })
            .await?;
        match self.mood {
            Mood::AlwaysPanics => panic!("as always"),
            Mood::PanicsFirst if n == 0 => panic!("once"),
            Mood::AsksFirst => {
                let choice = cx.ask("ok", "Is it?", &["yes", "no"], Value::Null).await?;
                return Ok(Ended::done(json!(choice)));
            }
            _ => {}
        }
        Ok(Ended::done(
            json!({ "said": said, "feedback": task.feedback }),
        ))
    }
}

#[derive(Debug)]
struct Checker {
    mood: Mood,
}

#[async_trait]
impl Agent for Checker {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        assert_ne!(
            cx.scope().agent,
            task.author,
            "nobody verifies their own work"
        );
        if self.mood == Mood::RefusedFirst && task.round == 0 {
            return Ok(Ended::refused(json!("once more")));
        }
        Ok(Ended::accepted(Value::Null))
    }
}

struct Host {
    world: Arc<World>,
    runs: Arc<AtomicU32>,
    mood: Mood,
    chaos: Chaos,
    dir: TempDir,
}

impl Host {
    fn new(mood: Mood) -> Self {
        Self {
            world: Arc::default(),
            runs: Arc::default(),
            mood,
            chaos: Chaos::new(0),
            dir: TempDir::new().unwrap(),
        }
    }

    fn fleet(&self) -> Fleet {
        let budget = "1.00 USD".parse().unwrap();
        let work = Pool::new("worker", 4, budget).with_verifier("check", None);
        let mut fleet = Fleet::new("test", budget)
            .with_pool("work", work.with_grant("tool.call:world"))
            .with_pool("check", Pool::new("checker", 2, budget));
        fleet.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
        fleet.supervisor.intensity = Intensity::new(50, Duration::from_secs(5));
        fleet
    }

    async fn start(&self, fleet: Fleet) -> (Stack, RunHandle) {
        let env = Env::system();
        let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone())).unwrap());
        let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, []).unwrap()));
        let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
        let rates = RateCard::new("none", Asset::USD).unwrap();
        let config =
            StackConfig::new(self.dir.path(), unlock, rates).with_durability(Durability::Nothing);
        let stack = Stack::open(config, env, layers).await.unwrap();
        let run = stack
            .open_run(&fleet, "subject", Value::Null)
            .await
            .unwrap();
        let (world, runs, mood) = (Arc::clone(&self.world), Arc::clone(&self.runs), self.mood);
        let handle = Supervisor::new(stack.clone(), fleet)
            .with_agent("worker", move || Worker {
                world: Arc::clone(&world),
                mood,
                runs: Arc::clone(&runs),
            })
            .with_agent("checker", move || Checker { mood })
            .with_chaos(self.chaos.clone())
            .start(run)
            .await
            .unwrap();
        (stack, handle)
    }

    async fn settle(&self, n_tasks: u32) -> (Stack, RunHandle, Progress) {
        let (stack, handle) = self.start(self.fleet()).await;
        submit(&handle, n_tasks).await;
        let progress = handle.settled().await.unwrap();
        (stack, handle, progress)
    }
}

async fn submit(handle: &RunHandle, n_tasks: u32) {
    let tasks = (0..n_tasks).map(|n| NewTask::new(format!("t{n}"), "work", json!(n)));
    handle.submit(tasks.collect()).await.unwrap();
}

async fn end(stack: Stack, handle: RunHandle) {
    handle.stop().await;
    stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_done_and_verified_by_another() {
    let host = Host::new(Mood::Fine);
    let (stack, handle, progress) = host.settle(20).await;
    assert_eq!(progress.counts.of(Status::Completed), 20);
    assert_eq!(host.world.done.lock().len(), 20);
    let report = Report::of(stack.journal().as_ref(), handle.id(), Asset::USD)
        .await
        .unwrap();
    assert_eq!(
        (report.submitted, report.completed, report.failed),
        (20, 20, 0)
    );
    assert_eq!(report.layers["tool"].tries, 20);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_agent_is_restarted_and_its_task_completes() {
    let host = Host::new(Mood::PanicsFirst);
    let (stack, handle, progress) = host.settle(1).await;
    assert_eq!(progress.counts.of(Status::Completed), 1);
    // Another agent may have done the task before the supervisor looked at the crash.
    while handle.progress().await.unwrap().restarts == 0 {
        tokio::task::yield_now().await;
    }
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_restarts_quarantine_the_pool_and_not_the_host() {
    let host = Host::new(Mood::AlwaysPanics);
    let mut fleet = host.fleet();
    fleet.supervisor.intensity = Intensity::new(3, Duration::from_secs(60));
    let (stack, handle) = host.start(fleet).await;
    submit(&handle, 10).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.quarantined.keys().collect::<Vec<_>>(), ["work"]);
    assert!(stack.journal().verify().await.is_ok(), "the host goes on");
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_work_comes_back_with_feedback() {
    let host = Host::new(Mood::RefusedFirst);
    let (stack, handle, progress) = host.settle(3).await;
    assert_eq!(progress.counts.of(Status::Completed), 3);
    let report = Report::of(stack.journal().as_ref(), handle.id(), Asset::USD)
        .await
        .unwrap();
    assert_eq!(report.corrections, 3);
    assert_eq!(
        host.world.done.lock().len(),
        6,
        "each round acts under its own key"
    );
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_parks_the_task_until_it_is_answered() {
    let host = Host::new(Mood::AsksFirst);
    let (stack, handle, progress) = host.settle(1).await;
    assert_eq!(progress.counts.of(Status::Parked), 1);
    let questions = handle.open_requests().await.unwrap();
    let by = Principal::new("human:test").unwrap();
    handle
        .answer(questions[0].id, Answer::new("yes", by))
        .await
        .unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(
        host.world.asked.load(Ordering::SeqCst),
        1,
        "the finished step did not act again"
    );
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_budget_covers_goes_to_a_person_and_does_not_happen() {
    let host = Host::new(Mood::Costly);
    let (stack, handle, progress) = host.settle(1).await;
    assert_eq!(progress.counts.of(Status::Parked), 1);
    assert_eq!(host.world.asked.load(Ordering::SeqCst), 0);
    let questions = handle.open_requests().await.unwrap();
    let by = Principal::new("human:test").unwrap();
    handle
        .answer(questions[0].id, Answer::new("fail", by))
        .await
        .unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Rejected), 1);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_grant_covers_does_not_happen() {
    let host = Host::new(Mood::Fine);
    let mut fleet = host.fleet();
    fleet.pools.get_mut("work").unwrap().grants = vec!["tool.call:elsewhere".to_owned()];
    let (stack, handle) = host.start(fleet).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Parked),
        1,
        "denied effects go to a person"
    );
    assert_eq!(host.world.asked.load(Ordering::SeqCst), 0);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_goes_on_where_it_was() {
    let host = Host::new(Mood::AsksFirst);
    let (stack, handle, _parked) = host.settle(2).await;
    let first = handle.id();
    end(stack, handle).await;
    let (stack, handle) = host.start(host.fleet()).await;
    assert_eq!(handle.id(), first);
    assert!(handle.run().is_resumed);
    for question in handle.open_requests().await.unwrap() {
        let by = Principal::new("human:test").unwrap();
        handle
            .answer(question.id, Answer::new("yes", by))
            .await
            .unwrap();
    }
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 2);
    assert_eq!(
        host.world.asked.load(Ordering::SeqCst),
        2,
        "nothing acted again"
    );
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_faults_everything_ends_and_nothing_happens_twice() {
    let mut host = Host::new(Mood::Fine);
    host.chaos = Chaos::new(200_000);
    let (stack, handle, progress) = host.settle(60).await;
    assert_eq!(progress.counts.moving(), 0);
    let completed = progress.counts.of(Status::Completed);
    assert!(completed >= 55, "{completed} of 60");
    let report = Report::of(stack.journal().as_ref(), handle.id(), Asset::USD)
        .await
        .unwrap();
    let injected: u64 = report.faults.values().map(|fault| fault.injected).sum();
    assert!(injected > 0);
    assert_eq!(report.completed, completed);
    let rounds = 60 + report.corrections;
    assert!(
        u64::try_from(host.world.done.lock().len()).unwrap() <= rounds,
        "one key a round"
    );
    assert!(stack.journal().verify().await.is_ok());
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_signs_the_audit_chain_when_a_run_stops_and_ends() {
    let host = Host::new(Mood::Fine);
    let (stack, handle, _progress) = host.settle(3).await;
    handle.stop().await;
    let how = || Verification::new().trusting(stack.host_key().did);
    let stopped = stack.journal().verify_with(how()).await.unwrap();
    assert_eq!(
        stopped.signed + 1,
        stopped.records,
        "all but the root's own"
    );
    handle.end().await.unwrap();
    let ended = stack.journal().verify_with(how()).await.unwrap();
    assert_eq!((ended.roots, ended.signed + 1), (2, ended.records));
    stack.close().await;
}
