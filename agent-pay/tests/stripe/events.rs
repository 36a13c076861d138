//! Events of payments, in any order.

use std::sync::Arc;

use agent_core::{Env, ManualClock, Secret, SeededEntropy};
use agent_pay::authority::SpendState;
use agent_pay::rail::Paid;
use agent_pay::stripe::{Inbox, Received, Webhooks};
use serde_json::{Value, json};

use crate::common::{Shop, money, op};
use crate::fake_stripe::{FakeStripe, Faults};
use crate::{POLICY, intent, shop_rail};

/// An event as Stripe sends it.
pub(crate) fn event(id: &str, kind: &str, object: &Value) -> Vec<u8> {
    let event = json!({ "id": id, "object": "event", "type": kind, "data": { "object": object } });
    event.to_string().into_bytes()
}

pub(crate) fn webhooks(shop: &Shop) -> Webhooks {
    let clock = Arc::<ManualClock>::clone(&shop.clock);
    let env = Env::new(clock, Arc::new(SeededEntropy::new(1)));
    Webhooks::new(Secret::from("whsec_test"), &env)
}

#[tokio::test]
async fn events_are_booked_once_in_any_order_and_after_a_restart() {
    let order = [
        "payment_intent.succeeded",
        "payment_intent.processing",
        "payment_intent.created",
    ];
    for turn in 0..order.len() {
        let mut shop = Shop::open(POLICY).await;
        let fake = FakeStripe::new(Faults::default(), 1);
        let (_rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
        // The confirmation arrives; its answer is lost.
        fake.end_after(Some(1));
        let paid = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
        assert!(matches!(paid, Paid::Unknown { .. }), "{paid:?}");
        fake.end_after(None);
        let after = fake.intents()[0].clone();
        let mut under_way = after.clone();
        under_way["status"] = json!("processing");
        under_way["amount_received"] = json!(0);
        drop(payer);
        for n in 0..order.len() {
            let kind = order[(n + turn) % order.len()];
            let object = if kind == order[0] { &after } else { &under_way };
            let body = event(&format!("evt_{kind}"), kind, object);
            for is_first in [true, false] {
                let (rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
                let signature = webhooks(&shop).sign(&body);
                let inbox = Inbox::new(rail, payer, webhooks(&shop));
                let received = inbox.receive(&signature, &body).await.unwrap();
                assert_eq!(
                    received == Received::Repeated,
                    !is_first,
                    "{kind} {received:?}"
                );
                drop(inbox);
                shop = shop.restart().await;
            }
        }
        let hold = shop.authority.spend(op("k")).await.unwrap().unwrap();
        assert_eq!(
            (hold.state, hold.captured),
            (SpendState::Captured, money("5.00 USD"))
        );
        assert_eq!(fake.moved(), 500);
        shop.check().await;
    }
}

#[tokio::test]
async fn events_about_what_is_not_of_the_rail_change_nothing() {
    let shop = Shop::open(POLICY).await;
    let fake = FakeStripe::new(Faults::default(), 1);
    let (rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
    fake.end_after(Some(1));
    let _unknown = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
    let inbox = Inbox::new(rail, payer, webhooks(&shop));
    // Another payment that bears our note, and a thing that is no payment.
    let mut other = fake.intents()[0].clone();
    other["id"] = json!("pi_other");
    let bodies = [
        event("evt_1", "payment_intent.succeeded", &other),
        event("evt_2", "charge.refunded", &json!({ "id": "ch_1" })),
    ];
    for body in bodies {
        let signature = webhooks(&shop).sign(&body);
        let received = inbox.receive(&signature, &body).await.unwrap();
        let is_nothing = matches!(received, Received::Ignored | Received::Unknown { .. });
        assert!(is_nothing, "{received:?}");
    }
    // One of ours that nobody signed, and one that took more than was asked.
    let body = event("evt_3", "payment_intent.succeeded", &fake.intents()[0]);
    assert!(inbox.receive("t=1,v1=00", &body).await.is_err());
    let mut more = fake.intents()[0].clone();
    more["amount_received"] = json!(501);
    let body = event("evt_4", "payment_intent.succeeded", &more);
    let signature = webhooks(&shop).sign(&body);
    assert!(inbox.receive(&signature, &body).await.is_err());
    let hold = shop.authority.spend(op("k")).await.unwrap().unwrap();
    assert_eq!(hold.state, SpendState::Submitted);
}
