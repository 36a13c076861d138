//! A payer is killed with SIGKILL at every step of a payment; afterwards the books agree with the
//! bank, nothing is held for ever, and nothing was paid twice.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; the child is told its directory by the environment"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use agent_core::store::{Config, Db};
use agent_core::{Amount, Asset, Env, IdempotencyKey, Principal};
use agent_pay::authority::{Authorization, Intent, Origin, Payee, PriceBasis, SpendState};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::rail::{Internal, Outcome, Paid, Payer, Payment, Rail};
use agent_pay::{AccountName, Batch, BudgetPath, Budgets, Entry, Guard, Ledger, LedgerExt};

const CHILD: &str = "AGENT_PAY_KILL_CHILD";
const ROUND: &str = "AGENT_PAY_KILL_ROUND";
/// The lines the child says for one payment: authorized, submitted, paid, captured.
const STEPS: usize = 4;
const POLICY: &str = "[node.acme]\nlimits = [\"100.00 USD lifetime\", \"100.00 USD rolling 1h\"]\nfirst_payee = \"allow\"";

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

fn name(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

fn usd(text: &str) -> Amount {
    text.parse().unwrap()
}

/// The books of the one who pays, and the bank's: two files, as with any real bank.
async fn open(dir: &Path) -> (SqliteAuthority, SqliteLedger, Arc<dyn Ledger>, Internal) {
    let env = Env::system();
    let db = Db::open(Config::new(dir.join("pay.db")), &env)
        .await
        .unwrap();
    let authority = SqliteAuthority::open(db.clone()).await.unwrap();
    authority
        .apply(POLICY.parse().unwrap(), Principal::host())
        .await
        .unwrap();
    let ledger = SqliteLedger::open(db).await.unwrap();
    let bank = Db::open(Config::new(dir.join("bank.db")), &env)
        .await
        .unwrap();
    let bank: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(bank).await.unwrap());
    let entries = vec![
        Entry::open(Asset::USD, name("mint"), Guard::Unguarded),
        Entry::open(Asset::USD, name("purse"), Guard::DebitsMustNotExceedCredits),
        Entry::open(Asset::USD, name("shop"), Guard::Unguarded),
        Entry::post(name("mint"), name("purse"), usd("100.00 USD")),
    ];
    bank.post(Batch::new(key("setup"), entries)).await.unwrap();
    let rail = Internal::new(Arc::clone(&bank), name("purse"));
    (authority, ledger, bank, rail)
}

fn intent(round: &str, n: usize) -> Intent {
    let until = agent_core::Timestamp::from_unix_ms(4_000_000_000_000);
    let payee = Payee::new("shop", Origin::Catalogue);
    let node = BudgetPath::new("acme").unwrap();
    let amount = usd("0.01 USD");
    Intent::new(
        key(&format!("{round}-{n}")),
        node,
        Principal::host(),
        amount,
        payee,
        until,
    )
    .with_basis(PriceBasis::RateCard)
}

/// The child: pays step by step and says what it did, until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let say = |what: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "\nstep {what}").unwrap();
        out.flush().unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let (authority, _ledger, _bank, rail) = open(Path::new(&dir)).await;
        // Each round has payments of its own, as many as it gets to.
        let round = std::env::var(ROUND).unwrap();
        for n in 0.. {
            let intent = intent(&round, n);
            let held = authority.authorize(intent.clone()).await.unwrap();
            let Authorization::Held { hold, .. } = held else {
                continue;
            };
            if hold.state != SpendState::Held {
                continue;
            }
            say("authorized");
            authority.submit(hold.key.clone()).await.unwrap();
            say("submitted");
            let payment = Payment::new(hold.key.clone(), "shop", hold.amount);
            let outcome = rail.pay(payment).await;
            say("paid");
            if let Outcome::Settled { amount, .. } = outcome {
                authority.capture(hold.key, amount).await.unwrap();
                say("captured");
            }
        }
    });
}

/// Runs a child and kills it when it said so many steps.
fn kill_after(dir: &Path, round: usize, n_steps: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spend_kill::child", "--nocapture"])
        .env(CHILD, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let steps = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("step "));
    let n_seen = steps.take(n_steps).count();
    assert_eq!(n_seen, n_steps);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn killed_payers_leak_no_hold_and_make_and_lose_no_money() {
    let dir = tempfile::tempdir().unwrap();
    // Each round dies one step further, the last after a whole payment.
    for round in 0..=STEPS {
        kill_after(dir.path(), round, round + 1);
    }
    let (authority, ledger, bank, rail) = open(dir.path()).await;
    let payer = Payer::new(authority.clone(), Arc::new(rail));
    payer.reconcile(100).await.unwrap();
    assert!(authority.submitted(10).await.unwrap().is_empty());
    // The agents come back and ask for the same payments again.
    let (mut n_settled, mut n_failed) = (0_u64, 0);
    for round in 0..=STEPS {
        for n in 0.. {
            let intent = intent(&round.to_string(), n);
            if authority.spend(intent.key.clone()).await.unwrap().is_none() {
                break;
            }
            match payer.pay(intent).await.unwrap() {
                Paid::Settled(_) => n_settled += 1,
                other => {
                    assert!(matches!(other, Paid::Failed(_)), "{other:?}");
                    n_failed += 1;
                }
            }
        }
    }
    // A payer has one payment in its hands when it dies.
    assert!(
        n_settled >= 1 && n_failed <= STEPS + 1,
        "{n_settled} {n_failed}"
    );
    let shop = bank
        .account(Asset::USD, name("shop"))
        .await
        .unwrap()
        .credits_posted();
    let budgets = Budgets::new(Arc::new(ledger.clone()));
    let balance = budgets
        .balance(Asset::USD, BudgetPath::new("acme").unwrap())
        .await
        .unwrap();
    assert_eq!(balance.spent, shop);
    assert_eq!(shop, usd("0.01 USD").times(n_settled).unwrap());
    assert_eq!(balance.held, usd("0 USD"));
    for books in [&ledger as &dyn Ledger, &*bank] {
        books.verify(None).await.unwrap();
        for sums in books.trial_balance().await.unwrap() {
            assert!(sums.is_balanced());
        }
    }
    // Once more changes nothing.
    let again = payer.pay(intent("0", 0)).await.unwrap();
    assert!(matches!(again, Paid::Settled(_) | Paid::Failed(_)));
    let again = bank
        .account(Asset::USD, name("shop"))
        .await
        .unwrap()
        .credits_posted();
    assert_eq!(again, shop);
    authority.sweep(10).await.unwrap();
}
