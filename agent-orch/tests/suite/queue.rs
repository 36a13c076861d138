//! The queue of the SQLite journal: what it keeps as tasks move equals what the rows say, whatever
//! happens in whatever order; a claim reads no more of it than it must; budgets admit.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use crate::journal_common::Fresh;
use agent_core::store::sql;
use agent_core::{
    AgentId, Digest, EntropyExt, ErrorKind, Failure, IdempotencyKey, Principal, Retry, RunId,
    Scope, SeededEntropy, Timestamp,
};
use agent_orch::{
    Admission, Answer, Claim, ClaimRequest, Ended, Error, Escalation, Journal, Limit, NewRun,
    NewTask, Policy, RecoveryTable, Scheduling, Stage, Status, Transition, decide,
};
use agent_pay::backend::sqlite as ledger;
use agent_pay::{BudgetPath, OpenBudget, SetLimit};
use serde_json::{Value, json};

struct Subject {
    fresh: Fresh,
    run: RunId,
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

impl Subject {
    async fn new() -> Self {
        let fresh = Fresh::open(7).await;
        let new = NewRun::new("queue", Digest::of_bytes(b"spec"), Value::Null);
        let run = fresh.journal.open_run(&host(), new).await.unwrap().id;
        Self { fresh, run }
    }

    async fn claim(&self, pool: &str, agent: u128) -> Option<Claim> {
        let owner = AgentId::from_bits(agent);
        let request = ClaimRequest::new(self.run, pool, owner);
        let scope = Scope::agent(owner).with_run(self.run);
        self.fresh.journal.claim(&scope, request).await.unwrap()
    }

    /// Returns what differs between the kept counts and the rows.
    async fn differences(&self) -> Vec<String> {
        self.fresh
            .db
            .read(|tx| {
                let mut found = Vec::new();
                for (name, query) in RECOMPUTED {
                    let mut statement = tx.sql().prepare(query).map_err(sql("recompute"))?;
                    let rows = statement.query_map([], |row| row.get::<_, String>(0));
                    let rows = rows
                        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                        .map_err(sql("recompute"))?;
                    found.extend(rows.into_iter().map(|row| format!("{name}: {row}")));
                }
                Ok::<_, Error>(found)
            })
            .await
            .unwrap()
    }
}

/// Queries that return a line for each kept value that the rows do not bear out.
const RECOMPUTED: &[(&str, &str)] = &[
    (
        "a ready task stands in the line of its kind",
        "SELECT t.key FROM orch_task t
         LEFT JOIN orch_line l ON l.id = t.line LEFT JOIN orch_flow f ON f.id = l.flow
         WHERE t.status = 'ready' AND ((f.run, f.pool, f.rank, f.fair)
                IS NOT (t.run, t.pool, t.rank, t.fair)
            OR l.limits IS NOT iif(t.stage = 'work', t.limits, '')
            OR l.not_for IS NOT coalesce(iif(t.stage = 'verify', t.author, t.avoid), x''))",
    ),
    (
        "a line counts its tasks and knows the oldest",
        "SELECT l.id FROM orch_line l WHERE (l.n_ready, l.head) IS NOT (
            SELECT count(*), coalesce(min(t.seq), 9223372036854775807)
            FROM orch_task t WHERE t.line = l.id AND t.status = 'ready')",
    ),
    (
        "a limit counts the leases of work that names it",
        "SELECT m.key FROM orch_limit m WHERE m.in_use IS NOT (
            SELECT count(*) FROM orch_task t, json_each(iif(t.limits = '', '[]', t.limits)) k
            WHERE t.status = 'leased' AND t.stage = 'work' AND k.value = m.key)",
    ),
    (
        "a line counts its reached limits",
        "SELECT l.id FROM orch_line l WHERE l.n_blocked IS NOT (
            SELECT count(*) FROM orch_limit m, json_each(iif(l.limits = '', '[]', l.limits)) k
            WHERE k.value = m.key AND m.in_use >= m.concurrency)",
    ),
    (
        "a flow counts what can be claimed",
        "SELECT f.fair FROM orch_flow f WHERE f.n_open IS NOT (
            SELECT coalesce(sum(l.n_ready), 0) FROM orch_line l
            WHERE l.flow = f.id AND l.n_blocked = 0)",
    ),
    (
        "a level counts what can be claimed",
        "SELECT v.pool FROM orch_level v WHERE v.n_open IS NOT (
            SELECT coalesce(sum(f.n_open), 0) FROM orch_flow f
            WHERE (f.run, f.pool, f.rank) = (v.run, v.pool, v.rank))",
    ),
    (
        "the counts are those of the rows",
        "SELECT c.stage || '/' || c.status FROM orch_count c WHERE c.n IS NOT (
            SELECT count(*) FROM orch_task t
            WHERE (t.run, t.stage, t.status) = (c.run, c.stage, c.status))",
    ),
    (
        "a task that is ready and can rise knows when",
        "SELECT t.key FROM orch_task t
         WHERE t.status = 'ready' AND (t.rank > 0) <> (t.rises_ms IS NOT NULL)",
    ),
];

const POOLS: [&str; 2] = ["work", "check"];
const KEYS: [&str; 3] = ["acme", "bolt", "corp"];
const LIMITS: [&str; 3] = ["tool:a", "tool:b", "tenant:acme"];

fn failure() -> Failure {
    Failure::new(
        ErrorKind::Unavailable,
        Retry::Safe,
        "test.away",
        "away",
        "wait",
    )
}

/// One of the ways a lease can end.
fn transition(claim: &Claim, now: Timestamp, draw: u64) -> Transition {
    let ended = match (draw % 8, claim.lease.stage) {
        (0, _) => return Transition::Release,
        (1, _) => return Transition::Yield,
        (2, _) => Ended::failed(failure()),
        (3, Stage::Work) => Ended::failed(failure()),
        (3, _) => Ended::refused(json!("once more")),
        (4, _) => Ended::Waiting,
        (_, Stage::Work) => Ended::done(json!(1)),
        _ => Ended::accepted(Value::Null),
    };
    let (recovery, escalation) = (RecoveryTable::default(), Escalation::default());
    let mut policy = Policy::new(&recovery, POOLS[1], &escalation);
    (policy.now, policy.has_others) = (now, true);
    decide(&claim.task, ended, &policy).transition
}

fn new_task(n: u64, random: &SeededEntropy) -> NewTask {
    let mut task = NewTask::new(format!("t{n}"), POOLS[0], json!(n))
        .with_priority(u8::try_from(random.next_u64() % 5).unwrap())
        .with_fair_key(pick(random, &KEYS));
    for _ in 0..random.next_u64() % 3 {
        task = task.with_limit_key(pick(random, &LIMITS));
    }
    task
}

fn pick<T: Copy>(random: &SeededEntropy, from: &[T]) -> T {
    *from.get(place(random, from.len())).unwrap()
}

fn place(random: &SeededEntropy, n: usize) -> usize {
    usize::try_from(random.next_u64()).unwrap() % n
}

fn scheduling(random: &SeededEntropy) -> Scheduling {
    let mut scheduling = Scheduling::default().with_age(Duration::from_secs(40));
    for key in LIMITS {
        let n = u32::try_from(random.next_u64() % 4).unwrap();
        if n > 0 {
            scheduling = scheduling.with_limit(key, Limit::new().with_concurrency(n));
        }
    }
    scheduling.with_weight(KEYS[0], 1 + u32::try_from(random.next_u64() % 5).unwrap())
}

#[tokio::test]
async fn what_the_queue_keeps_is_what_the_rows_say() {
    for seed in 0..6 {
        let (s, random) = (Subject::new().await, SeededEntropy::new(seed));
        let (mut held, mut n_tasks) = (Vec::<Claim>::new(), 0);
        for step in 0..250 {
            match random.next_u64() % 10 {
                0..=2 => {
                    let tasks = (0..random.next_u64() % 6).map(|_| {
                        n_tasks += 1;
                        new_task(n_tasks, &random)
                    });
                    let tasks = tasks.collect();
                    s.fresh.journal.submit(&host(), s.run, tasks).await.unwrap();
                }
                3..=5 => {
                    let pool = pick(&random, &POOLS);
                    held.extend(s.claim(pool, 1 + u128::from(random.next_u64() % 3)).await);
                }
                6..=7 if !held.is_empty() => {
                    let claim = held.swap_remove(place(&random, held.len()));
                    let next = transition(&claim, s.fresh.db.now(), random.next_u64());
                    // A lease that ended meanwhile changes nothing, which is to hold as well.
                    let _lost = s.fresh.journal.finish(&host(), &claim.lease, next).await;
                }
                8 => {
                    let scheduling = scheduling(&random);
                    let configured = s.fresh.journal.configure(&host(), s.run, &scheduling).await;
                    configured.unwrap();
                }
                _ => {
                    let by = Duration::from_secs(random.next_u64() % 25);
                    s.fresh.clock.advance(by);
                    s.fresh.journal.sweep(&host()).await.unwrap();
                }
            }
            let differences = s.differences().await;
            assert!(
                differences.is_empty(),
                "seed {seed}, step {step}: {differences:?}"
            );
        }
        s.fresh.db.close().await;
    }
}

#[tokio::test]
async fn looking_in_vain_writes_nothing() {
    let s = Subject::new().await;
    let before = s.fresh.db.stats();
    for agent in 1..50 {
        assert!(s.claim(POOLS[0], agent).await.is_none());
    }
    assert_eq!(s.fresh.db.stats(), before, "not even an empty transaction");
}

async fn open_budget(s: &Subject, limit: &str) -> BudgetPath {
    let path = BudgetPath::new("fleet").unwrap();
    let open = OpenBudget::new(path.clone(), limit.parse().unwrap());
    s.fresh
        .db
        .write(move |tx| ledger::open_budget(tx, &open).map(|_| ()))
        .await
        .unwrap();
    path
}

#[tokio::test]
async fn a_task_beyond_the_budget_asks_once_and_others_go_on() {
    let s = Subject::new().await;
    let path = open_budget(&s, "1.00 USD").await;
    let task = |key: &str| NewTask::new(key, "work", Value::Null);
    let dear = task("dear").with_cost_estimate("3.00 USD".parse().unwrap());
    let cheap = task("cheap").with_cost_estimate("0.50 USD".parse().unwrap());
    let tasks = vec![dear, cheap, task("free")];
    s.fresh.journal.submit(&host(), s.run, tasks).await.unwrap();
    let admission = Admission::new(path.clone(), "treasurer", Duration::from_secs(60));
    let claim = || async {
        let request = ClaimRequest::new(s.run, "work", AgentId::from_bits(1));
        let request = request.with_admission(admission.clone());
        let claim = s.fresh.journal.claim(&host(), request).await.unwrap();
        claim.map(|claim| claim.task.key)
    };
    assert_eq!(claim().await.as_deref(), Some("cheap"));
    assert_eq!(claim().await.as_deref(), Some("free"));
    assert_eq!(claim().await, None);
    let questions = s.fresh.journal.open_requests(s.run).await.unwrap();
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].route, "treasurer");
    assert!(questions[0].name.starts_with("unblock_budget"));
    assert_eq!(
        s.fresh
            .journal
            .counts(s.run)
            .await
            .unwrap()
            .of(Status::Parked),
        1
    );

    // An answer without more money is asked again, one with it lets the task through.
    let by = Principal::new("human:t").unwrap();
    let retry = || Answer::new("retry", by.clone());
    let answered = s
        .fresh
        .journal
        .answer(&host(), questions[0].id, retry())
        .await;
    answered.unwrap();
    assert_eq!(claim().await, None);
    let questions = s.fresh.journal.open_requests(s.run).await.unwrap();
    assert_eq!(questions.len(), 1);
    let key = IdempotencyKey::new("raise").unwrap();
    let set = SetLimit::new(key, path, "5.00 USD".parse().unwrap());
    s.fresh
        .db
        .write(move |tx| ledger::set_limit(tx, &set))
        .await
        .unwrap();
    let answered = s
        .fresh
        .journal
        .answer(&host(), questions[0].id, retry())
        .await;
    answered.unwrap();
    assert_eq!(claim().await.as_deref(), Some("dear"));
    assert!(s.differences().await.is_empty());
    assert!(s.fresh.journal.verify().await.is_ok());
}
