//! A real supervisor on a real stack, for tests that bring their own agents.

#![expect(
    clippy::unwrap_used,
    reason = "shared by tests that each use a part of it"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::Durability;
use agent_core::{Asset, Effect, EffectClass, Env, Principal, SecretBytes};
use agent_identity::Unlock;
use agent_orch::{
    Acted, Agent, Answer, Backoff, Ctx, Ended, EventQuery, Fleet, Intensity, Layers, NewTask, Pool,
    Record, Result, RunHandle, Stack, StackConfig, Supervisor, Task,
};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A data directory and the environment of whoever opens it.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) env: Env,
    dir: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_env(Env::system())
    }

    pub(crate) fn with_env(env: Env) -> Self {
        Self {
            env,
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) async fn stack(&self) -> Stack {
        let env = self.env.clone();
        let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone())).unwrap());
        let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, []).unwrap()));
        let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
        let rates = RateCard::new("none", Asset::USD).unwrap();
        let config =
            StackConfig::new(self.dir.path(), unlock, rates).with_durability(Durability::Nothing);
        Stack::open(config, env, layers).await.unwrap()
    }

    /// Opens the stack and starts a fleet on it; `equip` registers what it needs.
    pub(crate) async fn start(
        &self,
        fleet: Fleet,
        equip: impl FnOnce(Supervisor) -> Supervisor,
    ) -> (Stack, RunHandle) {
        let stack = self.stack().await;
        let run = stack.open_run(&fleet, "subject", Value::Null).await;
        let supervisor = equip(Supervisor::new(stack.clone(), fleet));
        let handle = supervisor.start(run.unwrap()).await.unwrap();
        (stack, handle)
    }
}

/// Four workers of pool `work`, two checkers of pool `check`, waits of milliseconds.
pub(crate) fn fleet() -> Fleet {
    let budget = "1.00 USD".parse().unwrap();
    let work = Pool::new("worker", 4, budget).with_verifier("check", None);
    let mut fleet = Fleet::new("test", budget)
        .with_pool("work", work.with_grant("*:*"))
        .with_pool("check", Pool::new("checker", 2, budget));
    fleet.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    fleet.supervisor.intensity = Intensity::new(50, Duration::from_secs(5));
    fleet
}

/// What an agent of a test does.
pub(crate) type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Ended>> + Send + 'a>>;

type Code = dyn for<'a> Fn(&'a Ctx, &'a Task) -> Attempt<'a> + Send + Sync;

/// An agent that is a function.
#[derive(Clone)]
pub(crate) struct Does(Arc<Code>);

impl Does {
    pub(crate) fn new(
        does: impl for<'a> Fn(&'a Ctx, &'a Task) -> Attempt<'a> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(does))
    }

    /// Accepts whatever it is shown.
    pub(crate) fn accept() -> Self {
        Self::new(|_cx, _task| Box::pin(async { Ok(Ended::accepted(Value::Null)) }))
    }
}

impl fmt::Debug for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Does")
    }
}

#[async_trait]
impl Agent for Does {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        (self.0)(cx, task).await
    }
}

/// Has `work` done by the workers, and whatever they did accepted.
pub(crate) fn staff(supervisor: Supervisor, work: Does) -> Supervisor {
    supervisor
        .with_agent("worker", move || work.clone())
        .with_agent("checker", Does::accept)
}

/// The outside: how often it was asked to do something, by idempotency key, in order.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) calls: Mutex<Vec<(String, String)>>,
}

impl World {
    /// Does something through the door and returns what it was called.
    pub(crate) async fn act(
        self: &Arc<Self>,
        cx: &Ctx,
        what: &str,
        class: EffectClass,
    ) -> Result<String> {
        let effect = Effect::new("tool.call", what, class, json!({ "what": what }));
        let world = Arc::clone(self);
        let name = what.to_owned();
        cx.effect(what, effect, |scope| async move {
            let key = scope.idempotency_key.unwrap().as_str().to_owned();
            world.calls.lock().push((name.clone(), key));
            Ok(Acted::new(name))
        })
        .await
    }

    /// How often each thing was asked for.
    pub(crate) fn asked(&self) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for (what, _) in self.calls.lock().iter() {
            *asked.entry(what.clone()).or_default() += 1;
        }
        asked
    }

    /// How many different keys there were.
    pub(crate) fn keys(&self) -> usize {
        let calls = self.calls.lock();
        let keys: std::collections::BTreeSet<_> = calls.iter().map(|(_, key)| key).collect();
        keys.len()
    }
}

pub(crate) async fn submit(handle: &RunHandle, n_tasks: u32) {
    let tasks = (0..n_tasks).map(|n| NewTask::new(format!("t{n}"), "work", json!(n)));
    handle.submit(tasks.collect()).await.unwrap();
}

/// Answers every open question alike.
pub(crate) async fn answer_all(handle: &RunHandle, choice: &str) -> usize {
    let open = handle.open_requests().await.unwrap();
    for request in &open {
        let by = Principal::new("human:test").unwrap();
        handle
            .answer(request.id, Answer::new(choice, by))
            .await
            .unwrap();
    }
    open.len()
}

/// The audit records of a kind, the oldest first.
pub(crate) async fn records(stack: &Stack, kind: &str) -> Vec<Record> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = stack.journal().events(EventQuery::after(after)).await;
        let page = page.unwrap();
        let Some(last) = page.last() else {
            return found;
        };
        after = last.seq;
        found.extend(page.into_iter().filter(|record| record.kind == kind));
    }
}

pub(crate) async fn end(stack: Stack, handle: RunHandle) {
    handle.stop().await;
    stack.close().await;
}
