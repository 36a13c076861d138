//! What recovery is worth: the same tasks, each through all five layers, with 3 % of the calls of each
//! layer failing, in a loop that gives up at the first error and under the supervisor.
//!
//! Run with `cargo run --release -p examples --bin reliability [TASKS]`.

use std::sync::Arc;
use std::time::Duration;

use agent_core::fault::{Chaos as Faults, Fault as Lost};
use agent_core::model::ToolCall;
use agent_core::store::Durability;
use agent_core::{Amount, Asset, Effect, EffectClass, Env, IdempotencyKey, Scope, SecretBytes};
use agent_core::{SeededEntropy, SystemClock, Timestamp};
use agent_identity::{Key, KeyName, Purpose, Signature, Unlock};
use agent_memory::{Draft, MemoryStoreExt, Namespace};
use agent_orch::report::Report;
use agent_orch::{
    Acted, Agent, Backoff, Chaos, Ctx, Ended, Error, FailPoint, Fault, Fleet, Layers,
};
use agent_orch::{NewTask, Point, Pool, Result, Stack, StackConfig, Status, Supervisor, Task};
use agent_pay::backend::SqliteLedger;
use agent_pay::{BudgetPath, Budgets, OpenBudget, RateCard, Reserve, Settle};
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::{Exec, Program, SandboxExt, Spec};
use agent_tools::{InProcess, JsonSchema, Tool};
use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Every draw follows from it.
const SEED: u64 = 42;
/// How many of a million calls of each layer fail.
const FAULTS_PER_MILLION: u32 = 30_000;
/// The least share of tasks that must be verified, in a thousand.
const VERIFIED_PER_MILLE: u64 = 999;
/// What all tasks may cost, and what one does.
const LIMIT: &str = "1000000.00 USD";
const PRICE: &str = "0.01 USD";
/// How long a payment may take.
const HOLDS_LAST: Duration = Duration::from_secs(3_600);
/// Prints one line and exits.
const GUEST: &[u8] = include_bytes!("../../../agent-sandbox/guests/probe/hello.wasm");

/// The layers a task goes through, and what repeating a call does.
const LAYERS: [(&str, EffectClass); 5] = [
    ("sandbox.exec", EffectClass::Pure),
    ("tool.call", EffectClass::Pure),
    ("memory.add", EffectClass::Idempotent),
    ("identity.sign", EffectClass::Pure),
    ("pay.charge", EffectClass::Idempotent),
];

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "agent_tools::schemars")]
struct Double {
    n: u64,
}

/// The layers as one task uses them, with or without the door.
#[derive(Clone, Debug)]
struct Shop {
    stack: Stack,
    key: Key,
    budgets: Budgets,
    /// When payments are given up: one moment for all tries, as a key stands for one body.
    until: Timestamp,
}

impl Shop {
    async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let name = vec![KeyName::new("shop")?];
        let keys = stack.keys().generate(&stack.host_scope(), name).await?;
        let budgets = Budgets::new(Arc::new(SqliteLedger::open(stack.db().clone()).await?));
        let limit = LIMIT.parse()?;
        budgets
            .open(OpenBudget::new(BudgetPath::new("shop")?, limit))
            .await?;
        Ok(Self {
            stack: stack.clone(),
            key: keys.into_iter().next().context("a key")?,
            budgets,
            until: stack.env().clock.now().after(HOLDS_LAST),
        })
    }

    /// Makes the call of one layer, under the key of the scope.
    async fn call(&self, layer: &str, scope: &Scope, n: u64) -> Result<Value> {
        let key = scope.idempotency_key.clone();
        let key = key.ok_or_else(|| Error::invalid("scope", "a call has a key"))?;
        match layer {
            "sandbox.exec" => {
                let spec = Spec::new(Program::wasm("hello", GUEST));
                let sandbox = self.stack.sandbox().launch(scope, spec).await?;
                let output = sandbox.output(scope, Exec::new()).await;
                sandbox.close().await?;
                Ok(json!(output?.stdout_lossy()))
            }
            "tool.call" => {
                let call = ToolCall::new("double", "double", json!({ "n": n }));
                Ok(json!(self.stack.tools().call(scope, call).await?.to_text()))
            }
            "memory.add" => {
                let draft = Draft::event(format!("task {n} came by")).with_key(key);
                let memory = self.stack.memory();
                memory
                    .add_one(scope, Namespace::new("shop/tasks")?, draft)
                    .await?;
                Ok(json!(n))
            }
            "identity.sign" => {
                let (bytes, keys) = (n.to_string().into_bytes(), self.stack.keys());
                let signed = keys
                    .sign(scope, self.key.id, Purpose::RECEIPT, bytes)
                    .await?;
                Ok(json!(signed.to_string()))
            }
            _ => {
                let (path, cost) = (BudgetPath::new("shop")?, PRICE.parse()?);
                let reserve = Reserve::new(key.clone(), path, cost, self.until);
                self.budgets.reserve(reserve).await?.into_hold()?;
                self.budgets.settle(Settle::new(key, cost)).await?;
                Ok(json!("paid"))
            }
        }
    }

    /// Returns how often the price of a task was paid.
    async fn n_paid(&self) -> anyhow::Result<i128> {
        let (limit, price): (Amount, Amount) = (LIMIT.parse()?, PRICE.parse()?);
        let balance = self.stack.balance("shop", limit).await?;
        Ok(balance.spent.units() / price.units())
    }

    /// Checks what a task says it got from each layer.
    fn verify(&self, n: u64, output: &Value) -> bool {
        let text = |layer: &str| {
            output
                .get(layer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (bytes, did) = (n.to_string(), &self.key.did);
        let signed = text("identity.sign").parse::<Signature>();
        let signed = signed.map(|s| did.verify(&Purpose::RECEIPT, bytes.as_bytes(), &s));
        text("sandbox.exec") == "hello from a guest\n"
            && text("tool.call") == (2 * n).to_string()
            && matches!(signed, Ok(Ok(())))
            && output.get("memory.add") == Some(&json!(n))
            && text("pay.charge") == "paid"
    }
}

#[derive(Debug)]
enum Worker {
    Seller(Shop),
    Checker(Shop),
}

#[async_trait::async_trait]
impl Agent for Worker {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let n = task.input.as_u64().unwrap_or_default();
        let shop = match self {
            Self::Seller(shop) => shop,
            Self::Checker(shop) => {
                let output = task.output.clone().unwrap_or_default();
                return Ok(match shop.verify(n, &output) {
                    true => Ended::accepted(json!("as each layer says")),
                    false => Ended::refused(json!("not what the layers say")),
                });
            }
        };
        let mut output = json!({});
        for (layer, class) in LAYERS {
            let effect = Effect::new(layer, "shop", class, json!({ "n": n }));
            let act = async |scope: Scope| Ok(Acted::new(shop.call(layer, &scope, n).await?));
            let said: Value = cx.effect(layer, effect, act).await?;
            if let Value::Object(members) = &mut output {
                members.insert(layer.to_owned(), said);
            }
        }
        Ok(Ended::done(output))
    }
}

/// Makes the calls of every task in a plain loop that gives a task up at its first error, and returns
/// how many were right at the end.
async fn unprotected(shop: &Shop, n_tasks: u64) -> anyhow::Result<u64> {
    let faults = Faults::new(Arc::new(SeededEntropy::new(SEED)));
    let faults = faults
        .with(Lost::LostRequest, FAULTS_PER_MILLION / 3 * 2)
        .with(Lost::LostAnswer, FAULTS_PER_MILLION / 3);
    let mut n_right = 0;
    'tasks: for n in 0..n_tasks {
        let mut output = json!({});
        for (layer, _) in LAYERS {
            let fault = faults.next();
            if fault == Lost::LostRequest {
                continue 'tasks;
            }
            let key = IdempotencyKey::new(format!("unprotected/{n}/{layer}"))?;
            let scope = shop.stack.host_scope().with_idempotency_key(key);
            let said = shop.call(layer, &scope, n).await?;
            if fault == Lost::LostAnswer {
                continue 'tasks;
            }
            if let Value::Object(members) = &mut output {
                members.insert(layer.to_owned(), said);
            }
        }
        n_right += u64::from(shop.verify(n, &output));
    }
    Ok(n_right)
}

/// A third of the faults each: an error, an answer that is lost, a crash of the agent.
fn chaos() -> Chaos {
    let chance = FAULTS_PER_MILLION / 3;
    let chaos = Chaos::new(0).with_seed(SEED);
    LAYERS.iter().fold(chaos, |chaos, (layer, _)| {
        let at = |point, fault| FailPoint::new(point, fault).on(*layer).with_chance(chance);
        chaos
            .with_point(at(Point::AfterIntent, Fault::Error))
            .with_point(at(Point::AfterIntent, Fault::Crash))
            .with_point(at(Point::AfterEffect, Fault::Lost))
    })
}

fn fleet() -> anyhow::Result<Fleet> {
    let budget = "1.00 USD".parse()?;
    let sellers = Pool::new("seller", 16, budget).with_verifier("checkers", None);
    let mut fleet = Fleet::new("reliability", budget)
        .with_pool("sellers", sellers.with_grant("*:shop"))
        .with_pool("checkers", Pool::new("checker", 4, budget));
    // A crash in a hundred calls is normal here.
    fleet.supervisor.intensity.restarts = 100_000;
    fleet.backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(50));
    Ok(fleet)
}

async fn supervised(shop: &Shop, n_tasks: u64) -> anyhow::Result<(u64, Report)> {
    let (fleet, stack) = (fleet()?, &shop.stack);
    let run = stack.open_run(&fleet, "reliability", Value::Null).await?;
    let (seller, checker) = (shop.clone(), shop.clone());
    let handle = Supervisor::new(stack.clone(), fleet)
        .with_agent("seller", move || Worker::Seller(seller.clone()))
        .with_agent("checker", move || Worker::Checker(checker.clone()))
        .with_chaos(chaos())
        .start(run)
        .await?;
    let tasks = (0..n_tasks).map(|n| NewTask::new(format!("task {n}"), "sellers", json!(n)));
    handle.submit(tasks.collect()).await?;
    let progress = handle.settled().await?;
    ensure!(
        progress.quarantined.is_empty(),
        "{:?}",
        progress.quarantined
    );
    let report = Report::of(stack.journal().as_ref(), handle.id(), Asset::USD).await?;
    handle.end().await?;
    Ok((progress.counts.of(Status::Completed), report))
}

/// Hundredths of a percent, as text.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = part * 10_000 / whole.max(1);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program prints its result")]
async fn main() -> anyhow::Result<()> {
    let n_tasks = std::env::args().nth(1).map_or(Ok(2_000), |n| n.parse())?;
    let entropy = Arc::new(SeededEntropy::new(SEED));
    let (env, dir) = (
        Env::new(Arc::new(SystemClock::new()), entropy),
        tempfile::tempdir()?,
    );
    let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone()))?);
    let double = Tool::new("double", "Doubles.", async |_, double: Double| {
        Ok(2 * double.n)
    });
    let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, [double])?));
    let unlock = Unlock::key(SecretBytes::new(Box::new(vec![7; 32])));
    let config = StackConfig::new(dir.path(), unlock, RateCard::new("none", Asset::USD)?)
        .with_durability(Durability::ProcessKill);
    let stack = Stack::open(config, env, layers).await?;
    let shop = Shop::open(&stack).await?;

    let bare = unprotected(&shop, n_tasks).await?;
    println!(
        "unprotected: {bare} of {n_tasks} tasks right, {} (0.97^5 = 85.87 %)",
        percent(bare, n_tasks)
    );
    let paid_before = shop.n_paid().await?;
    let (verified, report) = supervised(&shop, n_tasks).await?;
    let n_paid = shop.n_paid().await? - paid_before;
    println!(
        "supervised: {verified} of {n_tasks} tasks verified, {}",
        percent(verified, n_tasks)
    );
    println!(
        "  paid {n_paid} times in {} rounds",
        n_tasks + report.corrections
    );
    for (layer, tries) in &report.layers {
        let failed = tries.tries - tries.done;
        println!("  {layer}: {} calls, {failed} failed", tries.tries);
    }
    for (code, fault) in &report.faults {
        println!("  {code}: {} injected", fault.injected);
    }
    let audit = stack.journal().verify().await?;
    println!("{} audit records verified", audit.records);
    stack.close().await;
    ensure!(
        verified * 1_000 >= n_tasks * VERIFIED_PER_MILLE,
        "fewer than 99.9 % of the tasks were verified"
    );
    ensure!(
        n_paid <= i128::from(n_tasks + report.corrections),
        "a task was paid twice in one round"
    );
    Ok(())
}
