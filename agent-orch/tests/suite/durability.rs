//! What waits for time or for the outside survives a process that is killed between parking and
//! waking.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db};
use agent_core::{
    AgentId, Digest, Effect, EffectClass, Env, IdempotencyKey, ManualClock, Principal, Scope,
    SeededEntropy, Timestamp,
};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Claim, ClaimRequest, Ended, Escalation, Happened, Intended, Intent, Journal, NewMessage,
    NewRun, NewTask, NewWait, Outcome, Policy, RecoveryTable, Resolution, Run, Schedule,
    ScheduleChange, Signal, Source, Status, StepKey, Wait, decide,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3_600);
/// 2026-11-25T09:05:00Z.
const START: Timestamp = Timestamp::from_unix_ms(1_795_597_500_000);
/// Tells the child of the test where the store lies.
const DIR: &str = "AGENT_ORCH_DURABILITY_DIR";

struct Store {
    journal: Sqlite,
    db: Db,
    clock: Arc<ManualClock>,
    run: Run,
    scope: Scope,
}

impl Store {
    async fn open(dir: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let entropy = Arc::new(SeededEntropy::new(5));
        let env = Env::new(Arc::<ManualClock>::clone(&clock), entropy);
        let db = Db::open(Config::new(dir.join("j.db")), &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env).await.unwrap();
        let new = NewRun::new("subject", Digest::of_bytes(b"spec"), Value::Null);
        let run = journal.open_run(&host(), new).await.unwrap();
        Self {
            journal,
            db,
            clock,
            scope: host().with_run(run.id),
            run,
        }
    }

    async fn claim(&self, pool: &str) -> Option<Claim> {
        let owner = AgentId::from_bits(1);
        let request = ClaimRequest::new(self.run.id, pool, owner);
        self.journal.claim(&self.scope, request).await.unwrap()
    }

    async fn look(&self, claim: &Claim, step: &str, sources: Vec<Source>) -> Wait {
        let wait = NewWait::new(StepKey::new(step, 0), sources);
        let wait = self.journal.wait(&self.scope, &claim.lease, wait).await;
        wait.unwrap()
    }

    /// Submits a task to a pool of its own, begins its wait and parks it.
    async fn park(&self, pool: &str, sources: Vec<Source>) -> Wait {
        let task = NewTask::new(pool, pool, Value::Null);
        let submitted = self.journal.submit(&self.scope, self.run.id, vec![task]);
        submitted.await.unwrap();
        let claim = self.claim(pool).await.unwrap();
        let wait = self.look(&claim, "wait", sources).await;
        let (recovery, escalation) = (RecoveryTable::default(), Escalation::default());
        let policy = Policy::new(&recovery, "", &escalation);
        let park = decide(&claim.task, Ended::Waiting, &policy).transition;
        let parked = self.journal.finish(&self.scope, &claim.lease, park);
        parked.await.unwrap();
        wait
    }

    /// Claims a task that was woken and looks at its wait again.
    async fn woken(&self, pool: &str, sources: Vec<Source>) -> Happened {
        let claim = self.claim(pool).await.unwrap();
        let wait = self.look(&claim, "wait", sources).await;
        wait.first.unwrap().happened
    }

    async fn write_message(&self) {
        let task = vec![NewTask::new("mail", "mail", Value::Null)];
        let submitted = self.journal.submit(&self.scope, self.run.id, task);
        submitted.await.unwrap();
        let claim = self.claim("mail").await.unwrap();
        let effect = Effect::new("tool.call", "x", EffectClass::Idempotent, Value::Null);
        let intent = Intent::new(StepKey::new("send", 0), effect);
        let intended = self.journal.intend(&self.scope, &claim.lease, intent);
        let Intended::Go(pass) = intended.await.unwrap() else {
            return;
        };
        let mut outcome = Outcome::new(Ok(Value::Null));
        outcome.messages = vec![NewMessage::new("mail", json!("hello"))];
        let settled = self
            .journal
            .settle(&self.scope, &claim.lease, &pass, outcome);
        settled.await.unwrap();
    }
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

fn awakeable() -> Vec<Source> {
    vec![Source::Answer, Source::due(HOUR)]
}

/// Not a test of its own: the process that is killed. It parks three tasks, takes a message for
/// delivery, and says so.
#[tokio::test]
#[ignore = "the child process of a_process_killed_between_parking_and_waking_loses_nothing"]
#[expect(
    clippy::disallowed_methods,
    reason = "told by its parent where to work"
)]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let store = Store::open(&PathBuf::from(dir)).await;
    store.park("timer", vec![Source::due(HOUR)]).await;
    store.park("signal", vec![Source::signal("go")]).await;
    let answer = store.park("answer", awakeable()).await;
    let key = IdempotencyKey::new("k").unwrap();
    let signal = Signal::new("go", json!("on"), key);
    let task = NewTask::new("signal", "", Value::Null).id(store.run.id);
    store
        .journal
        .signal(&store.scope, task, signal)
        .await
        .unwrap();
    let resolution = Resolution::new(Ok(json!(42)), Principal::host());
    let resolved = store.journal.resolve(&store.scope, answer.id, resolution);
    resolved.await.unwrap();
    let hourly = Schedule::new("0 * * * *".parse().unwrap(), "cron", Value::Null);
    let change = ScheduleChange::Set("hourly".to_owned(), hourly);
    let changed = store
        .journal
        .change_schedules(&store.scope, store.run.id, change);
    changed.await.unwrap();
    store.write_message().await;
    let taken = store.journal.take_messages(&store.scope, store.run.id, 10);
    let taken = taken.await.unwrap().messages;
    let mut out = std::io::stdout();
    writeln!(out, "\nready {}", taken.first().unwrap().id).unwrap();
    out.flush().unwrap();
    std::future::pending::<()>().await;
}

/// Runs the child until it is ready, kills it, and returns the message it was delivering.
fn killed(dir: &Path) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let message = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
    // SIGKILL on Unix: nothing of the child gets to say goodbye.
    child.kill().unwrap();
    child.wait().unwrap();
    message.unwrap()
}

#[tokio::test]
async fn a_process_killed_between_parking_and_waking_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let delivering = killed(dir.path());
    let store = Store::open(dir.path()).await;
    assert!(store.run.is_resumed);
    let signal = store.woken("signal", vec![Source::signal("go")]).await;
    assert!(matches!(signal, Happened::Signal { payload, .. } if payload == "on"));
    let answer = store.woken("answer", awakeable()).await;
    assert!(matches!(answer, Happened::Resolved { value, .. } if value == 42));

    let timer = NewTask::new("timer", "", Value::Null).id(store.run.id);
    let status = async || store.journal.task(timer).await.unwrap().status;
    let sweep = async || store.journal.sweep(&store.scope).await.unwrap();
    assert_eq!((sweep().await.waits, status().await), (0, Status::Parked));
    store.clock.advance(HOUR);
    let swept = sweep().await;
    assert_eq!(
        (swept.waits, swept.fired),
        (1, 1),
        "the timer and the schedule"
    );
    let again = sweep().await;
    assert_eq!((again.waits, again.fired), (0, 0), "each once");
    assert_eq!(
        store.woken("timer", vec![Source::due(HOUR)]).await,
        Happened::Due
    );
    assert!(store.claim("cron").await.is_some());

    let taken = store.journal.take_messages(&store.scope, store.run.id, 10);
    let taken = taken.await.unwrap().messages;
    let ids: Vec<String> = taken.iter().map(|m| m.id.to_string()).collect();
    assert_eq!(ids, [delivering], "it comes again under its id");
    let message = taken.first().unwrap();
    store
        .journal
        .ack_message(&store.scope, message)
        .await
        .unwrap();
    store.clock.advance(HOUR);
    let taken = store.journal.take_messages(&store.scope, store.run.id, 10);
    assert_eq!(taken.await.unwrap().messages, []);
    assert!(store.journal.verify().await.is_ok());
    store.db.close().await;
}
