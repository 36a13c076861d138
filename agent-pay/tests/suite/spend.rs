//! Usage records are kept once, and reports add up.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    AgentId, Amount, Asset, Classify, Env, ErrorKind, Meter, Scope, TaskId, Timestamp, Unit, Usage,
    UsageRecord,
};
use agent_pay::backend::{SqliteMeter, sqlite};
use agent_pay::{
    Attribution, Price, RateCard, SpendBy, SpendQuery, UsageEntry, cost_per_successful_task,
};

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

async fn store(dir: &tempfile::TempDir) -> Db {
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    Db::open(config, &Env::system()).await.unwrap()
}

fn card() -> Arc<RateCard> {
    let card = RateCard::new("v1", Asset::USD).unwrap();
    let price = Price::new("tool/*", Unit::Calls, usd(10), 1);
    Arc::new(card.with_price(price).unwrap())
}

fn calls(id: &str, resource: &str, n: u64, at_ms: i64) -> UsageRecord {
    let usage = Usage::new().with(Unit::Calls, n);
    UsageRecord::new("meter", id, resource, usage, Timestamp::from_unix_ms(at_ms))
}

#[tokio::test]
async fn record_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let meter = SqliteMeter::open(store(&dir).await, card()).await.unwrap();
    let scope = Scope::agent(AgentId::from_bits(1));
    for _again in 0..3 {
        meter
            .record(&scope, calls("1", "tool/a", 2, 0))
            .await
            .unwrap();
    }
    meter
        .record(&scope, calls("1", "tool/a", 99, 0))
        .await
        .unwrap();
    meter
        .record(&scope, calls("2", "tool/a", 1, 0))
        .await
        .unwrap();
    let rows = meter
        .spend(SpendQuery::new(SpendBy::Agent, Asset::USD))
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].group, Some(AgentId::from_bits(1).to_string()));
    assert_eq!((rows[0].cost, rows[0].n_records), (usd(30), 2));
    assert_eq!(rows[0].usage.get(Unit::Calls), 3);
}

#[tokio::test]
async fn unpriced_usage_is_kept_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let meter = SqliteMeter::open(store(&dir).await, card()).await.unwrap();
    let meter = meter.with_pool("menders");
    let scope = Scope::agent(AgentId::from_bits(1));
    meter
        .record(&scope, calls("1", "tool/a", 1, 0))
        .await
        .unwrap();
    meter
        .record(&scope, calls("2", "model/x", 5, 0))
        .await
        .unwrap();
    let rows = meter
        .spend(SpendQuery::new(SpendBy::Pool, Asset::USD))
        .await
        .unwrap();
    assert_eq!(rows[0].group.as_deref(), Some("menders"));
    assert_eq!((rows[0].n_records, rows[0].n_unpriced), (2, 1));
    assert_eq!(rows[0].cost, usd(10));
    let refused = meter
        .record(&scope, calls("", "tool/a", 1, 0))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn report_is_limited_to_its_tenant_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let meter = SqliteMeter::open(store(&dir).await, card()).await.unwrap();
    let scope = Scope::agent(AgentId::from_bits(1));
    for (id, at_ms) in [("1", 10), ("2", 20), ("3", 30)] {
        meter
            .record(&scope, calls(id, "tool/a", 1, at_ms))
            .await
            .unwrap();
    }
    let other = scope.clone().with_tenant("other");
    meter
        .record(&other, calls("4", "tool/b", 1, 20))
        .await
        .unwrap();
    let time = |ms| Timestamp::from_unix_ms(ms);
    let query = SpendQuery::new(SpendBy::Resource, Asset::USD).with_time(time(20), time(30));
    let rows = meter.spend(query.clone()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].group.as_deref(), rows[0].cost),
        (Some("tool/a"), usd(10))
    );
    let rows = meter.spend(query.with_tenant("other")).await.unwrap();
    assert_eq!(rows[0].group.as_deref(), Some("tool/b"));
}

#[tokio::test]
async fn one_solved_task_pays_for_every_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let db = store(&dir).await;
    sqlite::migrate(&db).await.unwrap();
    let tasks: Vec<_> = (0..3).map(TaskId::from_bits).collect();
    // Two attempts at the first task, one at each of the others, and 5 that belong to no task.
    let costs = [
        (Some(0), 10),
        (Some(0), 20),
        (Some(1), 7),
        (Some(2), 4),
        (None, 5),
    ];
    for (n, (task, units)) in costs.into_iter().enumerate() {
        let mut scope = Scope::agent(AgentId::from_bits(1));
        scope.task = task.map(|task: usize| tasks[task]);
        let record = calls(&n.to_string(), "tool/a", 1, 0);
        let mut entry = UsageEntry::new(Attribution::of(&scope), record).unwrap();
        entry.cost = Some(usd(units));
        let write = db.write(move |tx| sqlite::record_usage(tx, &entry));
        assert!(write.await.unwrap());
    }
    let query = SpendQuery::new(SpendBy::Task, Asset::USD);
    let rows = db
        .read(move |tx| sqlite::spend_report(tx, &query))
        .await
        .unwrap();
    assert_eq!(rows.len(), 4);
    let succeeded = BTreeSet::from([tasks[0], tasks[1]]);
    let found = cost_per_successful_task(Asset::USD, &rows, &succeeded).unwrap();
    assert_eq!((found.total, found.wasted), (usd(41), usd(4)));
    assert_eq!((found.n_tasks, found.n_successful), (3, 2));
    assert_eq!(found.per_success, Some(usd(21)), "20.5 rounds up");
    let none = cost_per_successful_task(Asset::USD, &rows, &BTreeSet::new()).unwrap();
    assert_eq!((none.per_success, none.wasted), (None, usd(41)));
}
