//! The rail over Stripe: the laws of rails, every fault on the way, the end of the process at every
//! request, and events in any order.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod back;
#[expect(dead_code, reason = "these tests use a part of it")]
#[path = "../common/mod.rs"]
mod common;
mod events;
mod fake_stripe;
mod meters;
#[path = "../common/peer.rs"]
mod peer;
mod peers;
mod sdk;
mod tokens;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Env, ManualClock, Secret, SeededEntropy, Timestamp};
use agent_pay::authority::{Intent, SpendState};
use agent_pay::conformance::RailSubject;
use agent_pay::rail::{Outcome, Paid, Payer, Payment, Rail};
use agent_pay::stripe::{Destination, MethodId, Source, Stripe, StripeConfig, StripeRail};
use common::{NOON_MS, Shop, money, op};
use fake_stripe::{FakeStripe, Faults};

const POLICY: &str = "[node.acme]\nlimits = [\"1000.00 USD lifetime\"]\nfirst_payee = \"allow\"";
const CENT: i64 = 10_000;

fn cents(n: i64) -> Amount {
    Amount::from_units(i128::from(n * CENT), Asset::USD)
}

fn client(fake: &Arc<FakeStripe>) -> Stripe {
    let config = StripeConfig::new(Secret::from("sk_test_123"));
    Stripe::new(config, Arc::<FakeStripe>::clone(fake)).unwrap()
}

fn stored(method: &str) -> Source {
    Source::stored(MethodId::new(method).unwrap(), None)
}

async fn rail_with(fake: &Arc<FakeStripe>, db: Db, env: &Env, method: &str) -> StripeRail {
    let rail = StripeRail::open(client(fake), db, env, stored(method)).await;
    let rail = rail.unwrap().with_grace(Duration::ZERO);
    rail.with_payee("shop:tea", Destination::This)
}

fn env() -> Env {
    let clock = ManualClock::new(Timestamp::from_unix_ms(NOON_MS));
    Env::new(Arc::new(clock), Arc::new(SeededEntropy::new(1)))
}

async fn subject(faults: Faults) -> RailSubject {
    let (fake, dir) = (FakeStripe::new(faults, 7), tempfile::tempdir().unwrap());
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &env()).await.unwrap();
    let rail = rail_with(&fake, db, &env(), "pm_card").await;
    let (truth, dir) = (Arc::clone(&fake), Arc::new(dir));
    let subject = RailSubject::new(Arc::new(rail), "shop:tea", move || {
        let (moved, _dir) = (cents(truth.moved()), Arc::clone(&dir));
        async move { moved }
    });
    subject.with_unit(CENT)
}

const HARSH: Faults = Faults {
    lost_requests: 80_000,
    lost_answers: 120_000,
    errors_after: 80_000,
    busy: 60_000,
};

mod without_faults {
    use super::*;

    async fn make() -> RailSubject {
        subject(Faults::default()).await
    }

    agent_pay::rail_conformance!(make);
}

mod with_faults {
    use super::*;

    async fn make() -> RailSubject {
        subject(HARSH).await
    }

    agent_pay::rail_conformance!(make);
}

async fn shop_rail(shop: &Shop, fake: &Arc<FakeStripe>, method: &str) -> (StripeRail, Payer) {
    let clock = Arc::<ManualClock>::clone(&shop.clock);
    let env = Env::new(clock, Arc::new(SeededEntropy::new(1)));
    let db = shop.authority.db().clone();
    let rail = rail_with(fake, db, &env, method).await;
    let payer = Payer::new(shop.authority.clone(), Arc::new(rail.clone()));
    (rail, payer)
}

fn intent(shop: &Shop, key: &str, amount: &str) -> Intent {
    shop.intent(key, "acme", amount).with_rail("stripe")
}

#[tokio::test]
async fn books_agree_with_stripe_after_every_fault_and_nothing_is_paid_twice() {
    for seed in 0..6 {
        let shop = Shop::open(POLICY).await;
        let fake = FakeStripe::new(HARSH, seed);
        let (_rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
        for n in 0..40 {
            // An impatient agent asks again whatever the answer was.
            for _ in 0..2 {
                let paid = payer.pay(intent(&shop, &format!("k{n}"), "0.10 USD")).await;
                let _paid = paid.unwrap();
            }
        }
        for _ in 0..60 {
            payer.reconcile(100).await.unwrap();
        }
        assert!(shop.authority.submitted(10).await.unwrap().is_empty());
        let mut booked = cents(0);
        for n in 0..40 {
            let hold = shop.authority.spend(op(&format!("k{n}"))).await.unwrap();
            booked = booked.plus(hold.unwrap().captured).unwrap();
        }
        assert_eq!(booked, cents(fake.moved()), "seed {seed}");
        shop.check().await;
    }
}

/// The process dies after the n-th request, whose answer it never sees; then it starts again.
#[tokio::test]
async fn a_process_that_dies_at_any_request_pays_once_or_not_at_all() {
    let mut ends = std::collections::BTreeSet::new();
    for n in 0..4 {
        let shop = Shop::open(POLICY).await;
        let fake = FakeStripe::new(Faults::default(), 1);
        let (_rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
        fake.end_after(Some(n));
        let _lost = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
        drop(payer);
        let shop = shop.restart().await;
        fake.end_after(None);
        let (rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
        payer.reconcile(10).await.unwrap();
        let hold = shop.authority.spend(op("k")).await.unwrap().unwrap();
        assert_eq!(hold.captured, cents(fake.moved()), "dead after {n}");
        assert!(hold.state != SpendState::Submitted, "dead after {n}");
        // Whoever still has the payment cannot change that.
        let late = Payment::new(op("k"), "shop:tea", money("5.00 USD"));
        let _outcome = rail.pay(late).await;
        assert_eq!(hold.captured, cents(fake.moved()), "dead after {n}");
        ends.insert(fake.moved());
    }
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [0, 500]);
}

#[tokio::test]
async fn racing_calls_for_one_payment_confirm_it_once() {
    let shop = Shop::open(POLICY).await;
    let fake = FakeStripe::new(Faults::default(), 1);
    let (rail, _payer) = shop_rail(&shop, &fake, "pm_card").await;
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let rail = rail.clone();
        let payment = Payment::new(op("k"), "shop:tea", money("1.00 USD"));
        racing.spawn(async move { rail.pay(payment).await });
    }
    for outcome in racing.join_all().await {
        assert!(!matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    }
    assert_eq!(fake.moved(), 100);
    let confirms = fake
        .seen()
        .iter()
        .filter(|s| s.line.ends_with("/confirm"))
        .count();
    assert_eq!(confirms, 1);
}

#[tokio::test]
async fn what_a_bank_declines_or_asks_a_person_about_fails_for_good() {
    for (method, code) in [
        ("pm_declined", "insufficient_funds"),
        ("pm_person", "not_completed"),
    ] {
        let shop = Shop::open(POLICY).await;
        let fake = FakeStripe::new(Faults::default(), 1);
        let (rail, payer) = shop_rail(&shop, &fake, method).await;
        let paid = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
        assert!(matches!(paid, Paid::Failed(_)), "{paid:?}");
        assert_eq!(rail.look_up(op("k")).await, Outcome::failed(code));
        assert_eq!(fake.intents()[0]["status"], "canceled");
    }
}

#[tokio::test]
async fn what_cannot_be_paid_exactly_never_leaves() {
    let shop = Shop::open(POLICY).await;
    let fake = FakeStripe::new(Faults::default(), 1);
    let (rail, _payer) = shop_rail(&shop, &fake, "pm_card").await;
    let cases = [
        ("a", "shop:tea", "0.001 USD", "amount_not_payable"),
        ("b", "shop:tea", "0 USD", "amount_not_payable"),
        ("c", "shop:tea", "1.00 USDC", "amount_not_payable"),
        ("d", "4242424242424242", "1.00 USD", "unknown_payee"),
    ];
    for (id, payee, amount, code) in cases {
        let outcome = rail.pay(Payment::new(op(id), payee, money(amount))).await;
        assert_eq!(outcome, Outcome::failed(code));
        assert_eq!(rail.look_up(op(id)).await, Outcome::failed(code));
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_step_has_the_same_key_on_every_try_and_no_other_payment_has_it() {
    let mut keys: Vec<Vec<String>> = Vec::new();
    for id in ["one", "one", "two"] {
        let fake = FakeStripe::new(Faults::default(), 1);
        let (dir, env) = (tempfile::tempdir().unwrap(), env());
        let db = Db::open(Config::new(dir.path().join("s.db")), &env)
            .await
            .unwrap();
        let rail = rail_with(&fake, db, &env, "pm_card").await;
        let _outcome = rail
            .pay(Payment::new(op(id), "shop:tea", money("1.00 USD")))
            .await;
        let seen = fake.seen();
        let of = seen
            .iter()
            .filter_map(|s| s.headers.get("idempotency-key").cloned());
        keys.push(of.collect());
        for s in seen {
            assert_eq!(s.headers["stripe-version"], agent_pay::stripe::API_VERSION);
        }
    }
    assert_eq!((keys[0].len(), &keys[0]), (2, &keys[1]));
    assert!(keys[0].iter().all(|key| !keys[2].contains(key)));
}

#[tokio::test]
async fn a_refund_whose_answer_was_lost_is_found_however_late() {
    let shop = Shop::open(POLICY).await;
    let fake = FakeStripe::new(Faults::default(), 1);
    let (rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
    let paid = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
    assert!(matches!(paid, Paid::Settled(_)));
    fake.end_after(Some(0));
    let lost = payer
        .refund(op("k"), op("r"), money("2.00 USD"))
        .await
        .unwrap();
    assert!(matches!(lost, Paid::Unknown { .. }));
    fake.end_after(None);
    let paid = payer
        .refund(op("k"), op("r"), money("2.00 USD"))
        .await
        .unwrap();
    assert!(matches!(paid, Paid::Settled(hold) if hold.refunded == money("2.00 USD")));
    assert_eq!(fake.moved(), 300);
    // What was sent is looked for before anything is sent again.
    let posts = fake
        .seen()
        .iter()
        .filter(|s| s.line == "POST /v1/refunds")
        .count();
    assert_eq!(posts, 1);
    let payment = Payment::new(op("r2"), "", money("3.01 USD"));
    let outcome = rail.refund(op("k"), payment).await;
    assert_eq!(outcome, Outcome::failed("more_than_was_paid"));
}
