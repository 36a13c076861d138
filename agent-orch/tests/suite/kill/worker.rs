//! The workers of a child, at the level of the journal.

use std::path::Path;
use std::sync::Arc;

use agent_core::{AgentId, Effect, EffectClass, ErrorKind, Failure, Retry, Scope};
use agent_orch::{
    Action, Claim, ClaimRequest, Class, Ended, Error, Escalation, Intended, Intent, Journal, Lease,
    NewTask, Outcome, Pass, Policy, RecoveryTable, Result, Rung, Stage, StepKey, decide,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::kill::store::{COST, COST_MAX, Store, budget, host, usd};
use crate::kill::witness::{Line, Witness};

/// What a child prints once its first write is acknowledged.
pub(crate) const STARTED: &str = "the first write is acknowledged";

const WORKERS: u128 = 8;
const CLASSES: [EffectClass; 4] = [
    EffectClass::Pure,
    EffectClass::Idempotent,
    EffectClass::Probeable,
    EffectClass::Opaque,
];

#[derive(Clone, Debug)]
struct Worker {
    store: Store,
    witness: Arc<Witness>,
    id: AgentId,
    /// Whether it submits a task when there is none.
    makes_work: bool,
}

/// Works until killed.
pub(crate) async fn work_until_killed(dir: &Path) {
    run(dir, true).await;
}

/// Works until every task has ended.
pub(crate) async fn drain(dir: &Path) {
    run(dir, false).await;
}

async fn run(dir: &Path, makes_work: bool) {
    let (store, witness) = (Store::open(dir).await, Arc::new(Witness::open(dir)));
    let mut workers = JoinSet::new();
    for n in 1..=WORKERS {
        let worker = Worker {
            store: store.clone(),
            witness: Arc::clone(&witness),
            id: AgentId::from_bits(n),
            makes_work,
        };
        workers.spawn(async move { worker.work().await });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap().unwrap();
    }
    store.db.close().await;
}

impl Worker {
    async fn work(&self) -> Result<()> {
        let mut n_made = 0_u32;
        loop {
            if let Some(claim) = self.claim("verify").await? {
                self.verify(&claim).await?;
            } else if let Some(claim) = self.claim("work").await? {
                self.attempt(&claim).await?;
            } else if self.makes_work {
                self.submit(n_made).await?;
                if n_made == 0 && self.id.to_bits() == 1 {
                    println!("{STARTED}");
                }
                n_made += 1;
            } else if self.store.journal.counts(self.store.run).await?.moving() == 0 {
                return Ok(());
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    fn scope(&self) -> Scope {
        Scope::agent(self.id).with_run(self.store.run)
    }

    async fn submit(&self, n: u32) -> Result<()> {
        let (run, nonce) = (self.store.run, std::process::id());
        let task = NewTask::new(format!("{nonce}/{}/{n}", self.id), "work", json!(n));
        let id = task.id(run);
        self.store.journal.submit(&host(), run, vec![task]).await?;
        self.witness.note(&Line::Submitted { task: id });
        Ok(())
    }

    async fn claim(&self, pool: &str) -> Result<Option<Claim>> {
        let request = ClaimRequest::new(self.store.run, pool, self.id);
        let claim = self.store.journal.claim(&self.scope(), request).await?;
        if let Some(Claim { lease, .. }) = &claim {
            let (task, fence) = (lease.task, lease.fence.0);
            self.witness.note(&Line::Claimed { task, fence });
        }
        Ok(claim)
    }

    /// Makes one step of each class, the second one paid.
    async fn attempt(&self, claim: &Claim) -> Result<()> {
        for (class, n) in CLASSES.into_iter().zip(0_u32..) {
            if !self.step(&claim.lease, class, n).await? {
                return self
                    .finish(claim, Ended::refused(json!("unknown")), "task.failed")
                    .await;
            }
        }
        self.finish(claim, Ended::done(json!("done")), "task.done")
            .await
    }

    /// Returns false if nobody can tell whether the effect happened.
    async fn step(&self, lease: &Lease, class: EffectClass, n: u32) -> Result<bool> {
        let mut effect = Effect::new("tool.call", "world", class, json!(n));
        if n == 1 {
            effect = effect.with_cost_max(usd(COST_MAX));
        }
        let intent = Intent::new(StepKey::new("step", n), effect).with_budget(budget());
        let pass = match self.intend(lease, intent.clone()).await? {
            // Nobody may repeat what nobody can look up.
            Intended::InDoubt(_) if class == EffectClass::Opaque => return Ok(false),
            Intended::Recorded(_) => return Ok(true),
            Intended::Go(pass) => pass,
            Intended::InDoubt(pass) if self.witness.knows(pass.key.as_str()) => {
                self.settle(lease, &pass, Ok(json!("asked"))).await?;
                return Ok(true);
            }
            Intended::InDoubt(pass) => {
                self.settle(lease, &pass, Err(did_not_happen())).await?;
                match self.intend(lease, intent).await? {
                    Intended::Go(pass) => pass,
                    other => return Err(Error::invalid("step", format!("{other:?}"))),
                }
            }
            other => return Err(Error::invalid("step", format!("{other:?}"))),
        };
        if class != EffectClass::Pure {
            self.witness.act(pass.key.as_str(), class);
        }
        self.settle(lease, &pass, Ok(json!("done"))).await?;
        Ok(true)
    }

    async fn intend(&self, lease: &Lease, intent: Intent) -> Result<Intended> {
        let said = self
            .store
            .journal
            .intend(&self.scope(), lease, intent)
            .await?;
        if let Intended::Go(pass) = &said
            && pass.intent.is_some()
        {
            let (task, key) = (lease.task, pass.key.as_str().to_owned());
            let n_try = pass.n_try;
            self.witness.note(&Line::Intended { task, key, n_try });
        }
        Ok(said)
    }

    async fn settle(
        &self,
        lease: &Lease,
        pass: &Pass,
        result: Result<Value, Failure>,
    ) -> Result<()> {
        let mut outcome = Outcome::new(result);
        outcome.cost = pass.effect.cost_max.map(|_| usd(COST));
        let (journal, scope) = (&self.store.journal, self.scope());
        journal.settle(&scope, lease, pass, outcome).await?;
        let (task, key) = (lease.task, pass.key.as_str().to_owned());
        let n_try = pass.n_try;
        self.witness.note(&Line::Settled { task, key, n_try });
        Ok(())
    }

    async fn verify(&self, claim: &Claim) -> Result<()> {
        assert_ne!(
            claim.task.author,
            Some(self.id),
            "an author verifies itself"
        );
        assert_eq!(claim.lease.stage, Stage::Verify);
        self.finish(claim, Ended::accepted(Value::Null), "task.verified")
            .await
    }

    async fn finish(&self, claim: &Claim, ended: Ended, kind: &str) -> Result<()> {
        let recovery = RecoveryTable::default();
        let recovery = recovery.with(Class::InvalidInput, vec![Rung::new(Action::Fail, 1)])?;
        let escalation = Escalation::default();
        let next = decide(
            &claim.task,
            ended,
            &Policy::new(&recovery, "verify", &escalation),
        );
        let (journal, lease) = (&self.store.journal, &claim.lease);
        journal
            .finish(&self.scope(), lease, next.transition)
            .await?;
        let (task, fence, kind) = (lease.task, lease.fence.0, kind.to_owned());
        self.witness.note(&Line::Finished { task, fence, kind });
        Ok(())
    }
}

fn did_not_happen() -> Failure {
    let (kind, fix) = (ErrorKind::Unavailable, "try again");
    Failure::new(
        kind,
        Retry::Safe,
        "test.did_not_happen",
        "it did not happen",
        fix,
    )
}
