//! A pot of tea that waits: for three minutes, for somebody to taste it, and for its bill; then a
//! schedule that brews one every hour. The stack is stopped while the tea steeps, and the clock is the
//! program's own. Look at what a stopped stack misses: nothing.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env, IdempotencyKey, Principal, Secret, Timestamp};
use agent_identity::Unlock;
use agent_orch::{Agent, Ctx, Ended, Fleet, Layers, NewTask, Result, Signal, Status, Task};
use agent_orch::{RunHandle, Stack, StackConfig, Supervisor, TaskRef, WaitId};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use serde_json::json;
use tokio::sync::watch;

const MINUTE: Duration = Duration::from_secs(60);

/// A clock that moves when it is told to. It begins on 2026-11-25 at 09:05.
#[derive(Clone, Debug)]
struct Dial(Arc<watch::Sender<Timestamp>>);

impl Dial {
    fn turn(&self, by: Duration) {
        self.0.send_modify(|now| *now = now.after(by));
    }
}

#[async_trait::async_trait]
impl Clock for Dial {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }
    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::EPOCH)
    }
    async fn sleep_until(&self, deadline: Timestamp) {
        let mut turns = self.0.subscribe();
        // The sender outlives this wait.
        let _reached = turns.wait_for(|now| *now >= deadline).await;
    }
}

#[derive(Debug)]
enum Staff {
    Brewer,
    Guest,
}
#[async_trait::async_trait]
impl Agent for Staff {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        if let Self::Guest = self {
            return Ok(Ended::accepted(json!("warm")));
        }
        if task.input == json!("quick") {
            return Ok(Ended::done(json!("a quick cup")));
        }
        cx.sleep("steep", 3 * MINUTE).await?;
        let taste = cx.signal("taste").await?;
        let bill = cx.awakeable("bill", 60 * MINUTE).await?;
        let paid = cx.resolved(&bill).await?;
        Ok(Ended::done(json!({ "taste": taste, "paid": paid? })))
    }
}

async fn open(dir: &std::path::Path, env: &Env) -> anyhow::Result<(Stack, RunHandle)> {
    let fleet = Fleet::from_toml(include_str!("waits.toml"))?;
    let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone()))?);
    let layers = Layers::new(sandbox, Arc::new(InProcess::new(env, [])?));
    let rates = RateCard::new("none", fleet.budget.asset())?;
    let unlock = Unlock::passphrase(Secret::from("a secret"));
    let stack = Stack::open(StackConfig::new(dir, unlock, rates), env.clone(), layers).await?;
    let run = stack.open_run(&fleet, "tea", json!(null)).await?;
    let staff = Supervisor::new(stack.clone(), fleet)
        .with_agent("brewer", || Staff::Brewer)
        .with_agent("guest", || Staff::Guest);
    Ok((stack, staff.start(run).await?))
}

/// Lets time pass in small steps until a task waits at a step.
async fn waits_at(handle: &RunHandle, dial: &Dial, step: &str) -> anyhow::Result<WaitId> {
    loop {
        let parked = handle.progress().await?.counts.of(Status::Parked) == 1;
        let waits = handle.open_waits().await?;
        if let Some(wait) = waits.iter().find(|wait| parked && wait.step.name == step) {
            return Ok(wait.id);
        }
        dial.turn(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
}

async fn completed(handle: &RunHandle, dial: &Dial, n: u64) -> anyhow::Result<()> {
    while handle.progress().await?.counts.of(Status::Completed) < n {
        dial.turn(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program prints its result")]
async fn main() -> anyhow::Result<()> {
    let start = Timestamp::from_unix_ms(1_795_597_500_000);
    let dial = Dial(Arc::new(watch::Sender::new(start)));
    let env = Env::new(Arc::new(dial.clone()), Env::system().entropy);
    let dir = tempfile::tempdir()?;
    let (stack, handle) = open(dir.path(), &env).await?;
    let tea = NewTask::new("pot", "brewers", json!("a pot"));
    handle.submit(vec![tea]).await?;
    waits_at(&handle, &dial, "steep").await?;
    println!("the pot steeps, without a thread or a lease");
    handle.stop().await;
    stack.close().await;
    println!("the stack is stopped, and three minutes pass");
    dial.turn(3 * MINUTE);
    let (stack, handle) = open(dir.path(), &env).await?;
    println!(
        "the stack is open again, resumed: {}",
        handle.run().is_resumed
    );
    waits_at(&handle, &dial, "taste").await?;
    let signal = Signal::new("taste", json!("strong"), IdempotencyKey::new("sip-1")?);
    let first = handle.signal("pot", signal.clone()).await?;
    let again = handle.signal("pot", signal).await?;
    println!("a signal is taken: {first}, sent again: {again}");
    let bill = waits_at(&handle, &dial, "bill").await?;
    let guest = Principal::new("human:guest")?;
    handle.resolve(bill, json!(350), guest.clone()).await?;
    let other = handle.resolve(bill, json!(0), guest).await;
    println!(
        "the bill is answered; another answer is taken: {}",
        other.is_ok()
    );
    completed(&handle, &dial, 1).await?;
    let pot = stack
        .journal()
        .task(TaskRef::from("pot").id(handle.id()))
        .await?;
    println!("the pot is done: {}", pot.output.unwrap_or_default());
    dial.turn(60 * MINUTE);
    completed(&handle, &dial, 2).await?;
    for schedule in handle.schedules().await? {
        println!("{} brewed {} by the clock", schedule.name, schedule.n_fired);
    }
    handle.end().await?;
    stack.close().await;
    Ok(())
}
