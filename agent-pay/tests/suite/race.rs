//! Reservations of a hundred tasks race for a capped tree: 100,000 in memory; on SQLite, whose every
//! answer crosses two threads, 4,000 here and 100,000 in `benches/budget.rs`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Env, IdempotencyKey};
use agent_pay::backend::{InMemoryLedger, SqliteLedger};
use agent_pay::{Admission, BudgetPath, Budgets, Ledger, OpenBudget, Reserve, Settle};

const N_TASKS: u32 = 100;

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

/// Each task reserves 3 again and again for one of ten agents of 90 each, under a pool of 601 and
/// a fleet of 500, and settles every third of what it got.
async fn race(env: &Env, ledger: Arc<dyn Ledger>, n_each: u32) {
    let budgets = Budgets::new(Arc::clone(&ledger));
    let path = |text: &str| BudgetPath::new(text).unwrap();
    let open = |text: &str, limit| OpenBudget::new(path(text), usd(limit));
    budgets.open(open("fleet", 500)).await.unwrap();
    budgets.open(open("fleet/pool", 601)).await.unwrap();
    for agent in 0..10 {
        budgets
            .open(open(&format!("fleet/pool/{agent}"), 90))
            .await
            .unwrap();
    }
    let expires_at = env.clock.now().after(Duration::from_secs(3_600));
    let mut racers = tokio::task::JoinSet::new();
    for task in 0..N_TASKS {
        let (budgets, node) = (budgets.clone(), path(&format!("fleet/pool/{}", task % 10)));
        racers.spawn(async move {
            let mut n_admitted = 0_i64;
            for n in 0..n_each {
                let key = IdempotencyKey::new(format!("{task}-{n}")).unwrap();
                let reserve = Reserve::new(key.clone(), node.clone(), usd(3), expires_at);
                if let Admission::Reserved(_) = budgets.reserve(reserve).await.unwrap() {
                    n_admitted += 1;
                    if n_admitted % 3 == 0 {
                        budgets.settle(Settle::new(key, usd(3))).await.unwrap();
                    }
                }
            }
            n_admitted
        });
    }
    let n_admitted: i64 = racers.join_all().await.iter().sum();
    assert_eq!(n_admitted, 166, "166 times 3 fit in 500");
    let fleet = budgets.balance(Asset::USD, path("fleet")).await.unwrap();
    assert_eq!(fleet.spent.plus(fleet.held).unwrap(), usd(498));
    assert!(ledger.trial_balance().await.unwrap()[0].is_balanced());
    ledger.verify(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_reservations_in_memory_never_exceed_the_limits() {
    let env = Env::system();
    race(&env, Arc::new(InMemoryLedger::new(&env)), 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_reservations_in_sqlite_never_exceed_the_limits() {
    let (env, dir) = (Env::system(), tempfile::tempdir().unwrap());
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &env).await.unwrap();
    let ledger = SqliteLedger::open(db).await.unwrap();
    race(&env, Arc::new(ledger), 40).await;
}
