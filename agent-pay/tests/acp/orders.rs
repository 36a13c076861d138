//! What a seller tells of its orders.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use crate::acp_shop::{Served, env, pay_with, ready, say};
use agent_core::Secret;
use agent_pay::acp::{OrderChange, OrderHooks};
use agent_pay::transport::{Answer, Lost, Request, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Takes events, or does not.
#[derive(Debug, Default)]
struct Receiver(Mutex<(Taken, bool)>);

/// Signatures and bodies.
type Taken = Vec<(String, Vec<u8>)>;

#[async_trait::async_trait]
impl Transport for Receiver {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let mut state = self.0.lock();
        if state.1 {
            return Err(Lost::may_have_arrived("gone"));
        }
        let signature = request.headers()["merchant-signature"]
            .to_str()
            .unwrap()
            .to_owned();
        state.0.push((signature, request.body().clone()));
        http::Response::builder()
            .status(200)
            .body(Vec::new())
            .map_err(Lost::may_have_arrived)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_events_are_signed_come_in_order_and_survive_a_receiver_that_is_gone() {
    let served = Served::open().await;
    let path = ready(&served.base, "events").await;
    let done = say(
        &served.base,
        "POST",
        &format!("{path}/complete"),
        Some("p"),
        &pay_with("spt_1"),
    )
    .await;
    let session = done.body["id"].as_str().unwrap().to_owned();
    let receiver = Arc::new(Receiver::default());
    let hooks = |served: &Served| {
        let transport: Arc<dyn Transport> = Arc::<Receiver>::clone(&receiver);
        OrderHooks::new(
            "https://agent.example.com/hook",
            Secret::from("s"),
            transport,
            &env(&served.clock, 3),
        )
    };
    receiver.0.lock().1 = true;
    assert_eq!(hooks(&served).deliver(&served.seller, 10).await.unwrap(), 0);
    let served = served.restart().await;
    let change = OrderChange::new()
        .with_status("shipped")
        .with_adjustments(vec![json!({
        "id": "adj_1", "type": "refund", "occurred_at": "2026-11-25T12:00:00Z",
        "status": "completed", "amount": 500, "currency": "usd" })]);
    served
        .seller
        .change_order(session.clone(), change)
        .await
        .unwrap();
    receiver.0.lock().1 = false;
    let hooks = hooks(&served);
    assert_eq!(hooks.deliver(&served.seller, 10).await.unwrap(), 2);
    assert_eq!(hooks.deliver(&served.seller, 10).await.unwrap(), 0);
    let taken = receiver.0.lock().0.clone();
    let events: Vec<Value> = taken
        .iter()
        .map(|(s, body)| hooks.verify(s, body).unwrap())
        .collect();
    assert_eq!(
        (&events[0]["type"], &events[1]["type"]),
        (&json!("order_create"), &json!("order_update"))
    );
    assert_eq!(
        (&events[0]["data"]["status"], &events[1]["data"]["status"]),
        (&json!("created"), &json!("shipped"))
    );
    assert_eq!(events[1]["data"]["checkout_session_id"], json!(session));
    assert!(hooks.verify(&taken[0].0, &taken[1].1).is_err());
    served.clock.advance(std::time::Duration::from_secs(301));
    assert!(hooks.verify(&taken[0].0, &taken[0].1).is_err());
    let read = say(&served.base, "GET", &path, None, &Value::Null).await;
    assert_eq!(read.body["order"]["adjustments"][0]["amount"], 500);
}
