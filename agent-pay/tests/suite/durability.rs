//! What was acknowledged survives a killed process, and damage is found.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; the child is told its directory by the environment"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Classify, Env, ErrorKind, IdempotencyKey};
use agent_pay::backend::SqliteLedger;
use agent_pay::{Anchor, BudgetPath, Budgets, HoldState, Ledger, OpenBudget, Reserve, Settle};

const CHILD: &str = "AGENT_PAY_DURABILITY_CHILD";

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

async fn open(dir: &Path) -> (Arc<SqliteLedger>, Budgets) {
    open_with(dir, Durability::PowerLoss).await
}

async fn open_with(dir: &Path, durability: Durability) -> (Arc<SqliteLedger>, Budgets) {
    let env = Env::system();
    let db = Db::open(
        Config::new(dir.join("pay.db")).with_durability(durability),
        &env,
    );
    let ledger = Arc::new(SqliteLedger::open(db.await.unwrap()).await.unwrap());
    let budgets = Budgets::new(Arc::<SqliteLedger>::clone(&ledger));
    let path = BudgetPath::new("fleet").unwrap();
    let root = OpenBudget::new(path.clone(), usd(1_000_000));
    budgets.open(root).await.unwrap();
    let agent = OpenBudget::new(path.child("a").unwrap(), usd(1_000_000));
    budgets.open(agent).await.unwrap();
    (ledger, budgets)
}

fn reserve(n: u32) -> Reserve {
    let path = BudgetPath::new("fleet/a").unwrap();
    let expires_at = Env::system().clock.now().after(Duration::from_secs(600));
    Reserve::new(key(&format!("step-{n}")), path, usd(10), expires_at)
}

/// The child: reserves and settles until it is killed, and says what was acknowledged.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let (_ledger, budgets) = open(Path::new(&dir)).await;
        for n in 0.. {
            let held = budgets.reserve(reserve(n)).await.unwrap();
            assert!(held.into_hold().is_ok());
            let mut out = std::io::stdout();
            writeln!(out, "\nreserved {n}").unwrap();
            let settle = Settle::new(key(&format!("step-{n}")), usd(7));
            budgets.settle(settle).await.unwrap();
            writeln!(out, "\nsettled {n}").unwrap();
            out.flush().unwrap();
        }
    });
}

#[tokio::test]
async fn acknowledged_reservations_survive_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::child", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 15 {
        let line = lines.next().unwrap().unwrap();
        if line.starts_with("reserved ") || line.starts_with("settled ") {
            acknowledged.push(line);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still wrote before the signal arrived was acknowledged too.
    acknowledged.extend(lines.map_while(Result::ok));

    let (ledger, budgets) = open(dir.path()).await;
    ledger.verify(None).await.unwrap();
    assert!(ledger.trial_balance().await.unwrap()[0].is_balanced());
    let (mut n_settled, mut n_pending) = (0, 0);
    for n in 0.. {
        match budgets.hold(key(&format!("step-{n}"))).await.unwrap() {
            Some(HoldState::Settled(settled)) => {
                assert_eq!(settled.spent, usd(7));
                n_settled += 1;
            }
            Some(HoldState::Pending(hold)) => {
                assert_eq!(hold.amount, usd(10));
                n_pending += 1;
            }
            other => {
                assert_eq!(other, None);
                break;
            }
        }
    }
    let n_of = |what: &str| acknowledged.iter().filter(|l| l.starts_with(what)).count();
    assert!(n_settled >= n_of("settled "), "{acknowledged:?}");
    assert!(n_settled + n_pending >= n_of("reserved "));
    // One caller works one step after the other, so at most one step is half done.
    assert!(n_pending <= 1);
    let balance = budgets.balance(Asset::USD, BudgetPath::new("fleet").unwrap());
    let balance = balance.await.unwrap();
    assert_eq!(balance.spent, usd(7).times(n_settled as u64).unwrap());
    assert_eq!(balance.held, usd(10).times(n_pending as u64).unwrap());
}

/// Builds a journal with every kind of row and returns an anchor of its end.
async fn journal(dir: &Path) -> Anchor {
    let (ledger, budgets) = open_with(dir, Durability::Nothing).await;
    for n in 0..4 {
        let held = budgets.reserve(reserve(n)).await.unwrap();
        assert!(held.into_hold().is_ok());
    }
    let settle = Settle::new(key("step-0"), usd(7));
    budgets.settle(settle).await.unwrap();
    budgets.release(key("step-1")).await.unwrap();
    let anchor = ledger.verify(None).await.unwrap().anchor;
    ledger.db().close().await;
    anchor
}

#[tokio::test]
async fn verify_finds_every_altered_removed_or_reordered_row() {
    let damages = [
        "UPDATE pay_account SET debits_posted = debits_posted - 1 WHERE name = 'budget/fleet'",
        "UPDATE pay_account SET credits_posted = credits_posted + 5 WHERE name = 'budget/fleet'",
        "UPDATE pay_account SET guard = 0 WHERE name = 'budget/fleet'",
        "UPDATE pay_account SET name = 'budget/other' WHERE name = 'budget/fleet'",
        "INSERT INTO pay_account VALUES (9, 'USD', 'x', 0, 1, 0, 0, 0, 0)",
        "UPDATE pay_transfer SET units = units + 1 WHERE id = 3",
        "UPDATE pay_transfer SET hold = 4 WHERE hold = 3",
        "DELETE FROM pay_transfer WHERE id = 4",
        "DELETE FROM pay_transfer WHERE id = (SELECT max(id) FROM pay_transfer)",
        "INSERT INTO pay_transfer SELECT id + 100, batch, debit, credit, 0, 0, NULL
         FROM pay_transfer WHERE id = 1",
        "UPDATE pay_transfer SET id = 1000 WHERE id = 3; UPDATE pay_transfer SET id = 3
         WHERE id = 5; UPDATE pay_transfer SET id = 5 WHERE id = 1000",
        "UPDATE pay_batch SET key = 'step-9' WHERE key = 'step-2'",
        "UPDATE pay_batch SET at_ms = at_ms + 1 WHERE seq = 4",
        "UPDATE pay_batch SET expires_ms = expires_ms + 1 WHERE key = 'step-2'",
        "UPDATE pay_batch SET request = zeroblob(32) WHERE seq = 4",
        "DELETE FROM pay_batch WHERE seq = 4",
        "DELETE FROM pay_activity WHERE account = 2",
        "DELETE FROM pay_batch WHERE seq = (SELECT max(seq) FROM pay_batch)",
        "UPDATE pay_pending SET expires_ms = 1 WHERE batch = (SELECT max(batch) FROM pay_pending)",
        "DELETE FROM pay_pending",
        "DELETE FROM pay_key WHERE batch = 4",
        "UPDATE pay_key SET hash = hash + 1 WHERE batch = 4",
        "INSERT INTO pay_key VALUES (1, 4)",
        "UPDATE pay_batch SET request = zeroblob(31) WHERE seq = 4",
        "UPDATE pay_head SET hash = zeroblob(32)",
        "UPDATE pay_head SET seq = seq + 1",
    ];
    let intact = tempfile::tempdir().unwrap();
    journal(intact.path()).await;
    for damage in damages {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(intact.path().join("pay.db"), dir.path().join("pay.db")).unwrap();
        let file = rusqlite::Connection::open(dir.path().join("pay.db")).unwrap();
        file.execute_batch(damage).unwrap();
        assert!(file.total_changes() > 0, "{damage}");
        drop(file);
        let env = Env::system();
        let config = Config::new(dir.path().join("pay.db"));
        let db = Db::open(config.with_durability(Durability::Nothing), &env);
        let ledger = SqliteLedger::open(db.await.unwrap()).await.unwrap();
        let found = ledger.verify(None).await.unwrap_err();
        assert_eq!(found.kind(), ErrorKind::Corrupt, "{damage}: {found:?}");
    }
}

#[tokio::test]
async fn anchor_shows_a_journal_that_was_cut_off_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let anchor = journal(dir.path()).await;
    let other = tempfile::tempdir().unwrap();
    let (shorter, _budgets) = open(other.path()).await;
    shorter.verify(None).await.unwrap();
    let found = shorter.verify(Some(anchor)).await.unwrap_err();
    assert!(matches!(found, agent_pay::Error::Corrupt { .. }));
}

#[tokio::test]
async fn the_database_itself_refuses_an_overdraft() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).await;
    let file = rusqlite::Connection::open(dir.path().join("pay.db")).unwrap();
    let overdraw = "UPDATE pay_account SET debits_posted = credits_posted + 1 WHERE guard = 1";
    assert!(file.execute_batch(overdraw).is_err());
}
