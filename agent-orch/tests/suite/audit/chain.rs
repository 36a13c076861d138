//! A journal with records of every kind, and ways to damage it.

use std::sync::Arc;

use agent_core::store::{self, Config, Db, Durability, sql};
use agent_core::{AgentId, Digest, Effect, EffectClass, Env, Principal, Scope, TaskId};
use agent_identity::backend::InMemoryKeyStore;
use agent_identity::{DidKey, KeyName, KeyStore};
use agent_orch::audit::{Export, Sealer, Verification};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Audit, Claim, ClaimRequest, Ended, Error, Escalation, Intended, Intent, Journal, NewRun,
    NewTask, Outcome, Policy, RecoveryTable, Result, StepKey, decide,
};
use serde_json::json;
use tempfile::TempDir;

/// Text that appears nowhere by chance.
pub(super) const SECRET: &str = "frumiousbandersnatch";

/// A journal with records of every kind, and a signed root in the middle.
pub(super) struct Chain {
    pub(super) journal: Arc<Sqlite>,
    pub(super) db: Db,
    pub(super) dir: TempDir,
    pub(super) sealer: Sealer,
    pub(super) signer: DidKey,
    pub(super) task: TaskId,
}

impl Chain {
    pub(super) async fn new() -> Self {
        let (dir, env) = (TempDir::new().unwrap(), Env::system());
        let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Arc::new(Sqlite::open(db.clone(), env.clone()).await.unwrap());
        let keys = Arc::new(InMemoryKeyStore::new(&env));
        let name = KeyName::new("host").unwrap();
        let key = keys.generate(&host(), vec![name]).await.unwrap().remove(0);
        let signer = key.did;
        let as_journal = Arc::<Sqlite>::clone(&journal);
        let sealer = Sealer::new(as_journal, keys, env, host(), key);
        let task = work(&journal).await;
        sealer.seal().await.unwrap().unwrap();
        let event = |n: i32| {
            let at = agent_core::Timestamp::from_unix_ms(0);
            agent_core::Event::new(&host(), at, "host.noted", json!({ "n": n }))
        };
        journal.note(event(1)).await.unwrap();
        journal.note(event(2)).await.unwrap();
        Self {
            journal,
            db,
            dir,
            sealer,
            signer,
            task,
        }
    }

    pub(super) fn trusting(&self) -> Verification {
        Verification::new().trusting(self.signer)
    }

    /// Changes the tables; nothing of it is kept if `change` fails.
    pub(super) async fn tamper(
        &self,
        change: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        self.db
            .write::<_, store::Error, _>(move |tx| change(tx.sql()).map_err(sql("tamper")))
            .await
            .unwrap();
    }

    pub(super) async fn execute(&self, statement: &str) {
        let statement = statement.to_owned();
        self.tamper(move |db| db.execute_batch(&statement)).await;
    }

    pub(super) async fn found(&self) -> (u64, &'static str) {
        named(&self.journal.verify_with(self.trusting()).await)
    }

    pub(super) async fn export(&self) -> String {
        let mut export = Export::new(Arc::<Sqlite>::clone(&self.journal));
        let mut lines = String::new();
        while let Some(page) = export.next().await.unwrap() {
            lines.push_str(&page);
        }
        lines
    }
}

pub(super) fn host() -> Scope {
    Scope::new(Principal::host())
}

/// Runs a task with a step of each class, and fails it.
async fn work(journal: &Sqlite) -> TaskId {
    let new = NewRun::new("s", Digest::of_bytes(b"s"), json!({}));
    let run = journal.open_run(&host(), new).await.unwrap().id;
    let task = NewTask::new("t", "p", json!({ "said": SECRET }));
    journal.submit(&host(), run, vec![task]).await.unwrap();
    let owner = AgentId::from_bits(1);
    let scope = Scope::agent(owner).with_run(run);
    let request = ClaimRequest::new(run, "p", owner);
    let claim = journal.claim(&scope, request).await.unwrap().unwrap();
    for class in [EffectClass::Pure, EffectClass::Idempotent] {
        let effect = Effect::new("tool.call", "t", class, json!({ "said": SECRET }));
        let step = StepKey::new(format!("{class:?}"), 0);
        let intent = Intent::new(step, effect);
        let intended = journal.intend(&scope, &claim.lease, intent).await.unwrap();
        let Intended::Go(pass) = intended else {
            continue;
        };
        let outcome = Outcome::new(Ok(json!({ "said": SECRET })));
        journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await
            .unwrap();
    }
    let done = Ended::done(json!(SECRET));
    end(journal, &claim, done).await;
    let request = ClaimRequest::new(run, "v", AgentId::from_bits(2));
    let claim = journal.claim(&scope, request).await.unwrap().unwrap();
    end(journal, &claim, Ended::accepted(json!(SECRET))).await;
    claim.task.id
}

pub(super) async fn end(journal: &Sqlite, claim: &Claim, ended: Ended) {
    let (table, escalation) = (RecoveryTable::default(), Escalation::default());
    let next = decide(&claim.task, ended, &Policy::new(&table, "v", &escalation));
    journal
        .finish(&host(), &claim.lease, next.transition)
        .await
        .unwrap();
}

pub(super) fn named(result: &Result<Audit>) -> (u64, &'static str) {
    match result {
        Err(Error::AuditBroken { seq, found, .. }) => (*seq, found),
        _ => (0, "nothing was found"),
    }
}
