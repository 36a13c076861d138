//! The buying side under a spend authority, against the selling side behind real HTTP.

use std::sync::Arc;

use agent_pay::conformance::RailSubject;
use agent_pay::rail::{Outcome, Paid, Payment, Rail};
use agent_pay::transport::{Answer, Lost, Request, Transport};
use agent_pay::x402::Chain;
use agent_pay::x402::Facilitator;
use agent_pay::x402::Sale;
use agent_pay::x402::{Atomic, LocalKey, PayBack, Requirements, Signer, header};
use agent_pay::x402::{Buyer, BuyerConfig, Fetched};
use async_trait::async_trait;

use crate::desk::{Desk, Wire, Wires, env, market, merchant, token, usd};
use crate::house::{House, Mood, domain};

mod rail {
    use super::*;

    async fn make() -> RailSubject {
        let house = House::open(100_000).await;
        let asked = Requirements::new(&domain(), house.shopkeeper.address(), Atomic::new(10), 60);
        let shop = house
            .sells_at_its_own_url(Sale::new(vec![asked.unwrap()]))
            .await;
        let payee = format!("eip155:84532:{}", house.shopkeeper.address());
        let chain: Arc<dyn Chain> = Arc::new(house.facilitator.inner.clone());
        let facilitator: Arc<dyn Facilitator> = Arc::new(house.facilitator.inner.clone());
        let keeper: Arc<dyn Signer> = Arc::<LocalKey>::clone(&house.shopkeeper);
        let back = PayBack::open(
            house.db.clone(),
            env(&house, 9),
            keeper,
            facilitator,
            Arc::clone(&chain),
        );
        let config = BuyerConfig::new(vec![token()])
            .with_shop(&payee, &format!("{}/a", shop.url))
            .with_chain(chain)
            .with_refunds(Arc::new(back.await.unwrap()));
        let desk = Desk::open(&house, config).await;
        let rail = desk.buyer.clone();
        let keep = Arc::new((house, shop, desk));
        RailSubject::new(Arc::new(rail), &payee, move || {
            let keep = Arc::clone(&keep);
            async move { usd(keep.0.balance(&keep.0.shopkeeper.address()).await) }
        })
    }

    agent_pay::rail_conformance!(make);
}

#[tokio::test]
async fn a_purchase_is_paid_once_booked_and_answered_again() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    for _ in 0..3 {
        assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
    }
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
    assert_eq!((desk.books().await, desk.n_signed()), ((1_000, 0), (1, 1)));
    // The same key for something else is a conflict.
    let other = desk.fetch("k1", &format!("{}/b", shop.url)).await;
    assert!(matches!(other, Err(agent_pay::Error::KeyReused { .. })));
}

#[tokio::test]
async fn what_is_free_costs_nothing() {
    let (_house, shop, desk) = market().await;
    let answer = desk
        .fetch("k1", &format!("{}/nothing", shop.url))
        .await
        .unwrap();
    assert!(matches!(answer, Fetched::Free(answer) if answer.status() == 404));
    assert_eq!(desk.books().await, (0, 0));
}

/// aws-samples: a settlement whose answer is lost is answered with 402, and the payer signs again and
/// pays twice. Here nothing is signed again, whatever the server and the wire do.
#[tokio::test]
async fn a_purchase_is_signed_once_whatever_goes_wrong() {
    for faults in [
        vec![Wire::LosesAnswer],
        vec![Wire::LosesRequest],
        vec![Wire::LosesAnswer, Wire::LosesRequest, Wire::LosesAnswer],
        vec![Wire::LosesRequest, Wire::IsCut, Wire::IsCut],
    ] {
        for moods in [
            vec![],
            vec![Mood::Idle],
            vec![Mood::Deaf],
            vec![Mood::Lie("anything"), Mood::Deaf],
        ] {
            let (house, shop, desk) = market().await;
            let url = format!("{}/a", shop.url);
            house.facilitator.moods.lock().clone_from(&moods);
            // The first request asks for the price.
            let mut next: Vec<Wire> = faults.iter().rev().copied().collect();
            next.push(Wire::Works);
            *desk.wires.next.lock() = next;
            for _ in 0..8 {
                match desk.fetch("k1", &url).await.unwrap() {
                    Fetched::Bought { .. } => break,
                    Fetched::Unknown { hold, .. } => assert_eq!(hold.amount, usd(1_000)),
                    other => assert!(matches!(other, Fetched::Bought { .. }), "{other:?}"),
                }
                assert_eq!(desk.books().await, (0, 1_000));
            }
            assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
            assert_eq!(desk.n_signed().1, 1, "{faults:?} {moods:?}");
            assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
            assert_eq!(desk.books().await, (1_000, 0));
        }
    }
}

/// A server that has the payment and says 402 is not believed: it may have it carried out yet.
#[tokio::test]
async fn a_402_to_a_payment_is_unknown_until_the_chain_says_never() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    *house.facilitator.moods.lock() = vec![Mood::Refuse("insufficient_funds"); 9];
    for _ in 0..3 {
        let fetched = desk.fetch("k1", &url).await.unwrap();
        assert!(matches!(fetched, Fetched::Unknown { .. }), "{fetched:?}");
        assert_eq!(
            desk.buyer
                .payer(&desk.authority)
                .reconcile(10)
                .await
                .unwrap(),
            0
        );
    }
    assert_eq!((desk.books().await, desk.n_signed().1), ((0, 1_000), 1));
    house.wait(61);
    assert_eq!(
        desk.buyer
            .payer(&desk.authority)
            .reconcile(10)
            .await
            .unwrap(),
        1
    );
    assert!(matches!(
        desk.fetch("k1", &url).await.unwrap(),
        Fetched::Failed(_)
    ));
    assert_eq!((desk.books().await, house.earned().await), ((0, 0), 0));
}

/// A payment the server carried out and denies is found on the chain.
#[tokio::test]
async fn what_the_server_denies_the_chain_tells() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    *house.facilitator.moods.lock() = vec![Mood::Refuse("x"), Mood::Lie("insufficient_funds")];
    let _unknown = desk.fetch("k1", &url).await.unwrap();
    assert_eq!(house.earned().await, 1_000);
    // The seller does not answer any more.
    *desk.wires.next.lock() = vec![Wire::LosesRequest; 9];
    assert_eq!(
        desk.buyer
            .payer(&desk.authority)
            .reconcile(10)
            .await
            .unwrap(),
        1
    );
    let fetched = desk.fetch("k1", &url).await.unwrap();
    assert!(
        matches!(fetched, Fetched::Bought { answer: None, .. }),
        "{fetched:?}"
    );
    assert_eq!(desk.books().await, (1_000, 0));
}

#[tokio::test]
async fn what_was_never_sent_has_failed_at_once() {
    let (house, shop, desk) = market().await;
    *desk.wires.next.lock() = vec![Wire::IsCut, Wire::Works];
    let fetched = desk.fetch("k1", &format!("{}/a", shop.url)).await.unwrap();
    assert!(matches!(fetched, Fetched::Failed(_)), "{fetched:?}");
    assert_eq!((desk.books().await, house.earned().await), ((0, 0), 0));
}

/// A server that speaks version 1 alone: the offer in the body, the payment in `X-PAYMENT`.
#[derive(Debug)]
struct OnlyV1(Arc<Wires>);

#[async_trait]
impl Transport for OnlyV1 {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let mut answer = self.0.send(request).await?;
        answer.headers_mut().remove(header::PAYMENT_REQUIRED);
        Ok(answer)
    }
}

#[tokio::test]
async fn version_1_is_paid_too() {
    let (house, shop, desk) = market().await;
    let (transport, signer) = (
        OnlyV1(Arc::clone(&desk.wires)),
        Arc::<LocalKey>::clone(&house.key),
    );
    let config = BuyerConfig::new(vec![token()]).with_merchant(merchant(&shop));
    let opened = Buyer::open(
        desk.db.clone(),
        env(&house, 5),
        Arc::new(transport),
        signer,
        config,
    );
    let desk = Desk {
        buyer: opened.await.unwrap(),
        ..desk
    };
    assert_eq!(
        desk.bought("k1", &format!("{}/a", shop.url)).await,
        b"work 1 of "
    );
    let sent = desk.wires.payments.lock().clone();
    let json = header::decode(&sent[0].parse().unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["x402Version"], 1);
}

/// A purchase survives the process: the store knows what was signed and what was bought.
#[tokio::test]
async fn a_purchase_is_taken_up_by_another_process() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    *desk.wires.next.lock() = vec![Wire::LosesAnswer, Wire::Works];
    assert!(matches!(
        desk.fetch("k1", &url).await.unwrap(),
        Fetched::Unknown { .. }
    ));
    let (wires, signer) = (
        Arc::<Wires>::clone(&desk.wires),
        Arc::<LocalKey>::clone(&house.key),
    );
    let config = BuyerConfig::new(vec![token()]).with_merchant(merchant(&shop));
    // Other entropy: another nonce, if one were drawn.
    let opened = Buyer::open(desk.db.clone(), env(&house, 77), wires, signer, config);
    let desk = Desk {
        buyer: opened.await.unwrap(),
        ..desk
    };
    assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
    assert_eq!((desk.n_signed(), house.earned().await), ((2, 1), 1_000));
    let found = desk
        .buyer
        .bought(agent_core::IdempotencyKey::new("k1").unwrap())
        .await
        .unwrap();
    assert_eq!(found.unwrap().body(), b"work 1 of ");
}

#[tokio::test]
async fn a_refund_that_is_not_offered_fails_and_one_that_is_comes_back() {
    let (house, shop, desk) = market().await;
    desk.bought("k1", &format!("{}/a", shop.url)).await;
    let key = |text: &str| agent_core::IdempotencyKey::new(text).unwrap();
    let refund = Payment::new(key("r1"), "", usd(400));
    let outcome = desk.buyer.refund(key("k1"), refund).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    let refunded = desk
        .buyer
        .payer(&desk.authority)
        .refund(key("k1"), key("r1"), usd(400))
        .await;
    assert!(matches!(refunded.unwrap(), Paid::Failed(_)));
    assert_eq!(
        (desk.books().await, house.earned().await),
        ((1_000, 0), 1_000)
    );
}
