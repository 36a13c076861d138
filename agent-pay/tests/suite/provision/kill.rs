//! A process that provisions is killed with SIGKILL again and again; the next one finishes or
//! undoes what it began, and everything that is there was paid for exactly once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db};
use agent_core::{Env, Principal, Timestamp};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::provision::{
    Condition, Estate, MemoryVault, Order, Provisioner, Spec, SqliteDatabases,
};
use agent_pay::{Budgets, Ledger};

use super::common::{op, path};
use super::{plans, resource};

const CHILD: &str = "AGENT_PAY_PROVISION_CHILD";
const ROUND: &str = "AGENT_PAY_PROVISION_ROUND";
const ROUNDS: usize = 12;
const POLICY: &str = "[node.acme]\nlimits = [\"1000.00 USD lifetime\"]\nfirst_payee = \"allow\"";

async fn open(dir: &Path) -> (Estate, SqliteDatabases, SqliteLedger) {
    let env = Env::system();
    let db = Db::open(Config::new(dir.join("pay.db")), &env)
        .await
        .unwrap();
    let authority = SqliteAuthority::open(db.clone()).await.unwrap();
    let book = POLICY.parse().unwrap();
    authority.apply(book, Principal::host()).await.unwrap();
    let databases = SqliteDatabases::new(dir.join("made"), plans()).with_n_warm(2);
    let vault = Arc::new(MemoryVault::new());
    let estate = Estate::open(authority, Arc::new(databases.clone()), vault, env.clock);
    let estate = estate.await.unwrap().with_lease(Duration::from_millis(200));
    (estate, databases, SqliteLedger::open(db).await.unwrap())
}

fn order(round: &str, n: usize) -> Order {
    let name = format!("r{round}_{n}");
    let spec = Spec::new(
        resource(&name),
        SqliteDatabases::OFFER,
        plans().swap_remove(0),
    );
    let until = Timestamp::from_unix_ms(4_000_000_000_000);
    Order::new(op(&name), spec, path("acme"), Principal::host(), until)
}

/// The child: orders, and removes every third, until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let round = std::env::var(ROUND).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let (estate, databases, _ledger) = open(Path::new(&dir)).await;
        for n in 0.. {
            // Some are made ahead, some when they are ordered.
            if n % 4 == 0 {
                databases.fill().await.unwrap();
            }
            let made = estate.provision(order(&round, n)).await.unwrap();
            let made = made.into_resource().unwrap();
            if n % 3 == 2 {
                estate.deprovision(&made.name).await.unwrap();
            }
            let mut out = std::io::stdout();
            writeln!(out, "\nmade {n}").unwrap();
            out.flush().unwrap();
        }
    });
}

fn run_and_kill(dir: &Path, round: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["provision::kill::child", "--exact", "--nocapture"])
        .env(CHILD, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let made = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("made"));
    // Killed in the middle of the next, at another place each time.
    made.take(1 + round).for_each(drop);
    let n_spins = round * 20_000;
    for n in 0..n_spins {
        std::hint::black_box(n);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_provisioning_leaves_no_orphan_and_charges_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("made")).unwrap();
    for round in 0..ROUNDS {
        run_and_kill(dir.path(), round);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let (estate, databases, ledger) = open(dir.path()).await;
        // Leases of the dead end.
        let clock = agent_core::SystemClock::new();
        let mut is_done = false;
        for _ in 0..50 {
            agent_core::ClockExt::sleep(&clock, Duration::from_millis(20)).await;
            for (name, went) in estate.resume(100).await.unwrap() {
                assert!(went.is_ok(), "{name}: {went:?}");
            }
            is_done |= estate.resume(1).await.unwrap().is_empty();
        }
        assert!(is_done);
        assert_eq!(estate.orphans().await.unwrap(), []);
        let (mut n_charged, mut n_there) = (0_u64, 0);
        for round in 0..ROUNDS {
            for n in 0.. {
                let order = order(&round.to_string(), n);
                let Some(found) = estate.resource(&order.spec.name).await.unwrap() else {
                    break;
                };
                assert!(matches!(
                    found.condition,
                    Condition::Ready | Condition::Gone
                ));
                n_there += usize::from(found.condition == Condition::Ready);
                n_charged += 1;
            }
        }
        assert_eq!(databases.list().await.unwrap().len(), n_there);
        ledger.verify(None).await.unwrap();
        let budgets = Budgets::new(Arc::new(ledger));
        let balance = budgets.balance(agent_core::Asset::USD, path("acme"));
        let balance = balance.await.unwrap();
        // Each that was ordered was paid once; one that was undone before it was ready, never.
        let price = plans().swap_remove(0).price;
        assert!(balance.held.is_zero(), "{balance:?}");
        assert_eq!(balance.spent, price.times(n_charged).unwrap());
    });
}
