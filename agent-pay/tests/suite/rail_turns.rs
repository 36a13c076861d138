//! Behind a page of payments nobody knows about are others, and they are asked about.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::IdempotencyKey;
use agent_pay::rail::{Outcome, Paid, Payer, Payment, Rail, Simulator, SimulatorFaults};

use crate::common::{Shop, money, op};
use crate::rails::{POLICY, books, simulator};
use crate::stubborn::Stubborn;

/// What a page has, and how many always fail.
const PAGE: usize = 2;
const STUCK: usize = 5;

/// A rail whose answers are lost and that never knows of the first few it is asked about.
#[derive(Debug)]
struct Stuck {
    rail: Arc<Simulator>,
    stubborn: Stubborn,
}

fn lost() -> Outcome {
    Outcome::unknown(Duration::from_secs(1), "no answer in time")
}

#[async_trait::async_trait]
impl Rail for Stuck {
    fn name(&self) -> &str {
        self.rail.name()
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        let _lost = self.rail.pay(payment).await;
        lost()
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        if self.stubborn.refuses(id.as_str()) {
            return lost();
        }
        self.rail.look_up(id).await
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        let _lost = self.rail.refund(payment, refund).await;
        lost()
    }
}

fn payer(shop: &Shop, rail: &Arc<Simulator>, n_stuck: usize) -> Payer {
    let stuck = Stuck {
        rail: Arc::clone(rail),
        stubborn: Stubborn::new(n_stuck),
    };
    Payer::new(shop.authority.clone(), Arc::new(stuck))
}

/// Reconciles page by page and returns how many came to be known.
async fn n_known(payer: &Payer) -> usize {
    let mut n_known = 0;
    for _ in 0..=STUCK / PAGE {
        n_known += payer.reconcile(PAGE).await.unwrap();
    }
    n_known
}

#[tokio::test]
async fn a_payment_behind_payments_nobody_knows_about_is_asked_about() {
    let shop = Shop::open(POLICY).await;
    let rail = simulator(SimulatorFaults::default(), 1);
    let payer = payer(&shop, &rail, STUCK);
    for n in 0..=STUCK {
        let intent = shop.intent(&format!("k{n}"), "acme", "0.10 USD");
        let paid = payer.pay(intent.with_rail("simulator")).await.unwrap();
        assert!(matches!(paid, Paid::Unknown { .. }));
    }
    assert_eq!(n_known(&payer).await, 1);
    assert_eq!(books(&shop).await, (money("0.10 USD"), money("0.50 USD")));
}

#[tokio::test]
async fn a_refund_behind_refunds_nobody_knows_about_is_asked_about() {
    let shop = Shop::open(POLICY).await;
    let rail = simulator(SimulatorFaults::default(), 1);
    let paying = Payer::new(shop.authority.clone(), Arc::<Simulator>::clone(&rail));
    let intent = shop.intent("k", "acme", "1.00 USD");
    let paid = paying.pay(intent.with_rail("simulator")).await.unwrap();
    assert!(matches!(paid, Paid::Settled(_)));
    let payer = payer(&shop, &rail, STUCK);
    for n in 0..=STUCK {
        let back = payer.refund(op("k"), op(&format!("r{n}")), money("0.10 USD"));
        assert!(matches!(back.await.unwrap(), Paid::Unknown { .. }));
    }
    assert_eq!(n_known(&payer).await, 1);
    assert_eq!(books(&shop).await.0, money("0.90 USD"));
    // One that is not stuck knows the others.
    assert_eq!(paying.reconcile(STUCK + 1).await.unwrap(), STUCK);
    assert_eq!(books(&shop).await.0, money("0.40 USD"));
}

/// What a rail contradicts keeps nothing else from being asked about.
#[tokio::test]
async fn a_contradiction_is_told_when_all_were_asked_about() {
    let shop = Shop::open(POLICY).await;
    let rail = simulator(SimulatorFaults::default(), 1);
    let payer = payer(&shop, &rail, 0);
    for (key, amount) in [("a", "0.10 USD"), ("b", "0.20 USD")] {
        // Somebody else pays more than was asked for the first of them.
        if key == "a" {
            let other = Payment::new(op("a"), "shop:tea", money("0.30 USD"));
            let _paid = rail.pay(other).await;
        }
        let intent = shop.intent(key, "acme", amount);
        let paid = payer.pay(intent.with_rail("simulator")).await.unwrap();
        assert!(matches!(paid, Paid::Unknown { .. }));
    }
    let _contradicted = payer.reconcile(10).await.unwrap_err();
    assert_eq!(books(&shop).await.0, money("0.20 USD"));
}
