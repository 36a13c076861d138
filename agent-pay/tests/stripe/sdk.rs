//! The official SDKs of Stripe and ours say the same, both ways. They are installed as for the tests
//! against the stand-ins.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::peer;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{money, op as key};
use crate::peer::Peer;
use agent_core::{Env, Secret, Timestamp};
use agent_pay::stripe::{
    AccountId, Capture, CustomerId, MeterEvent, MethodId, Money, NewIntent, NewSharedToken,
    PaymentIntent, ProfileId, Source, Stripe, StripeConfig, Webhooks,
};
use agent_pay::transport::{Answer, Lost, Request, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};

fn start(program: &str, script: &str) -> Option<Peer> {
    let folder = peer::folder("STRIPE_PEERS")?;
    Some(Peer::start(&folder, program, &format!("stripe/{script}")))
}

fn minor(text: &str) -> Money {
    Money::new(money(text)).unwrap()
}

#[test]
fn official_verifier_and_ours_accept_each_others_signatures_and_no_others() {
    let Some(mut sdk) = start("python3", "webhook.py") else {
        return;
    };
    let hooks = Webhooks::new(Secret::from("whsec_x"), &Env::system());
    for text in ["plain", "é \u{1f4b8}", "with \"quotes\" and \\"] {
        let event = json!({ "id": "evt_1", "object": "event", "type": "t", "data": { "object": { "text": text } } });
        let body = event.to_string();
        let ours = hooks.sign(body.as_bytes());
        let told = sdk.ask(&json!({ "body": body, "secret": "whsec_x", "header": ours }));
        assert_eq!(told["ok"], "evt_1");
        let other =
            sdk.ask(&json!({ "body": format!("{body} "), "secret": "whsec_x", "header": ours }));
        assert_eq!(other["ok"], Value::Null);
        let theirs = sdk.ask(&json!({ "body": body, "secret": "whsec_x" }));
        let theirs = theirs["header"].as_str().unwrap();
        assert_eq!(hooks.verify(theirs, body.as_bytes()).unwrap().id, "evt_1");
        let theirs = sdk.ask(&json!({ "body": body, "secret": "whsec_y" }));
        assert!(
            hooks
                .verify(theirs["header"].as_str().unwrap(), body.as_bytes())
                .is_err()
        );
    }
}

/// Keeps what is sent and answers nothing useful.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Value>>);

#[async_trait::async_trait]
impl Transport for Recorder {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        let mut form: Vec<_> = form_urlencoded::parse(request.body())
            .into_owned()
            .collect();
        form.sort();
        self.0.lock().push(json!({
            "method": request.method().as_str(),
            "target": request.uri().path_and_query().map(ToString::to_string),
            "form": form,
            "key": header("idempotency-key"),
            "version": header("stripe-version"),
            "authorization": header("authorization"),
        }));
        Err(Lost::may_have_arrived("recorded"))
    }
}

/// Call by call, the official SDK and our client send the same.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_those_of_the_official_sdk() {
    let Some(sdk) = start("node", "requests.cjs") else {
        return;
    };
    let recorder = Arc::new(Recorder::default());
    let config = StripeConfig::new(Secret::from("sk_test_123"));
    let client = Stripe::new(config, Arc::<Recorder>::clone(&recorder)).unwrap();
    let note = "a b&c=d[é]";
    let (method, customer) = (
        MethodId::new("pm_1a").unwrap(),
        CustomerId::new("cus_1a").unwrap(),
    );
    let source = Source::stored(method.clone(), Some(customer.clone()));
    let new = NewIntent::new(minor("19.99 USD"), source)
        .with_capture(Capture::Manual)
        .with_destination(AccountId::new("acct_1a").unwrap())
        .with_metadata("agent_pay_id", note);
    assert!(client.create(&key("k1"), &new).await.is_err());
    let held: PaymentIntent = serde_json::from_value(json!({
        "id": "pi_1a", "status": "requires_capture", "amount": 1999, "currency": "usd",
    }))
    .unwrap();
    let id = held.name().unwrap();
    assert!(client.confirm(&key("k2"), &id, true).await.is_err());
    assert!(
        client
            .capture(&key("k3"), &held, &minor("7.50 USD"))
            .await
            .is_err()
    );
    assert!(client.cancel(&key("k4"), &id).await.is_err());
    assert!(client.intent(&id).await.is_err());
    let notes = BTreeMap::from([("agent_pay_id".to_owned(), note.to_owned())]);
    assert!(
        client
            .refund(&key("k5"), &id, &minor("4.00 USD"), &notes)
            .await
            .is_err()
    );
    let at = |s: i64| Timestamp::from_unix_ms(s * 1_000);
    let event = MeterEvent::new("tokens", customer, 25, key("k6"), at(1_700_000_000)).unwrap();
    assert!(client.meter_event(&event).await.is_err());
    let seller = ProfileId::new("profile_1a").unwrap();
    let token = NewSharedToken::new(method, seller, minor("10.00 USD"), at(1_700_003_600));
    assert!(client.issue_token(&key("k7"), &token).await.is_err());
    let ours = recorder.0.lock().clone();
    assert_eq!(ours.len(), 8);
    for ours in ours {
        let mut theirs: Value = serde_json::from_str(&sdk.line()).unwrap();
        // A question has no key with us; the SDK may add one.
        if theirs["method"] == "GET" {
            theirs["key"] = Value::Null;
        }
        theirs["key"] = theirs.get("key").cloned().unwrap_or_default();
        assert_eq!(ours, theirs);
    }
}
