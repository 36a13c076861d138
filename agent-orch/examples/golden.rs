//! Writes the history that later versions must open: one data file with tasks in every state.
//!
//! `cargo run -p agent-orch --example golden -- agent-orch/tests/golden/v2.db` writes the file of
//! the format that is about to be released. Time and randomness are seeded, so that the same code
//! writes the same records. `tests/suite/golden.rs` says what is in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    AgentId, Digest, Effect, EffectClass, Env, ErrorKind, Event, Failure, ManualClock, Principal,
    Retry, RunId, Scope, SeededEntropy, Timestamp,
};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Action, Backoff, Claim, ClaimRequest, Class, Ended, Error, Escalation, Intended, Intent,
    Journal, Lease, NewRequest, NewRun, NewTask, Outcome, Policy, RecoveryTable, Result, Rung,
    StepKey, decide,
};
use agent_pay::{BudgetPath, OpenBudget};
use serde_json::{Value, json};

/// The moment the history begins.
const BEGIN: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

#[tokio::main]
async fn main() -> Result<()> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err(Error::invalid("golden", "name the file to write"));
    };
    let clock = Arc::new(ManualClock::new(BEGIN));
    let entropy = Arc::new(SeededEntropy::new(11));
    let env = Env::new(Arc::<ManualClock>::clone(&clock), entropy);
    let config = Config::new(Path::new(&path)).with_durability(Durability::PowerLoss);
    let db = Db::open(config, &env).await?;
    let journal = Sqlite::open(db.clone(), env.clone()).await?;
    let budget = BudgetPath::new("golden")?;
    let open = OpenBudget::new(budget.clone(), "10.00 USD".parse()?);
    db.write::<_, Error, _>(move |tx| {
        agent_pay::backend::sqlite::open_budget(tx, &open)?;
        Ok(())
    })
    .await?;
    let history = History {
        journal,
        clock,
        budget,
    };
    history.write().await?;
    db.close().await;
    Ok(())
}

struct History {
    journal: Sqlite,
    clock: Arc<ManualClock>,
    budget: BudgetPath,
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

impl History {
    async fn write(&self) -> Result<()> {
        let old = self.run("an earlier subject").await?;
        self.submit(old, "only").await?;
        self.journal.end_run(&host(), old).await?;
        let run = self.run("the subject").await?;
        self.completed(run).await?;
        self.parked(run).await?;
        self.delayed(run).await?;
        self.failed(run).await?;
        self.corrected(run).await?;
        self.submit(run, "untouched").await?;
        self.submit_to(run, "held", "slow").await?;
        let held = self.claim(run, "slow", 1).await?;
        self.intend(&held.lease, "send", EffectClass::Opaque)
            .await?;
        Ok(())
    }

    async fn run(&self, subject: &str) -> Result<RunId> {
        let spec = Digest::of_bytes(b"the golden fleet");
        let new = NewRun::new(subject, spec, json!({ "commit": "c0ffee" }));
        Ok(self.journal.open_run(&host(), new).await?.id)
    }

    async fn submit(&self, run: RunId, key: &str) -> Result<()> {
        self.submit_to(run, key, "work").await
    }

    async fn submit_to(&self, run: RunId, key: &str, pool: &str) -> Result<()> {
        self.clock.advance(Duration::from_millis(5));
        let task = NewTask::new(key, pool, json!({ "of": key })).with_priority(1);
        self.journal.submit(&host(), run, vec![task]).await?;
        Ok(())
    }

    async fn claim(&self, run: RunId, pool: &str, agent: u128) -> Result<Claim> {
        self.clock.advance(Duration::from_millis(7));
        let owner = AgentId::from_bits(agent);
        let request = ClaimRequest::new(run, pool, owner);
        let scope = Scope::agent(owner).with_run(run);
        let claim = self.journal.claim(&scope, request).await?;
        claim.ok_or_else(|| Error::invalid(pool, "nothing to claim"))
    }

    /// Records an intent that holds half a dollar.
    async fn intend(&self, lease: &Lease, name: &str, class: EffectClass) -> Result<Intended> {
        let effect = Effect::new("tool.call", name, class, json!({ "n": 1 }))
            .with_cost_max("0.50 USD".parse()?);
        let intent = Intent::new(StepKey::new(name, 0), effect).with_budget(self.budget.clone());
        self.journal.intend(&scope(lease), lease, intent).await
    }

    async fn step(&self, lease: &Lease, name: &str, result: Result<Value, Failure>) -> Result<()> {
        let intended = self.intend(lease, name, EffectClass::Idempotent).await?;
        let Intended::Go(pass) = intended else {
            return Err(Error::invalid(name, "the step is known already"));
        };
        self.clock.advance(Duration::from_millis(3));
        let mut outcome = Outcome::new(result);
        if outcome.result.is_ok() {
            outcome.cost = Some("0.20 USD".parse()?);
        }
        self.journal
            .settle(&scope(lease), lease, &pass, outcome)
            .await
    }

    async fn completed(&self, run: RunId) -> Result<()> {
        self.submit(run, "completed").await?;
        let worker = self.claim(run, "work", 1).await?;
        self.step(&worker.lease, "read", Ok(json!("text"))).await?;
        self.step(&worker.lease, "write", Ok(json!({ "bytes": 4 })))
            .await?;
        self.end(&worker, Ended::done(json!({ "change": null })), &[])
            .await?;
        let checker = self.claim(run, "check", 2).await?;
        self.end(&checker, Ended::accepted(json!("seen")), &[])
            .await
    }

    async fn parked(&self, run: RunId) -> Result<()> {
        self.submit(run, "parked").await?;
        let claim = self.claim(run, "work", 1).await?;
        self.step(&claim.lease, "draft", Ok(json!("dear sir")))
            .await?;
        let (task, options) = (claim.task.id, ["send it", "burn it"]);
        let deadline = BEGIN.after(Duration::from_secs(86_400));
        let ask = NewRequest::new(run, task, "ok", "Shall it go out?", &options, deadline);
        self.journal.ask(&scope(&claim.lease), ask).await?;
        self.end(&claim, Ended::Waiting, &[]).await
    }

    async fn delayed(&self, run: RunId) -> Result<()> {
        self.submit(run, "delayed").await?;
        let claim = self.claim(run, "work", 1).await?;
        let (kind, retry) = (ErrorKind::Unavailable, Retry::Safe);
        let away = Failure::new(kind, retry, "golden.away", "the other side is away", "wait");
        self.step(&claim.lease, "fetch", Err(away)).await?;
        self.end(&claim, Ended::refused(json!("later")), &[Action::Retry])
            .await
    }

    async fn failed(&self, run: RunId) -> Result<()> {
        self.submit(run, "failed").await?;
        let claim = self.claim(run, "work", 1).await?;
        let intended = self
            .intend(&claim.lease, "half", EffectClass::Opaque)
            .await?;
        let event = Event::new(
            &host(),
            BEGIN,
            "golden.noted",
            json!({ "goes": matches!(intended, Intended::Go(_)) }),
        );
        self.journal.note(event).await?;
        self.end(&claim, Ended::refused(json!("never")), &[]).await
    }

    async fn corrected(&self, run: RunId) -> Result<()> {
        self.submit(run, "corrected").await?;
        let claim = self.claim(run, "work", 1).await?;
        self.step(&claim.lease, "guess", Ok(json!(41))).await?;
        self.end(&claim, Ended::refused(json!("try 42")), &[Action::Repair])
            .await
    }

    /// Ends a lease as the pure core decides, with one ladder for refused work.
    async fn end(&self, claim: &Claim, ended: Ended, ladder: &[Action]) -> Result<()> {
        let mut rungs: Vec<Rung> = ladder.iter().map(|a| Rung::new(*a, 1)).collect();
        rungs.push(Rung::new(Action::Fail, 1));
        let table = RecoveryTable::default().with(Class::InvalidInput, rungs)?;
        let escalation = Escalation::default();
        let mut policy = Policy::new(&table, "check", &escalation);
        policy.now = BEGIN;
        policy.backoff = Backoff::new(Duration::from_secs(3_600), Duration::from_secs(3_600));
        let next = decide(&claim.task, ended, &policy);
        let scope = scope(&claim.lease);
        self.journal
            .finish(&scope, &claim.lease, next.transition)
            .await
    }
}

fn scope(lease: &Lease) -> Scope {
    Scope::agent(lease.owner).with_attempt(lease.attempt, lease.fence)
}
