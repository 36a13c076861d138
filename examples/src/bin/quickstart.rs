//! Two writers and a reader that checks them, in one process on one directory. Look at the
//! last line of the output: each word passed the one door twice, and the audit chain has it all.

use std::sync::Arc;

use agent_core::{Effect, EffectClass, Env, Secret};
use agent_identity::Unlock;
use agent_orch::{Acted, Agent, Ctx, Ended, Fleet, Layers, NewTask, Result, Status, Task};
use agent_orch::{Stack, StackConfig, Supervisor};
use agent_pay::RateCard;
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_tools::InProcess;
use serde_json::json;

#[derive(Debug)]
enum Worker {
    Writer,
    Reader,
}

#[async_trait::async_trait]
impl Agent for Worker {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let word = task.input.as_str().unwrap_or_default().to_uppercase();
        let effect = Effect::new("tool.call", "upper", EffectClass::Pure, task.input.clone());
        let act = async |_scope| Ok(Acted::new(word));
        let upper: String = cx.effect("upper", effect, act).await?;
        Ok(match (self, task.output.as_ref()) {
            (Self::Writer, _) => Ended::done(json!(upper)),
            (Self::Reader, Some(output)) if *output == upper => Ended::accepted(json!("equal")),
            (Self::Reader, _) => Ended::refused(json!("not what the reader gets")),
        })
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program prints its result")]
async fn main() -> anyhow::Result<()> {
    let (env, dir) = (Env::system(), tempfile::tempdir()?);
    let fleet = Fleet::from_toml(include_str!("quickstart.toml"))?;
    let sandbox = Arc::new(WasmRuntime::open(Config::new(env.clone()))?);
    let layers = Layers::new(sandbox, Arc::new(InProcess::new(&env, [])?));
    let rates = RateCard::new("none", fleet.budget.asset())?;
    let unlock = Unlock::passphrase(Secret::from("a secret"));
    let stack = Stack::open(StackConfig::new(dir.path(), unlock, rates), env, layers).await?;
    let run = stack.open_run(&fleet, "three words", json!(null)).await?;
    let agents = Supervisor::new(stack.clone(), fleet)
        .with_agent("writer", || Worker::Writer)
        .with_agent("reader", || Worker::Reader);
    let handle = agents.start(run).await?;
    let tasks = ["to", "be", "safe"].map(|word| NewTask::new(word, "writers", json!(word)));
    handle.submit(tasks.into()).await?;
    let progress = handle.settled().await?;
    handle.end().await?;
    println!("{} tasks completed", progress.counts.of(Status::Completed));
    let audit = stack.journal().verify().await?;
    println!("{} audit records verified", audit.records);
    stack.close().await;
    Ok(())
}
