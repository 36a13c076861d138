//! A journal that loses and doubles calls: whoever repeats a call gets through, and nothing is
//! done twice.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{AgentId, Digest, Effect, EffectClass, Env, Principal, Scope, SeededEntropy};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::layer::{Fault, FaultRates};
use agent_orch::{
    Claim, ClaimRequest, Ended, Error, Escalation, EventQuery, Intended, Intent, Journal, NewRun,
    NewTask, Outcome, Policy, RecoveryTable, Result, Status, StepKey, decide,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Makes a call until an answer arrives.
async fn until_answered<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    loop {
        match call().await {
            Err(Error::Backend { .. }) => {}
            answered => return answered,
        }
    }
}

async fn one_task(journal: &Fault<Sqlite>, key: &str) {
    let scope = Scope::new(Principal::host());
    let new = NewRun::new("faults", Digest::of_bytes(b"spec"), Value::Null);
    let run = until_answered(|| journal.open_run(&scope, new.clone()))
        .await
        .unwrap()
        .id;
    let tasks = vec![NewTask::new(key, "work", json!(key))];
    until_answered(|| journal.submit(&scope, run, tasks.clone()))
        .await
        .unwrap();
    for (pool, ended) in [
        ("work", Ended::done(json!(key))),
        ("verify", Ended::accepted(json!(1))),
    ] {
        let owner = AgentId::from_bits(if pool == "work" { 1 } else { 2 });
        let claim = claim(journal, ClaimRequest::new(run, pool, owner), &new).await;
        if pool == "work" {
            step(journal, &claim).await;
        }
        let (recovery, escalation) = (RecoveryTable::default(), Escalation::default());
        let next = decide(
            &claim.task,
            ended,
            &Policy::new(&recovery, "verify", &escalation),
        );
        let finish = || journal.finish(&scope, &claim.lease, next.transition.clone());
        // An end whose answer is lost says the second time that the lease is over.
        let finished = until_answered(finish).await;
        assert!(
            matches!(finished, Ok(()) | Err(Error::LeaseLost { .. })),
            "{finished:?}"
        );
    }
}

/// Claims; a claim whose answer is lost holds the task until the run is opened again.
async fn claim(journal: &Fault<Sqlite>, request: ClaimRequest, run: &NewRun) -> Claim {
    let scope = Scope::new(Principal::host());
    loop {
        if let Ok(Some(claim)) = journal.claim(&scope, request.clone()).await {
            return claim;
        }
        until_answered(|| journal.open_run(&scope, run.clone()))
            .await
            .unwrap();
    }
}

async fn step(journal: &Fault<Sqlite>, claim: &Claim) {
    let (scope, lease) = (Scope::new(Principal::host()), &claim.lease);
    let effect = Effect::new("tool.call", "a", EffectClass::Idempotent, json!(1));
    let intent = Intent::new(StepKey::new("s", 0), effect);
    let said = until_answered(|| journal.intend(&scope, lease, intent.clone())).await;
    let Intended::Go(pass) = said.unwrap() else {
        return;
    };
    let outcome = Outcome::new(Ok(json!("done")));
    let settled = until_answered(|| journal.settle(&scope, lease, &pass, outcome.clone())).await;
    assert!(
        matches!(settled, Ok(()) | Err(Error::NotFound { .. })),
        "{settled:?}"
    );
    let again = until_answered(|| journal.intend(&scope, lease, intent.clone())).await;
    assert_eq!(again.unwrap(), Intended::Recorded(json!("done")));
}

#[tokio::test]
async fn repeated_calls_get_through_and_do_nothing_twice() {
    for seed in 0..8 {
        let (dir, env) = (TempDir::new().unwrap(), Env::system());
        let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env).await.unwrap();
        let plain = journal.clone();
        let entropy = Arc::new(SeededEntropy::new(seed));
        let journal = Fault::new(journal, FaultRates::harsh(), entropy);
        for key in ["a", "b", "c"] {
            one_task(&journal, key).await;
        }
        let scope = Scope::new(Principal::host());
        let new = NewRun::new("faults", Digest::of_bytes(b"spec"), Value::Null);
        let run = plain.open_run(&scope, new).await.unwrap().id;
        let counts = plain.counts(run).await.unwrap();
        assert_eq!(
            (counts.total(), counts.of(Status::Completed)),
            (3, 3),
            "seed {seed}"
        );
        let records = plain.events(EventQuery::after(0)).await.unwrap();
        let done = records.iter().filter(|record| record.kind == "effect.done");
        assert_eq!(done.count(), 3, "seed {seed}: one outcome a step");
        assert!(plain.verify().await.is_ok());
        db.close().await;
    }
}
