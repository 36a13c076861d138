//! A buyer and a seller are killed with SIGKILL around everything a purchase does outside: asking,
//! signing, sending, working, settling, taking back, refunding. Whoever comes back finds out what
//! became of the payment: nothing stays held, nothing is paid twice, and work that was done once is
//! not done again.

#![expect(
    clippy::disallowed_methods,
    reason = "the child is told what it is by the environment"
)]

mod life;
mod stop;
mod writes;

use std::path::Path;

use agent_pay::rail::Paid;
use agent_pay::x402::{Fetched, LedgerFacilitator, Signer};
use agent_pay::{Ledger, LedgerExt};
use life::{Life, Purse, key, traces};

use crate::desk::usd;
use crate::house::PRICE;

const MONEY: i128 = PRICE.cast_signed();
/// Seconds between two lives: all leases are over, and payments of ten minutes hold on.
const SOON: u64 = 200;
/// Payments do not hold any more.
const LATE: u64 = 2_000;

/// What the seller has earned and the buyer has spent and holds.
async fn books(dir: &Path, purse: &Purse) -> (i128, i128, i128) {
    let earned = earned(dir).await;
    let (spent, held) = purse.balance().await;
    (earned, spent, held)
}

async fn earned(dir: &Path) -> i128 {
    let (ledger, _chain) = life::chain(dir, SOON).await;
    let seller = life::shopkeeper().address();
    let account = LedgerFacilitator::account(&seller).unwrap();
    ledger.verify(None).await.unwrap();
    let account = ledger.account(agent_core::Asset::USD, account).await;
    account.map_or(0, |account| {
        let balance = account.credits_posted().minus(account.debits_posted());
        balance.unwrap().units()
    })
}

/// Nothing is left to be found out, and both sides have the same in their books.
async fn agree(dir: &Path, purse: &Purse, money: i128, when: &str) {
    purse.payer().reconcile(100).await.unwrap();
    assert_eq!(purse.authority.submitted(10).await.unwrap(), [], "{when}");
    assert_eq!(books(dir, purse).await, (money, money, 0), "{when}");
    // One purchase has one signature, whoever died.
    assert!(traces(dir, "nonce-").len() <= 1, "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_buyer_pays_once_or_not_at_all() {
    for (point, is_paid) in [
        ("ask", true),
        ("asked", true),
        // What is not stored as signed is never signed under this key.
        ("sign", false),
        ("signed", false),
        ("send", true),
        ("sent", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let seller = Life::sell(dir.path(), 0, 0, "settle first", "");
        Life::buy(dir.path(), "buy", point).dies_at(point);
        let purse = Purse::open(dir.path(), SOON, None).await;
        agree_later(&purse).await;
        let fetched = purse.fetch().await.unwrap();
        let was_bought = matches!(
            &fetched,
            Fetched::Bought {
                answer: Some(_),
                ..
            }
        );
        assert_eq!(was_bought, is_paid, "{point}: {fetched:?}");
        agree(dir.path(), &purse, if is_paid { MONEY } else { 0 }, point).await;
        let n_runs = usize::from(is_paid);
        assert_eq!(traces(dir.path(), "run-").len(), n_runs, "{point}");
        seller.dies();
    }
}

/// What was handed to the rail is known after one look.
async fn agree_later(purse: &Purse) {
    purse.payer().reconcile(100).await.unwrap();
    assert_eq!(purse.authority.submitted(10).await.unwrap(), []);
}

/// Buys from a seller that dies at a point.
async fn sold_until(dir: &Path, policy: &str, point: &'static str) -> Purse {
    let seller = Life::sell(dir, 0, 0, policy, point);
    let purse = Purse::open(dir, 0, None).await;
    let dying = tokio::task::spawn_blocking(move || seller.dies_at(point));
    let fetched = purse.fetch().await.unwrap();
    assert!(matches!(fetched, Fetched::Unknown { .. }), "{fetched:?}");
    dying.await.unwrap();
    purse
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_seller_is_paid_once_for_work_that_is_done_once() {
    for (policy, point, n_runs) in [
        ("settle first", "settle", 1),
        ("settle first", "settled", 1),
        // Work that is killed in the middle, or before its answer is kept, is done again.
        ("settle first", "work", 2),
        ("settle first", "worked", 2),
        ("work first", "verify", 1),
        ("work first", "verified", 1),
        ("work first", "work", 2),
        ("work first", "worked", 2),
        ("work first", "settle", 1),
        ("work first", "settled", 1),
    ] {
        let when = format!("{policy}, {point}");
        let dir = tempfile::tempdir().unwrap();
        let purse = sold_until(dir.path(), policy, point).await;
        let seller = Life::sell(dir.path(), SOON, life::port(dir.path()), policy, "");
        // What was worked for is settled before the buyer comes back.
        let (earned, ..) = books(dir.path(), &purse).await;
        let is_settled = !matches!(
            (policy, point),
            ("work first", "verify" | "verified" | "work" | "worked")
        );
        assert_eq!(earned, if is_settled { MONEY } else { 0 }, "{when}");
        agree_later(&purse).await;
        let fetched = purse.fetch().await.unwrap();
        let was_bought = matches!(
            &fetched,
            Fetched::Bought {
                answer: Some(_),
                ..
            }
        );
        assert!(was_bought, "{when}: {fetched:?}");
        agree(dir.path(), &purse, MONEY, &when).await;
        assert_eq!(traces(dir.path(), "run-").len(), n_runs, "{when}");
        // The work knows its payment, so that doing it again changes nothing.
        assert_eq!(traces(dir.path(), "effect-").len(), 1, "{when}");
        seller.dies();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_seller_takes_back_what_is_not_paid_any_more() {
    for (first, second, n_undone) in [
        // Before it was settled, and then at every point of taking it back.
        ("settle", "", 1),
        ("settle", "undo", 1),
        ("settle", "undone", 2),
        // Work that was not kept leaves nothing to take back by the seller.
        ("verified", "", 0),
    ] {
        let when = format!("{first}, {second}");
        let dir = tempfile::tempdir().unwrap();
        let purse = sold_until(dir.path(), "work first", first).await;
        let port = life::port(dir.path());
        if !second.is_empty() {
            Life::start_selling(dir.path(), LATE, port, "work first", second).dies_at(second);
        }
        let seller = Life::sell(dir.path(), LATE + SOON, port, "work first", "");
        assert_eq!(traces(dir.path(), "undo-").len(), n_undone, "{when}");
        assert_eq!(traces(dir.path(), "effect-").len(), 0, "{when}");
        drop(purse);
        let purse = Purse::open(dir.path(), LATE + SOON, None).await;
        agree_later(&purse).await;
        let fetched = purse.fetch().await.unwrap();
        assert!(matches!(fetched, Fetched::Failed(_)), "{when}: {fetched:?}");
        agree(dir.path(), &purse, 0, &when).await;
        seller.dies();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_killed_goes_back_once() {
    for point in ["sign", "signed", "settle", "settled"] {
        let dir = tempfile::tempdir().unwrap();
        let seller = Life::sell(dir.path(), 0, 0, "settle first", "");
        let purse = Purse::open(dir.path(), 0, None).await;
        let bought = purse.fetch().await.unwrap();
        assert!(matches!(bought, Fetched::Bought { .. }));
        purse.close().await;
        Life::buy(dir.path(), "refund", point).dies_at(point);
        let purse = Purse::open(dir.path(), SOON, None).await;
        purse.payer().reconcile(100).await.unwrap();
        assert_eq!(purse.authority.submitted_refunds(10).await.unwrap(), []);
        // A refund nobody signed is closed; it goes back under another key.
        let is_closed = matches!(point, "sign" | "signed");
        let given_back = if is_closed { 0 } else { 400 };
        let all = books(dir.path(), &purse).await;
        assert_eq!(all, (MONEY - given_back, MONEY - given_back, 0), "{point}");
        let again = purse.payer().refund(key("k1"), key("r1"), usd(400)).await;
        let is_failed = matches!(again, Ok(Paid::Failed(_)));
        assert_eq!(is_failed, is_closed, "{point}: {again:?}");
        if is_closed {
            let other = purse.payer().refund(key("k1"), key("r2"), usd(400)).await;
            assert!(matches!(other, Ok(Paid::Settled(_))), "{other:?}");
        }
        let all = books(dir.path(), &purse).await;
        assert_eq!(all, (MONEY - 400, MONEY - 400, 0), "{point}");
        seller.dies();
    }
}
