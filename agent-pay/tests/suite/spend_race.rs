//! Intents of many tasks, and of two processes, race for capped budgets: none too many is admitted.
//!
//! 2,000 attempts of tasks and 400 of each process here; `AGENT_PAY_RACE=1000000` sets another
//! number for the tasks.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; the child is told its directory, and the test its size, by the environment"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Asset, Env, IdempotencyKey, Principal};
use agent_pay::authority::{Authorization, Intent, Origin, Payee, PriceBasis};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::{BudgetPath, Budgets, Ledger};

const CHILD: &str = "AGENT_PAY_RACE_CHILD";
const SIZE: &str = "AGENT_PAY_RACE";
const N_TASKS: u32 = 50;

/// 100 fit into the team, 60 into each agent's rolling window, 90 times a day.
const POLICY: &str = r#"
[node.acme]
limits = ["900.00 USD lifetime"]
first_payee = "allow"
[node."acme/team"]
limits = ["100.00 USD lifetime"]
[node."acme/team/a"]
limits = ["60.00 USD rolling 1h", "90 count day"]
[node."acme/team/b"]
limits = ["60.00 USD rolling 1h", "90 count day"]
"#;

/// The team has no limit of its own: whoever spends adds up what was taken, and then spends.
const UNCHECKED: &str = "[node.acme]\nlimits = [\"900.00 USD lifetime\"]\n\
    first_payee = \"allow\"\n[node.\"acme/team\"]\n\
    [node.\"acme/team/a\"]\n[node.\"acme/team/b\"]";

async fn open(dir: &Path, is_shared: bool) -> (SqliteAuthority, SqliteLedger) {
    let config = Config::new(dir.join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config.with_shared(is_shared), &Env::system())
        .await
        .unwrap();
    let authority = SqliteAuthority::open(db.clone()).await.unwrap();
    (authority, SqliteLedger::open(db).await.unwrap())
}

fn intent(key: &str, n: u32) -> Intent {
    let node = if n.is_multiple_of(2) {
        "acme/team/a"
    } else {
        "acme/team/b"
    };
    let until = Env::system().clock.now().after(Duration::from_secs(86_400));
    let payee = Payee::new("shop", Origin::Catalogue);
    let key = IdempotencyKey::new(key).unwrap();
    let actor = Principal::new("agent_x").unwrap();
    let node = BudgetPath::new(node).unwrap();
    Intent::new(key, node, actor, "1.00 USD".parse().unwrap(), payee, until)
        .with_basis(PriceBasis::RateCard)
}

/// Tries so many times and captures every third of what it got; returns how many it got.
async fn attempts(authority: &SqliteAuthority, name: &str, n_attempts: u32) -> u32 {
    let mut n_held = 0;
    for n in 0..n_attempts {
        let intent = intent(&format!("{name}-{n}"), n);
        let key = intent.key.clone();
        if let Authorization::Held { hold, .. } = authority.authorize(intent).await.unwrap() {
            n_held += 1;
            if n_held % 3 == 0 {
                authority.capture(key, hold.amount).await.unwrap();
            }
        }
    }
    n_held
}

async fn check(ledger: &SqliteLedger, n_held: u32) {
    assert_eq!(n_held, 100, "the team has 100 for one each");
    let budgets = Budgets::new(std::sync::Arc::new(ledger.clone()));
    let team = budgets
        .balance(Asset::USD, BudgetPath::new("acme/team").unwrap())
        .await
        .unwrap();
    assert_eq!(team.available().units(), 0);
    assert_eq!(team.spent.plus(team.held).unwrap(), team.limit);
    ledger.verify(None).await.unwrap();
    for sums in ledger.trial_balance().await.unwrap() {
        assert!(sums.is_balanced());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_tasks_are_never_admitted_beyond_the_limits() {
    let size = std::env::var(SIZE).ok().and_then(|size| size.parse().ok());
    let n_each = size.unwrap_or(2_000_u32) / N_TASKS;
    let dir = tempfile::tempdir().unwrap();
    let (authority, ledger) = open_with(dir.path(), POLICY).await;
    let mut racers = tokio::task::JoinSet::new();
    for task in 0..N_TASKS {
        let authority = authority.clone();
        racers.spawn(async move { attempts(&authority, &format!("t{task}"), n_each).await });
    }
    let n_held = racers.join_all().await.iter().sum();
    check(&ledger, n_held).await;
}

async fn open_with(dir: &Path, policy: &str) -> (SqliteAuthority, SqliteLedger) {
    let (authority, ledger) = open(dir, false).await;
    let applied = authority.apply(policy.parse().unwrap(), Principal::host());
    applied.await.unwrap();
    (authority, ledger)
}

/// The race would find an authority that reads first and holds afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[should_panic(expected = "the team has 100 for one each")]
async fn racing_tasks_find_a_check_that_is_apart_from_its_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, ledger) = open_with(dir.path(), UNCHECKED).await;
    let mut racers = tokio::task::JoinSet::new();
    // All read before anybody holds; 30 do not divide 100.
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(30));
    for task in 0..30 {
        let (authority, ledger) = (authority.clone(), ledger.clone());
        let barrier = std::sync::Arc::clone(&barrier);
        racers.spawn(async move {
            let mut n_held = 0;
            for n in 0..5 {
                let budgets = Budgets::new(std::sync::Arc::new(ledger.clone()));
                let acme = BudgetPath::new("acme").unwrap();
                let taken = budgets.balance(Asset::USD, acme).await.unwrap().held;
                barrier.wait().await;
                if taken.units() < 100_000_000 {
                    n_held += attempts(&authority, &format!("t{task}-{n}"), 1).await;
                }
                barrier.wait().await;
            }
            n_held
        });
    }
    let n_held = racers.join_all().await.iter().sum();
    check(&ledger, n_held).await;
}

/// The child: races and says how much it got.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let n_held = runtime.unwrap().block_on(async {
        let (authority, _ledger) = open(Path::new(&dir), true).await;
        let name = format!("p{}", std::process::id());
        attempts(&authority, &name, 400).await
    });
    println!("\nheld {n_held}");
}

#[tokio::test]
async fn racing_processes_are_never_admitted_beyond_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _ledger) = open(dir.path(), true).await;
    authority
        .apply(POLICY.parse().unwrap(), Principal::host())
        .await
        .unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "spend_race::child", "--nocapture"])
                .env(CHILD, dir.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut n_held = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        let held = said.lines().find_map(|line| line.strip_prefix("held "));
        n_held += held.unwrap().parse::<u32>().unwrap();
    }
    let (_authority, ledger) = open(dir.path(), true).await;
    check(&ledger, n_held).await;
}
