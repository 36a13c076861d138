//! The disk stops at every write of a sequence of spends: each page the log got, and a page torn in
//! its middle. What is opened afterwards leaks no hold, made and lost no money, kept everything that
//! was acknowledged, and finds out about every payment that was under way.
//!
//! The log is only appended to, so the file up to a place is what a crash there leaves.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::common;

use std::path::Path;
use std::sync::Arc;

use crate::common::{money, op, path, who};
use agent_core::store::{Config, Db};
use agent_core::{Asset, Clock, Env, ManualClock, SeededEntropy, Timestamp};
use agent_pay::authority::{
    Authorization, Intent, Origin, Payee, PolicyBook, PriceBasis, SpendState,
};
use agent_pay::backend::{InMemoryLedger, SqliteAuthority, SqliteLedger};
use agent_pay::rail::{Internal, Paid, Payer, Payment, Rail};
use agent_pay::{AccountName, Batch, Budgets, Entry, Guard, Ledger, LedgerExt};

/// What a page of the log takes: its header and the page.
const FRAME_BYTES: u64 = 24 + 4_096;
/// What the log begins with.
const LOG_HEAD_BYTES: u64 = 32;
const POLICY: &str = "[node.acme]\nlimits = [\"100.00 USD lifetime\", \"90.00 USD rolling 1h\"]\n\
     first_payee = \"allow\"\n[node.\"acme/a\"]\nlimits = [\"50.00 USD lifetime\", \"50 count day\"]";
const N_SPENDS: usize = 6;

/// A place of the log, and what was acknowledged when it was reached.
#[derive(Debug)]
struct Acknowledged {
    log_bytes: u64,
    spend: usize,
    state: SpendState,
    refunded: bool,
}

fn key(n: usize) -> agent_core::IdempotencyKey {
    op(&format!("spend-{n}"))
}

fn refund_key(n: usize) -> agent_core::IdempotencyKey {
    op(&format!("refund-{n}"))
}

fn intent(n: usize, now: Timestamp) -> Intent {
    let payee = Payee::new("shop", Origin::Catalogue);
    let until = now.after(std::time::Duration::from_secs(600));
    let (node, who, amount) = (path("acme/a"), who("agent_x"), money("1.00 USD"));
    Intent::new(key(n), node, who, amount, payee, until).with_basis(PriceBasis::RateCard)
}

struct Books {
    authority: SqliteAuthority,
    ledger: SqliteLedger,
    clock: Arc<ManualClock>,
}

async fn open(dir: &Path) -> Books {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(common::NOON_MS)));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let env = Env::new(shared, Arc::new(SeededEntropy::new(1)));
    let db = Db::open(Config::new(dir.join("pay.db")), &env)
        .await
        .unwrap();
    Books {
        authority: SqliteAuthority::open(db.clone()).await.unwrap(),
        ledger: SqliteLedger::open(db).await.unwrap(),
        clock,
    }
}

/// A bank with a purse, whose books a crash of ours does not touch.
async fn bank() -> (Arc<dyn Ledger>, Internal) {
    let bank: Arc<dyn Ledger> = Arc::new(InMemoryLedger::new(&Env::system()));
    let name = |text: &str| AccountName::new(text).unwrap();
    let entries = vec![
        Entry::open(Asset::USD, name("mint"), Guard::Unguarded),
        Entry::open(Asset::USD, name("purse"), Guard::DebitsMustNotExceedCredits),
        Entry::open(Asset::USD, name("shop"), Guard::Unguarded),
        Entry::post(name("mint"), name("purse"), money("100.00 USD")),
    ];
    bank.post(Batch::new(op("setup"), entries)).await.unwrap();
    let rail = Internal::new(Arc::clone(&bank), name("purse"));
    (bank, rail)
}

/// Spends, each ended in another way, and notes how long the log is after every acknowledgement.
/// The books stay open: closing them would empty the log.
async fn spend(dir: &Path) -> (Books, u64, Vec<Acknowledged>) {
    let books = open(dir).await;
    let book: PolicyBook = POLICY.parse().unwrap();
    books.authority.apply(book, who("host")).await.unwrap();
    let log = dir.join("pay.db-wal");
    let log_bytes = || std::fs::metadata(&log).unwrap().len();
    let (begun, mut all) = (log_bytes(), Vec::new());
    for n in 0..N_SPENDS {
        let mut note = |state, refunded| {
            let (log_bytes, spend) = (log_bytes(), n);
            all.push(Acknowledged {
                log_bytes,
                spend,
                state,
                refunded,
            });
        };
        let authority = &books.authority;
        let held = authority.authorize(intent(n, books.clock.now())).await;
        assert!(matches!(held.unwrap(), Authorization::Held { .. }));
        note(SpendState::Held, false);
        if n == 1 {
            authority.release(key(n)).await.unwrap();
            note(SpendState::Released, false);
            continue;
        }
        authority.submit(key(n)).await.unwrap();
        note(SpendState::Submitted, false);
        match n {
            2 => {
                authority.release(key(n)).await.unwrap();
                note(SpendState::Released, false);
            }
            3 => {
                authority.capture(key(n), money("1.00 USD")).await.unwrap();
                note(SpendState::Captured, false);
                let amount = money("0.40 USD");
                let refunded = authority.refund(key(n), refund_key(n), amount);
                refunded.await.unwrap();
                note(SpendState::Captured, true);
            }
            _ => {
                authority.capture(key(n), money("1.00 USD")).await.unwrap();
                note(SpendState::Captured, false);
            }
        }
    }
    (books, begun, all)
}

/// Copies the store as the disk has it when the log stops at a length.
fn crash(dir: &Path, log_bytes: u64) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("pay.db"), to.path().join("pay.db")).unwrap();
    let log = std::fs::read(dir.join("pay.db-wal")).unwrap();
    let log_bytes = usize::try_from(log_bytes).unwrap();
    let cut = log.get(..log_bytes).unwrap();
    std::fs::write(to.path().join("pay.db-wal"), cut).unwrap();
    to
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A payment goes out when it is held, before its submission is on the disk.
    PaysBeforeSubmitting,
    /// What is said to be done was written one write later.
    AcknowledgesEarly,
}

/// What happened outside before the crash: a payment goes out once its submission is acknowledged,
/// except the one that the bank refuses.
async fn outside(rail: &Internal, all: &[Acknowledged], log_bytes: u64, bug: Option<Bug>) {
    let sends_when = match bug {
        Some(Bug::PaysBeforeSubmitting) => SpendState::Held,
        _ => SpendState::Submitted,
    };
    let is_sent = |a: &&Acknowledged| a.state == sends_when && a.log_bytes <= log_bytes;
    for sent in all.iter().filter(is_sent).filter(|sent| sent.spend != 2) {
        let payment = Payment::new(key(sent.spend), "shop", money("1.00 USD"));
        let _paid = rail.pay(payment).await;
    }
}

async fn check(dir: &Path, all: &[Acknowledged], log_bytes: u64, bug: Option<Bug>) {
    let books = open(dir).await;
    let (bank, rail) = bank().await;
    outside(&rail, all, log_bytes, bug).await;
    nothing_acknowledged_is_lost(&books, all, log_bytes).await;
    // What was under way is found out, and what nobody submitted is free after its time.
    let rail: Arc<dyn Rail> = Arc::new(rail);
    let payer = Payer::new(books.authority.clone(), rail);
    payer.reconcile(100).await.unwrap();
    assert_eq!(books.authority.submitted(100).await.unwrap(), []);
    books.clock.advance(std::time::Duration::from_secs(601));
    books.authority.sweep(1_000).await.unwrap();
    books_agree_with_the_bank(&books, bank.as_ref(), log_bytes).await;
    everything_verifies(&books).await;
    // Asking again for what is over pays nothing again.
    let again = payer.pay(intent(0, Timestamp::from_unix_ms(common::NOON_MS)));
    let again = again.await;
    assert!(!matches!(again, Ok(Paid::Unknown { .. })), "{again:?}");
}

async fn nothing_acknowledged_is_lost(books: &Books, all: &[Acknowledged], log_bytes: u64) {
    for acked in all.iter().filter(|acked| acked.log_bytes <= log_bytes) {
        let found = books.authority.spend(key(acked.spend)).await.unwrap();
        let is_there = found.is_some_and(|found| {
            let is_given_back = !acked.refunded || !found.refunded.is_zero();
            found.state.code() >= acked.state.code() && is_given_back
        });
        assert!(is_there, "{acked:?} is lost at {log_bytes}");
    }
}

async fn books_agree_with_the_bank(books: &Books, bank: &dyn Ledger, log_bytes: u64) {
    let shop = bank.account(Asset::USD, AccountName::new("shop").unwrap());
    let shop = shop.await.unwrap().balances.credits_posted;
    let mut given_back = 0;
    for n in 0..N_SPENDS {
        if let Some(found) = books.authority.spend(key(n)).await.unwrap() {
            given_back += i64::try_from(found.refunded.units()).unwrap();
        }
    }
    let budgets = Budgets::new(Arc::new(books.ledger.clone()));
    for node in ["acme", "acme/a"] {
        let balance = budgets.balance(Asset::USD, path(node)).await.unwrap();
        assert!(balance.held.is_zero(), "{node} at {log_bytes}");
        let spent = i64::try_from(balance.spent.units()).unwrap();
        assert_eq!(spent, shop - given_back, "{node} at {log_bytes}");
    }
}

async fn everything_verifies(books: &Books) {
    books.ledger.verify(None).await.unwrap();
    for sums in books.ledger.trial_balance().await.unwrap() {
        assert!(sums.is_balanced());
    }
    for id in 1.. {
        let Some(stored) = books.authority.decision(id).await.unwrap() else {
            break;
        };
        assert!(agent_pay::backend::sqlite::authority::replay(&stored).unwrap());
    }
}

#[tokio::test]
async fn a_crash_at_any_write_leaks_no_hold_and_makes_and_loses_no_money() {
    crash_everywhere(None).await;
}

#[tokio::test]
#[should_panic(expected = "acme at")]
async fn a_crash_finds_what_is_paid_before_it_is_submitted() {
    crash_everywhere(Some(Bug::PaysBeforeSubmitting)).await;
}

#[tokio::test]
#[should_panic(expected = "is lost at")]
async fn a_crash_finds_what_is_acknowledged_before_it_is_written() {
    crash_everywhere(Some(Bug::AcknowledgesEarly)).await;
}

async fn crash_everywhere(bug: Option<Bug>) {
    let dir = tempfile::tempdir().unwrap();
    let (_books, begun, mut all) = spend(dir.path()).await;
    if bug == Some(Bug::AcknowledgesEarly) {
        for acked in &mut all {
            acked.log_bytes -= FRAME_BYTES;
        }
    }
    let end = all.last().unwrap().log_bytes;
    assert_eq!((begun - LOG_HEAD_BYTES) % FRAME_BYTES, 0);
    let mut n_points = 0;
    let mut at = begun;
    while at <= end {
        // Whole, with a torn header, and with half a page, in turns.
        let torn = [0, 12, 2_048].get(n_points % 3).unwrap();
        let log_bytes = (at + torn).min(end);
        let crashed = crash(dir.path(), log_bytes);
        check(crashed.path(), &all, log_bytes, bug).await;
        n_points += 1;
        at += FRAME_BYTES;
    }
    assert!(n_points > 50, "{n_points} writes");
}
