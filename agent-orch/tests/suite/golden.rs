//! The data files of every released format open, verify and go on.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    AgentId, Asset, Digest, Effect, EffectClass, Env, ManualClock, Principal, Scope, SeededEntropy,
    TaskId, Timestamp,
};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Answer, Claim, ClaimRequest, Class, Ended, Escalation, EventQuery, Intended, Intent, Journal,
    NewRun, NewTask, Policy, RecoveryTable, Run, Stage, Status, StepKey, Task, decide,
};
use agent_pay::BudgetPath;
use serde_json::{Value, json};
use tempfile::TempDir;

/// When the histories end, within the lease that is still held.
const END: Timestamp = Timestamp::from_unix_ms(1_700_000_000_500);

/// A copy of a golden file, opened by today's code.
struct Golden {
    journal: Sqlite,
    db: Db,
    clock: Arc<ManualClock>,
    run: Run,
    _dir: TempDir,
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

impl Golden {
    /// Opens a file whose chain has `records` records.
    async fn open(file: &str, records: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        std::fs::copy(golden.join(file), dir.path().join("stack.db")).unwrap();
        let clock = Arc::new(ManualClock::new(END));
        let entropy = Arc::new(SeededEntropy::new(12));
        let env = Env::new(Arc::<ManualClock>::clone(&clock), entropy);
        let config = Config::new(dir.path().join("stack.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env).await.unwrap();
        let before = journal.verify().await.unwrap();
        assert_eq!(before.records, records, "the chain is whole as it was left");
        let spec = Digest::of_bytes(b"the golden fleet");
        let new = NewRun::new("the subject", spec, Value::Null);
        let run = journal.open_run(&host(), new).await.unwrap();
        Self {
            journal,
            db,
            clock,
            run,
            _dir: dir,
        }
    }

    fn id(&self, key: &str) -> TaskId {
        NewTask::new(key, "work", Value::Null).id(self.run.id)
    }

    async fn task(&self, key: &str) -> Task {
        self.journal.task(self.id(key)).await.unwrap()
    }

    async fn claim(&self, pool: &str, agent: u128) -> Option<Claim> {
        let owner = AgentId::from_bits(agent);
        let request = ClaimRequest::new(self.run.id, pool, owner);
        let scope = Scope::agent(owner).with_run(self.run.id);
        self.journal.claim(&scope, request).await.unwrap()
    }

    async fn intend(&self, claim: &Claim, name: &str, class: EffectClass) -> Intended {
        let effect = Effect::new("tool.call", name, class, json!({ "n": 1 }))
            .with_cost_max("0.50 USD".parse().unwrap());
        let intent = Intent::new(StepKey::new(name, 0), effect)
            .with_budget(BudgetPath::new("golden").unwrap());
        self.journal
            .intend(&host(), &claim.lease, intent)
            .await
            .unwrap()
    }

    async fn end(&self, claim: &Claim, ended: Ended) {
        let (table, escalation) = (RecoveryTable::default(), Escalation::default());
        let policy = Policy::new(&table, "check", &escalation);
        let next = decide(&claim.task, ended, &policy);
        self.journal
            .finish(&host(), &claim.lease, next.transition)
            .await
            .unwrap();
    }

    /// Checks what the file says of every task, its steps and its requests.
    async fn check_tasks(&self) {
        let facts = [
            ("completed", Stage::Verify, Status::Completed, 0, 2),
            ("parked", Stage::Work, Status::Parked, 0, 1),
            ("delayed", Stage::Work, Status::Delayed, 0, 1),
            ("failed", Stage::Work, Status::Failed, 0, 1),
            ("corrected", Stage::Work, Status::Ready, 1, 1),
            ("untouched", Stage::Work, Status::Ready, 0, 0),
            ("held", Stage::Work, Status::Ready, 0, 1),
        ];
        for (key, stage, status, round, attempts) in facts {
            let task = self.task(key).await;
            let found = (task.stage, task.status, task.round, task.attempts);
            assert_eq!(found, (stage, status, round, attempts), "{key}");
            assert_eq!(task.input, json!({ "of": key }));
            assert_eq!((task.key.as_str(), task.run), (key, self.run.id));
        }
        let done = self.task("completed").await;
        assert_eq!(done.output, Some(json!({ "change": null })));
        assert_eq!(done.author, Some(AgentId::from_bits(1)));
        let corrected = self.task("corrected").await;
        assert_eq!(corrected.feedback, [json!("try 42")]);
        assert_eq!(corrected.failures[&Class::InvalidInput], 1);
        let delayed = self.task("delayed").await;
        assert_eq!(delayed.failure.unwrap().code, "orch.refused_by_verifier");
        let counts = self.journal.counts(self.run.id).await.unwrap();
        assert_eq!((counts.total(), counts.moving()), (7, 4));
    }

    async fn check_requests(&self) {
        let open = self.journal.open_requests(self.run.id).await.unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].task, self.id("parked"));
        assert_eq!(open[0].options, ["send it", "burn it"]);
        assert_eq!(open[0].question, "Shall it go out?");
    }

    async fn check_records(&self) {
        let records = self.journal.events(EventQuery::after(0)).await.unwrap();
        let kinds = |of: &str| records.iter().filter(|r| r.kind == of).count();
        assert_eq!(kinds("effect.intended"), 7);
        assert_eq!((kinds("effect.done"), kinds("effect.failed")), (4, 1));
        assert_eq!((kinds("run.started"), kinds("run.ended")), (2, 1));
        assert!(records.iter().all(|record| record.payload.is_some()));
    }

    async fn held_and_spent(&self) -> (i128, i128) {
        let path = BudgetPath::new("golden").unwrap();
        let read = self.db.read::<_, agent_pay::Error, _>(move |tx| {
            agent_pay::backend::sqlite::balance(tx, Asset::USD, &path)
        });
        let balance = read.await.unwrap();
        (balance.held.units(), balance.spent.units())
    }

    /// Does what is left to do, in the order in which it comes.
    async fn go_on(&self) {
        let open = self.journal.open_requests(self.run.id).await.unwrap();
        let by = Principal::new("human:test").unwrap();
        let answer = Answer::new("send it", by);
        self.journal
            .answer(&host(), open[0].id, answer)
            .await
            .unwrap();
        self.clock.advance(Duration::from_secs(3 * 3_600));
        while let Some(claim) = self.claim("work", 1).await {
            if claim.task.key == "parked" {
                let draft = self.intend(&claim, "draft", EffectClass::Idempotent).await;
                assert_eq!(draft, Intended::Recorded(json!("dear sir")));
            }
            self.end(&claim, Ended::done(json!(claim.task.key))).await;
        }
        let held = self.claim("slow", 3).await.unwrap();
        let send = self.intend(&held, "send", EffectClass::Opaque).await;
        assert!(matches!(send, Intended::InDoubt(_)), "{send:?}");
        self.end(&held, Ended::done(json!("it went out"))).await;
        while let Some(claim) = self.claim("check", 2).await {
            self.end(&claim, Ended::accepted(Value::Null)).await;
        }
    }
}

async fn opens_verifies_and_goes_on(file: &str, records: u64) {
    let golden = Golden::open(file, records).await;
    assert!(golden.run.is_resumed);
    assert_eq!(golden.run.meta, json!({ "commit": "c0ffee" }));
    golden.check_tasks().await;
    golden.check_requests().await;
    golden.check_records().await;
    assert_eq!(golden.held_and_spent().await, (500_000, 800_000), "money");
    golden.go_on().await;
    let counts = golden.journal.counts(golden.run.id).await.unwrap();
    let (completed, failed) = (counts.of(Status::Completed), counts.of(Status::Failed));
    assert_eq!((completed, failed, counts.moving()), (6, 1, 0));
    golden.journal.verify().await.unwrap();
    assert_eq!(golden.held_and_spent().await.0, 0, "nothing stays held");
    golden.db.close().await;
}

#[tokio::test]
async fn a_file_of_schema_version_1_goes_on() {
    opens_verifies_and_goes_on("v1.db", 38).await;
}
