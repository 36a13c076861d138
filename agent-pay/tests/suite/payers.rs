//! Payers of several rails on one authority.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Asset, Classify, ErrorKind, IdempotencyKey};
use agent_pay::authority::SpendState;
use agent_pay::rail::{
    Event, EventId, Outcome, Paid, Payer, Payment, Rail, Simulator, SimulatorFaults,
};

use crate::common::{Shop, money, op};
use crate::rails::{POLICY, simulator};

/// A rail by some name that does everything and whose answers are lost.
#[derive(Debug)]
struct Deaf {
    name: &'static str,
    rail: Arc<Simulator>,
}

#[async_trait::async_trait]
impl Rail for Deaf {
    fn name(&self) -> &str {
        self.name
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        let _lost = self.rail.pay(payment).await;
        Outcome::unknown(Duration::from_secs(1), "no answer in time")
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        self.rail.look_up(id).await
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        let _lost = self.rail.refund(payment, refund).await;
        Outcome::unknown(Duration::from_secs(1), "no answer in time")
    }
}

fn payer(shop: &Shop, name: &'static str, rail: &Arc<Simulator>) -> Payer {
    let rail = Arc::clone(rail);
    Payer::new(shop.authority.clone(), Arc::new(Deaf { name, rail }))
}

/// A rail says of what it never saw that no money moved, which is no word about another's payment.
#[tokio::test]
async fn a_payer_asks_about_payments_and_refunds_of_its_own_rail_alone() {
    let shop = Shop::open(POLICY).await;
    let [one, two] = [1, 2].map(|seed| simulator(SimulatorFaults::default(), seed));
    let (ours, other) = (payer(&shop, "one", &one), payer(&shop, "two", &two));
    let state = || async {
        let spend = shop.authority.spend(op("k")).await.unwrap().unwrap();
        (spend.state, spend.refunded)
    };
    let intent = shop.intent("k", "acme", "1.00 USD").with_rail("one");
    let paid = ours.pay(intent).await.unwrap();
    assert!(matches!(paid, Paid::Unknown { .. }));
    assert_eq!(other.reconcile(10).await.unwrap(), 0);
    let event = Event::new(EventId::new("e"), op("k"), Outcome::failed("no_payment"));
    let told = other.on_event(event).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::NotFound);
    assert_eq!(state().await, (SpendState::Submitted, money("0 USD")));
    assert_eq!(ours.reconcile(10).await.unwrap(), 1);
    assert_eq!(state().await, (SpendState::Captured, money("0 USD")));

    let back = other.refund(op("k"), op("r2"), money("0.10 USD")).await;
    assert_eq!(back.unwrap_err().kind(), ErrorKind::NotFound);
    let back = ours.refund(op("k"), op("r"), money("0.40 USD")).await;
    assert!(matches!(back.unwrap(), Paid::Unknown { .. }));
    assert_eq!(other.reconcile(10).await.unwrap(), 0);
    let event = Event::new(EventId::new("f"), op("r"), Outcome::failed("no_payment"));
    assert_eq!(
        other.on_event(event).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(ours.reconcile(10).await.unwrap(), 1);
    assert_eq!(state().await, (SpendState::Captured, money("0.40 USD")));
    assert_eq!(one.moved(Asset::USD), money("0.60 USD"));
    shop.check().await;
}

/// What one of them can never find out does not move the place of the other's page.
#[tokio::test]
async fn payers_go_through_their_payments_in_turns_of_their_own() {
    let shop = Shop::open(POLICY).await;
    let [one, two] = [1, 2].map(|seed| simulator(SimulatorFaults::default(), seed));
    let (ours, other) = (payer(&shop, "one", &one), payer(&shop, "two", &two));
    for n in 0..6 {
        let (rail, payer) = [("one", &ours), ("two", &other)][n % 2];
        let intent = shop.intent(&format!("k{n}"), "acme", "0.10 USD");
        let _unknown = payer.pay(intent.with_rail(rail)).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(ours.reconcile(1).await.unwrap(), 1);
        assert_eq!(other.reconcile(1).await.unwrap(), 1);
    }
    assert!(shop.authority.submitted(10).await.unwrap().is_empty());
}
