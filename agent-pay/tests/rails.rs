//! Every law on every rail, and payers whose rail goes wrong in every way.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use agent_core::{Asset, Env, SeededEntropy};
use agent_pay::backend::InMemoryLedger;
use agent_pay::conformance::RailSubject;
use agent_pay::rail::{Internal, Outcome, Paid, Payer, Payment, Rail, Simulator, SimulatorFaults};
use agent_pay::{AccountName, Batch, Budgets, Entry, Guard, Ledger, LedgerExt};
use common::{Shop, money, op, path};

mod internal {
    use super::*;

    async fn make() -> RailSubject {
        let ledger: Arc<dyn Ledger> = Arc::new(InMemoryLedger::new(&Env::system()));
        let name = |text: &str| AccountName::new(text).unwrap();
        let guard = Guard::DebitsMustNotExceedCredits;
        let entries = vec![
            Entry::open(Asset::USD, name("bank"), Guard::Unguarded),
            Entry::open(Asset::USD, name("purse"), guard),
            Entry::open(Asset::USD, name("shop"), guard),
            Entry::post(name("bank"), name("purse"), money("0.001 USD")),
        ];
        ledger.post(Batch::new(op("setup"), entries)).await.unwrap();
        let rail = Internal::new(Arc::clone(&ledger), name("purse"));
        RailSubject::new(Arc::new(rail), "shop", move || {
            let ledger = Arc::clone(&ledger);
            async move {
                let shop = ledger
                    .account(Asset::USD, AccountName::new("shop").unwrap())
                    .await
                    .unwrap();
                shop.credits_posted().minus(shop.debits_posted()).unwrap()
            }
        })
    }

    agent_pay::rail_conformance!(make);
}

fn simulator(faults: SimulatorFaults, seed: u64) -> Arc<Simulator> {
    Arc::new(Simulator::new(faults, Arc::new(SeededEntropy::new(seed))))
}

fn subject(rail: Arc<Simulator>) -> RailSubject {
    let truth = Arc::clone(&rail);
    RailSubject::new(rail, "shop", move || {
        let moved = truth.moved(Asset::USD);
        async move { moved }
    })
}

mod simulator_without_faults {
    use super::*;

    async fn make() -> RailSubject {
        subject(simulator(SimulatorFaults::default(), 1))
    }

    agent_pay::rail_conformance!(make);
}

mod simulator_with_faults {
    use super::*;

    async fn make() -> RailSubject {
        subject(simulator(SimulatorFaults::harsh(), 7))
    }

    agent_pay::rail_conformance!(make);
}

const POLICY: &str = "[node.acme]\nlimits = [\"100.00 USD lifetime\"]\nfirst_payee = \"allow\"";

async fn books(shop: &Shop) -> (agent_core::Amount, agent_core::Amount) {
    let budgets = Budgets::new(Arc::new(shop.ledger.clone()));
    let balance = budgets.balance(Asset::USD, path("acme")).await.unwrap();
    (balance.spent, balance.held)
}

#[tokio::test]
async fn books_agree_with_the_rail_after_every_fault_and_nothing_is_paid_twice() {
    for seed in 0..12 {
        let shop = Shop::open(POLICY).await;
        let rail = simulator(SimulatorFaults::harsh(), seed);
        let payer = Payer::new(shop.authority.clone(), Arc::<Simulator>::clone(&rail));
        for n in 0..40 {
            let intent = shop
                .intent(&format!("k{n}"), "acme", "0.10 USD")
                .with_rail("simulator");
            // An impatient agent asks again whatever the answer was.
            for _ in 0..2 {
                let _paid = payer.pay(intent.clone()).await.unwrap();
            }
            if n % 7 == 0 {
                shop.wait(7_200);
                for event in rail.take_events() {
                    let _paid = payer.on_event(event).await.unwrap();
                }
            }
        }
        for _ in 0..50 {
            payer.reconcile(100).await.unwrap();
        }
        for event in rail.take_events() {
            let _paid = payer.on_event(event).await.unwrap();
        }
        assert!(
            shop.authority.submitted(10).await.unwrap().is_empty(),
            "seed {seed}"
        );
        shop.authority.sweep(1_000).await.unwrap();
        assert_eq!(
            books(&shop).await,
            (rail.moved(Asset::USD), money("0 USD")),
            "seed {seed}"
        );
        shop.check().await;
    }
}

/// A rail that settles everything and never answers a payment.
#[derive(Debug)]
struct Deaf(Simulator);

#[async_trait::async_trait]
impl Rail for Deaf {
    fn name(&self) -> &'static str {
        "simulator"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        let _lost = self.0.pay(payment).await;
        Outcome::unknown(std::time::Duration::from_secs(1), "no answer in time")
    }

    async fn look_up(&self, id: agent_core::IdempotencyKey) -> Outcome {
        self.0.look_up(id).await
    }

    async fn refund(&self, payment: agent_core::IdempotencyKey, refund: Payment) -> Outcome {
        self.0.refund(payment, refund).await
    }
}

#[tokio::test]
async fn unknown_is_held_beyond_every_deadline_and_never_paid_again() {
    let shop = Shop::open(POLICY).await;
    let rail = Arc::new(Deaf(Simulator::new(
        SimulatorFaults::default(),
        Arc::new(SeededEntropy::new(1)),
    )));
    let payer = Payer::new(shop.authority.clone(), Arc::<Deaf>::clone(&rail));
    let intent = shop.intent("k", "acme", "60.00 USD").with_rail("simulator");
    assert!(matches!(
        payer.pay(intent.clone()).await.unwrap(),
        Paid::Unknown { .. }
    ));
    shop.wait(1_000_000);
    shop.authority.sweep(100).await.unwrap();
    assert_eq!(books(&shop).await, (money("0 USD"), money("60.00 USD")));
    let shop = shop.restart().await;
    let payer = Payer::new(shop.authority.clone(), Arc::<Deaf>::clone(&rail));
    assert!(matches!(payer.pay(intent).await.unwrap(), Paid::Settled(_)));
    assert_eq!(rail.0.moved(Asset::USD), money("60.00 USD"));
    let paid = payer
        .refund(op("k"), op("r"), money("10.00 USD"))
        .await
        .unwrap();
    assert!(matches!(paid, Paid::Settled(hold) if hold.refunded == money("10.00 USD")));
    assert_eq!(
        books(&shop).await,
        (rail.0.moved(Asset::USD), money("0 USD"))
    );
    assert!(
        payer
            .refund(op("k"), op("r2"), money("50.01 USD"))
            .await
            .is_err()
    );
    shop.check().await;
}

#[tokio::test]
async fn only_a_final_failure_frees_what_is_held() {
    let shop = Shop::open(POLICY).await;
    let refusing = SimulatorFaults::default();
    let mut faults = refusing;
    faults.refused = 1_000_000;
    let payer = Payer::new(shop.authority.clone(), simulator(faults, 1));
    let intent = shop.intent("k", "acme", "60.00 USD").with_rail("simulator");
    assert!(matches!(
        payer.pay(intent.clone()).await.unwrap(),
        Paid::Failed(_)
    ));
    assert!(matches!(payer.pay(intent).await.unwrap(), Paid::Failed(_)));
    assert_eq!(books(&shop).await, (money("0 USD"), money("0 USD")));
    let other = shop.intent("k2", "acme", "1.00 USD");
    assert!(payer.pay(other).await.is_err());
    shop.check().await;
}
