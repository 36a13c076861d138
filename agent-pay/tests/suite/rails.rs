//! Every law on every rail, and payers whose rail goes wrong in every way.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use std::time::Duration;

use crate::common::{Shop, money, op, path};
use agent_core::{Asset, Classify, Env, ErrorKind, SeededEntropy};
use agent_pay::authority::RefundState;
use agent_pay::backend::InMemoryLedger;
use agent_pay::conformance::RailSubject;
use agent_pay::rail::{
    Event, EventId, Internal, Outcome, Paid, Payer, Payment, Rail, Simulator, SimulatorFaults,
};
use agent_pay::{AccountName, Batch, Budgets, Entry, Guard, Ledger, LedgerExt};
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

mod internal {
    use super::*;

    async fn make() -> RailSubject {
        let (rail, ledger) = internal().await;
        RailSubject::new(Arc::new(rail), "shop:tea", move || {
            let ledger = Arc::clone(&ledger);
            async move {
                let shop = ledger
                    .account(Asset::USD, AccountName::new("shop:tea").unwrap())
                    .await
                    .unwrap();
                shop.credits_posted().minus(shop.debits_posted()).unwrap()
            }
        })
    }

    agent_pay::rail_conformance!(make);
}

pub(crate) fn simulator(faults: SimulatorFaults, seed: u64) -> Arc<Simulator> {
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

pub(crate) const POLICY: &str =
    "[node.acme]\nlimits = [\"100.00 USD lifetime\"]\nfirst_payee = \"allow\"";

pub(crate) async fn books(shop: &Shop) -> (agent_core::Amount, agent_core::Amount) {
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
        give_some_back(&payer, seed).await;
        for _ in 0..50 {
            payer.reconcile(100).await.unwrap();
        }
        assert!(
            shop.authority
                .submitted_refunds(10)
                .await
                .unwrap()
                .is_empty(),
            "seed {seed}"
        );
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

/// Gives back 0.04 USD of each payment four times, which is more than was paid, each time asked for
/// by somebody impatient.
async fn give_some_back(payer: &Payer, seed: u64) {
    for n in 0..40 {
        for part in 0..4 {
            for _ in 0..2 {
                let refund = op(&format!("k{n}-back-{part}"));
                let back = payer.refund(op(&format!("k{n}")), refund, money("0.04 USD"));
                match back.await {
                    Ok(_paid) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "seed {seed}"),
                }
            }
        }
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
        Outcome::unknown(SECOND, "no answer in time")
    }

    async fn look_up(&self, id: agent_core::IdempotencyKey) -> Outcome {
        self.0.look_up(id).await
    }

    async fn refund(&self, payment: agent_core::IdempotencyKey, refund: Payment) -> Outcome {
        let _lost = self.0.refund(payment, refund).await;
        Outcome::unknown(SECOND, "no answer in time")
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
    let back = || payer.refund(op("k"), op("r"), money("10.00 USD"));
    assert!(matches!(back().await.unwrap(), Paid::Unknown { .. }));
    assert!(
        matches!(back().await.unwrap(), Paid::Settled(hold) if hold.refunded == money("10.00 USD"))
    );
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

/// A rail with a dollar to pay with, and its ledger.
async fn internal() -> (Internal, Arc<dyn Ledger>) {
    let ledger: Arc<dyn Ledger> = Arc::new(InMemoryLedger::new(&Env::system()));
    let name = |text: &str| AccountName::new(text).unwrap();
    let guard = Guard::DebitsMustNotExceedCredits;
    let entries = vec![
        Entry::open(Asset::USD, name("bank"), Guard::Unguarded),
        Entry::open(Asset::USD, name("purse"), guard),
        Entry::open(Asset::USD, name("shop:tea"), guard),
        Entry::post(name("bank"), name("purse"), money("1.00 USD")),
    ];
    ledger.post(Batch::new(op("fund"), entries)).await.unwrap();
    (Internal::new(Arc::clone(&ledger), name("purse")), ledger)
}

#[tokio::test]
async fn refunds_within_a_ledger_are_booked_as_they_moved() {
    let shop = Shop::open(POLICY).await;
    let (rail, ledger) = internal().await;
    let payer = Payer::new(shop.authority.clone(), Arc::new(rail));
    let intent = shop.intent("k", "acme", "0.60 USD").with_rail("internal");
    assert!(matches!(payer.pay(intent).await.unwrap(), Paid::Settled(_)));
    for (key, left) in [("r1", "0.50 USD"), ("r2", "0.40 USD"), ("r2", "0.40 USD")] {
        let back = payer.refund(op("k"), op(key), money("0.10 USD"));
        assert!(matches!(back.await.unwrap(), Paid::Settled(_)));
        let name = AccountName::new("shop:tea").unwrap();
        let tea = ledger.account(Asset::USD, name).await.unwrap();
        let earned = tea.credits_posted().minus(tea.debits_posted()).unwrap();
        assert_eq!((books(&shop).await.0, earned), (money(left), money(left)));
    }
    shop.check().await;
}

/// What is paid into an account that counts refunds would be given back twice.
#[tokio::test]
async fn nobody_is_paid_into_the_accounts_of_the_rail_itself() {
    let (rail, _ledger) = internal().await;
    let pay = |id: &str, payee: &str| rail.pay(Payment::new(op(id), payee, money("0.30 USD")));
    assert!(matches!(
        pay("k", "shop:tea").await,
        Outcome::Settled { .. }
    ));
    let back = |id: &str, amount| rail.refund(op("k"), Payment::new(op(id), "", money(amount)));
    assert!(matches!(
        back("r", "0.10 USD").await,
        Outcome::Settled { .. }
    ));
    let of = agent_core::Digest::of_bytes(b"k");
    for (n, own) in [&format!("internal-paid/{of}"), "internal-refunds"]
        .into_iter()
        .enumerate()
    {
        assert!(matches!(
            pay(&format!("own-{n}"), own).await,
            Outcome::Failed { .. }
        ));
    }
    assert!(matches!(
        back("r2", "0.21 USD").await,
        Outcome::Failed { .. }
    ));
    assert!(matches!(
        back("r3", "0.20 USD").await,
        Outcome::Settled { .. }
    ));
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

#[tokio::test]
async fn refunds_at_the_same_time_never_exceed_what_was_paid() {
    let shop = Shop::open(POLICY).await;
    let rail = simulator(SimulatorFaults::default(), 1);
    let payer = Payer::new(shop.authority.clone(), Arc::<Simulator>::clone(&rail));
    let intent = shop.intent("k", "acme", "60.00 USD").with_rail("simulator");
    assert!(matches!(payer.pay(intent).await.unwrap(), Paid::Settled(_)));
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let payer = payer.clone();
        racing.spawn(async move {
            let back = payer.refund(op("k"), op(&format!("r{n}")), money("7.00 USD"));
            back.await
        });
    }
    let ends = racing.join_all().await;
    let n_settled = ends
        .iter()
        .filter(|end| matches!(end, Ok(Paid::Settled(_))))
        .count();
    assert_eq!(n_settled, 8, "{ends:?}");
    assert!(
        ends.iter()
            .flat_map(|end| end.as_ref().err())
            .all(|error| error.kind() == ErrorKind::Invalid)
    );
    assert_eq!(rail.moved(Asset::USD), money("4.00 USD"));
    assert_eq!(books(&shop).await, (money("4.00 USD"), money("0 USD")));
    shop.check().await;
}

#[tokio::test]
async fn a_refund_whose_payer_died_is_found_again_and_a_failed_one_frees_its_part() {
    let shop = Shop::open(POLICY).await;
    let rail = simulator(SimulatorFaults::default(), 1);
    let payer = Payer::new(shop.authority.clone(), Arc::<Simulator>::clone(&rail));
    let intent = shop.intent("k", "acme", "60.00 USD").with_rail("simulator");
    assert!(matches!(payer.pay(intent).await.unwrap(), Paid::Settled(_)));
    // Dead after the rail gave back, and dead before it was asked.
    let authority = &shop.authority;
    for (key, amount) in [("seen", "20.00 USD"), ("unseen", "30.00 USD")] {
        let refund = authority.submit_refund(op("k"), op(key), money(amount));
        assert_eq!(refund.await.unwrap().state, RefundState::New);
    }
    let back = Payment::new(op("seen"), "", money("20.00 USD"));
    let _lost = rail.refund(op("k"), back).await;
    // Both are set aside for as long as nobody knows.
    let more = payer.refund(op("k"), op("more"), money("10.01 USD")).await;
    assert!(
        matches!(more, Err(agent_pay::Error::ExceedsHold { held, .. }) if held == money("10.00 USD"))
    );

    let shop = shop.restart().await;
    let payer = Payer::new(shop.authority.clone(), Arc::<Simulator>::clone(&rail));
    assert_eq!(payer.reconcile(10).await.unwrap(), 2);
    assert_eq!(rail.moved(Asset::USD), money("40.00 USD"));
    assert_eq!(books(&shop).await, (money("40.00 USD"), money("0 USD")));
    let unseen = payer.refund(op("k"), op("unseen"), money("30.00 USD"));
    assert!(matches!(unseen.await.unwrap(), Paid::Failed(_)));
    let again = payer.refund(op("k"), op("again"), money("40.00 USD"));
    assert!(
        matches!(again.await.unwrap(), Paid::Settled(hold) if hold.refunded == money("60.00 USD"))
    );
    // An answer that comes late, or says something else than is booked.
    let late = Event::new(
        EventId::new("e1"),
        op("seen"),
        Outcome::unknown(SECOND, "processing"),
    );
    assert!(matches!(
        payer.on_event(late).await.unwrap(),
        Paid::Settled(_)
    ));
    let wrong = Event::new(EventId::new("e2"), op("seen"), Outcome::failed("no"));
    assert_eq!(
        payer.on_event(wrong).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    shop.check().await;
}
