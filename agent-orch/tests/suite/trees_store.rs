//! Delegation trees and history next to the ledger: money of a whole tree, money of what was
//! canceled, and history whose payloads were erased.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::journal_common::Fresh;
use agent_core::store::{self, sql};
use agent_core::{
    AgentId, Asset, Classify, Digest, Effect, EffectClass, Failure, Principal, RunId, Scope,
    Timestamp,
};
use agent_orch::audit::ErasePayloads;
use agent_orch::{
    Claim, ClaimRequest, Class, Control, Ended, Error, Escalation, EventQuery, Intended, Intent,
    Journal, NewChild, NewRequest, NewRun, NewTask, Outcome, Pass, Policy, RecoveryTable, Result,
    Spawn, Status, StepKey, Stuck, Target, Why, decide,
};
use agent_pay::{BudgetPath, OpenBudget};
use serde_json::{Value, json};

struct Books {
    fresh: Fresh,
    run: RunId,
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

impl Books {
    async fn open() -> Self {
        let fresh = Fresh::open(7).await;
        let open = OpenBudget::new(BudgetPath::new("b").unwrap(), "9.00 USD".parse().unwrap());
        let opened = fresh.db.write::<_, agent_pay::Error, _>(move |tx| {
            agent_pay::backend::sqlite::open_budget(tx, &open).map(|_| ())
        });
        opened.await.unwrap();
        let new = NewRun::new("s", Digest::of_bytes(b"s"), Value::Null);
        let run = fresh.journal.open_run(&host(), new).await.unwrap().id;
        Self { fresh, run }
    }

    async fn submit(&self, task: NewTask) -> Claim {
        let pool = task.pool.clone();
        let tasks = vec![task];
        self.fresh
            .journal
            .submit(&host(), self.run, tasks)
            .await
            .unwrap();
        self.claim(&pool).await
    }

    async fn claim(&self, pool: &str) -> Claim {
        let request = ClaimRequest::new(self.run, pool, AgentId::from_bits(1));
        let claim = self.fresh.journal.claim(&host(), request).await.unwrap();
        claim.unwrap()
    }

    async fn delegate(&self, parent: &Claim) -> Claim {
        let child = NewChild::new(NewTask::new("child", "below", Value::Null), 0);
        let spawn = Spawn::new(vec![child]);
        let spawned = self
            .fresh
            .journal
            .spawn(&host(), &parent.lease, spawn)
            .await;
        assert_eq!(spawned.unwrap().len(), 1);
        self.claim("below").await
    }

    async fn hold(&self, claim: &Claim, name: &str, class: EffectClass, max: &str) -> Result<Pass> {
        let effect =
            Effect::new("tool.call", name, class, json!(name)).with_cost_max(max.parse().unwrap());
        let intent =
            Intent::new(StepKey::new(name, 0), effect).with_budget(BudgetPath::new("b").unwrap());
        match self
            .fresh
            .journal
            .intend(&host(), &claim.lease, intent)
            .await?
        {
            Intended::Go(pass) => Ok(pass),
            other => panic!("{other:?}"),
        }
    }

    async fn settle(&self, claim: &Claim, pass: &Pass, cost: &str) {
        let mut outcome = Outcome::new(Ok(Value::Null));
        outcome.cost = Some(cost.parse().unwrap());
        let lease = &claim.lease;
        let settled = self
            .fresh
            .journal
            .settle(&host(), lease, pass, outcome)
            .await;
        settled.unwrap();
    }

    /// Held and spent, in cents.
    async fn balance(&self) -> (i128, i128) {
        let path = BudgetPath::new("b").unwrap();
        let read = self.fresh.db.read::<_, agent_pay::Error, _>(move |tx| {
            agent_pay::backend::sqlite::balance(tx, Asset::USD, &path)
        });
        let balance = read.await.unwrap();
        (
            balance.held.units() / 10_000,
            balance.spent.units() / 10_000,
        )
    }
}

#[tokio::test]
async fn a_tree_costs_no_more_than_its_root_allows() {
    let books = Books::open().await;
    let root = NewTask::new("root", "work", Value::Null);
    let root = root.with_tree_budget("1.00 USD".parse().unwrap());
    let parent = books.submit(root).await;
    let child = books.delegate(&parent).await;
    let class = EffectClass::Idempotent;
    let first = books.hold(&parent, "a", class, "0.70 USD").await.unwrap();
    let refused = books.hold(&child, "b", class, "0.40 USD").await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::TreeBudget { .. }), "{refused:?}");
    assert_eq!(refused.code(), "pay.tree_budget");
    assert_eq!(Class::of(&Failure::of(&refused)), Class::BudgetExceeded);
    assert_eq!(books.balance().await, (70, 0), "nothing was held for it");
    books.settle(&parent, &first, "0.50 USD").await;
    let second = books.hold(&child, "b", class, "0.40 USD").await.unwrap();
    books.settle(&child, &second, "0.40 USD").await;
    assert!(books.hold(&parent, "c", class, "0.20 USD").await.is_err());
    books.hold(&parent, "c", class, "0.10 USD").await.unwrap();
    let alone = books
        .submit(NewTask::new("other", "work", Value::Null))
        .await;
    let other = books.hold(&alone, "a", class, "2.00 USD").await;
    assert!(other.is_ok(), "another tree has its own limit");
}

#[tokio::test]
async fn canceling_frees_the_money_of_what_can_be_repeated() {
    let books = Books::open().await;
    let task = NewTask::new("root", "work", Value::Null);
    let task = task.with_tree_budget("1.00 USD".parse().unwrap());
    let claim = books.submit(task).await;
    for (name, class) in [
        ("thought", EffectClass::Pure),
        ("keyed", EffectClass::Idempotent),
        ("mail", EffectClass::Opaque),
    ] {
        books.hold(&claim, name, class, "0.20 USD").await.unwrap();
    }
    assert_eq!(books.balance().await, (60, 0));
    let (host, target) = (host(), Target::Task(claim.task.id));
    let control = books
        .fresh
        .journal
        .control(&host, target, Control::cancel("enough"));
    assert_eq!(control.await.unwrap().changed, [claim.task.id]);
    assert_eq!(books.balance().await, (20, 0), "the mail may have gone out");
    let query = EventQuery::after(0).with_task(claim.task.id);
    let records = books.fresh.journal.events(query).await.unwrap();
    let left: Vec<&str> = records
        .iter()
        .filter(|record| record.kind == "effect.abandoned")
        .map(|record| record.subject.as_str())
        .collect();
    assert_eq!(left, ["mail"], "which is on record");
    books.fresh.journal.verify().await.unwrap();
}

#[tokio::test]
async fn a_fork_carries_no_money() {
    let books = Books::open().await;
    let claim = books
        .submit(NewTask::new("root", "work", Value::Null))
        .await;
    let class = EffectClass::Idempotent;
    let pass = books.hold(&claim, "buy", class, "0.20 USD").await.unwrap();
    let at = books.fresh.journal.verify().await.unwrap().records;
    let host = host();
    let fork = books
        .fresh
        .journal
        .fork(&host, books.run, at, "f".to_owned());
    let fork = Books {
        run: fork.await.unwrap().id,
        ..books
    };
    assert_eq!(fork.balance().await, (20, 0), "the fork holds nothing");
    let own = fork.claim("work").await;
    let again = fork.hold(&own, "buy", class, "0.20 USD").await.unwrap();
    assert_eq!(again.key, pass.key, "the other side knows the step");
    assert_eq!(fork.balance().await, (40, 0), "each holds for itself");
    fork.settle(&claim, &pass, "0.20 USD").await;
    fork.settle(&own, &again, "0.10 USD").await;
    assert_eq!(fork.balance().await, (0, 30));
}

#[tokio::test]
async fn history_ends_where_a_payload_was_erased() {
    let books = Books::open().await;
    let claim = books
        .submit(NewTask::new("root", "work", Value::Null))
        .await;
    let id = claim.task.id;
    let at = books.fresh.journal.verify().await.unwrap().records;
    let then = books.fresh.journal.task_at(id, at).await.unwrap();
    assert_eq!(then.status, Status::Leased);
    let what = ErasePayloads::Record(at);
    let erased = books.fresh.journal.erase(&host(), what).await.unwrap();
    assert_eq!(erased.payloads, 1);
    let gone = books.fresh.journal.task_at(id, at).await.unwrap_err();
    assert!(
        matches!(gone, Error::HistoryGone { seq, .. } if seq == at),
        "{gone:?}"
    );
    let host = host();
    let fork = books
        .fresh
        .journal
        .fork(&host, books.run, at, "f".to_owned());
    assert!(matches!(fork.await, Err(Error::HistoryGone { .. })));
    let before = books.fresh.journal.task_at(id, at - 1).await.unwrap();
    assert_eq!(before.status, Status::Ready, "what came before is there");
    books.fresh.journal.verify().await.unwrap();
}

#[tokio::test]
async fn a_task_that_waits_for_nothing_goes_on() {
    let books = Books::open().await;
    let claim = books
        .submit(NewTask::new("root", "work", Value::Null))
        .await;
    let (id, run) = (claim.task.id, books.run);
    let deadline = Timestamp::from_unix_ms(i64::MAX / 2);
    let ask = NewRequest::new(run, id, "q", "?", &["yes", "no"], deadline);
    books.fresh.journal.ask(&host(), ask).await.unwrap();
    let (table, escalation) = (RecoveryTable::default(), Escalation::default());
    let policy = Policy::new(&table, "check", &escalation);
    let park = decide(&claim.task, Ended::Waiting, &policy).transition;
    let parked = books
        .fresh
        .journal
        .finish(&host(), &claim.lease, park)
        .await;
    parked.unwrap();
    assert_eq!(books.fresh.journal.stuck(run).await.unwrap(), []);
    let lost = books.fresh.db.write::<_, store::Error, _>(|tx| {
        tx.sql()
            .execute("DELETE FROM orch_request", [])
            .map_err(sql("lose a question"))
    });
    assert_eq!(lost.await.unwrap(), 1);
    let stuck = books.fresh.journal.stuck(run).await.unwrap();
    assert_eq!(stuck, [Stuck::new(id, Why::WaitsForNothing)]);
    assert_eq!(books.fresh.journal.sweep(&host()).await.unwrap().reaped, 1);
    let task = books.fresh.journal.task(id).await.unwrap();
    assert_eq!(task.status, Status::Ready);
    assert_eq!(books.fresh.journal.stuck(run).await.unwrap(), []);
}
