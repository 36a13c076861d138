//! The client and the rail against others' stand-ins for Stripe and the official SDKs, as installed
//! in the folder `STRIPE_PEERS` names: `python` by `pip install --target`, `node` by
//! `npm install --prefix`.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use crate::peer;

use std::sync::Arc;
use std::time::Duration;

use crate::common::{money, op};
use crate::peer::Peer;
use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Env, IdempotencyKey, Secret};
use agent_pay::conformance::RailSubject;
use agent_pay::rail::{Outcome, Payment, Rail};
use agent_pay::stripe::{
    CallError, Capture, ChargeId, ChargeToken, CustomerId, Destination, IntentStatus, MethodId,
    Money, NewIntent, Source, Stripe, StripeConfig, StripeRail, Webhooks,
};
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn start(program: &str, script: &str) -> Option<Peer> {
    let folder = peer::folder("STRIPE_PEERS")?;
    Some(Peer::start(&folder, program, &format!("stripe/{script}")))
}

fn direct() -> Arc<Direct> {
    Arc::new(Direct::new(DirectConfig::new()).unwrap())
}

fn client(base: &str) -> Stripe {
    let config = StripeConfig::new(Secret::from("sk_test_12345")).with_base(base);
    Stripe::new(config, direct()).unwrap()
}

/// What our client has no call for: whatever a test needs around it.
async fn raw(base: &str, method: &str, path: &str, form: &str) -> Value {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header("authorization", "Bearer sk_test_12345")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.as_bytes().to_vec());
    let answer = direct().send(request.unwrap()).await.unwrap();
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

fn key(text: &str) -> IdempotencyKey {
    op(text)
}

fn minor(text: &str) -> Money {
    Money::new(money(text)).unwrap()
}

/// A customer with a card that works, or that the bank declines.
async fn payer(base: &str, card: &str) -> Source {
    let customer = raw(base, "POST", "/v1/customers", "email=a@example.com").await;
    let customer = customer["id"].as_str().unwrap();
    let card = format!(
        "type=card&card[number]={card}&card[exp_month]=12&card[exp_year]=2040&card[cvc]=123"
    );
    let method = raw(base, "POST", "/v1/payment_methods", &card).await;
    let method = method["id"].as_str().unwrap();
    let attach = format!("/v1/payment_methods/{method}/attach");
    raw(base, "POST", &attach, &format!("customer={customer}")).await;
    let customer = CustomerId::new(customer).unwrap();
    Source::stored(MethodId::new(method).unwrap(), Some(customer))
}

/// What localstripe holds of a customer: taken, less what went back.
async fn moved(base: &str, customer: &str) -> Amount {
    let list = raw(base, "GET", "/v1/payment_intents?limit=100", "").await;
    let mut cents = 0;
    for intent in list["data"].as_array().unwrap() {
        if intent["customer"] == customer && intent["status"] == "succeeded" {
            let id = intent["id"].as_str().unwrap();
            let back = format!("/v1/refunds?payment_intent={id}&limit=100");
            let back = raw(base, "GET", &back, "").await;
            let back = back["data"].as_array().unwrap().iter();
            cents += intent["amount"].as_i64().unwrap();
            cents -= back.filter_map(|r| r["amount"].as_i64()).sum::<i64>();
        }
    }
    Amount::from_units(i128::from(cents * 10_000), Asset::USD)
}

async fn store() -> (Db, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    (Db::open(config, &Env::system()).await.unwrap(), dir)
}

async fn rail(client: Stripe, source: Source, db: Db) -> StripeRail {
    let rail = StripeRail::open(client, db, &Env::system(), source)
        .await
        .unwrap();
    rail.with_payee("shop", Destination::This)
        .with_grace(Duration::ZERO)
}

/// Loses every third answer, after the request arrived.
#[derive(Debug)]
struct Lossy(Arc<Direct>, Mutex<u32>);

#[async_trait::async_trait]
impl Transport for Lossy {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let answer = self.0.send(request).await?;
        let n = {
            let mut n = self.1.lock();
            *n += 1;
            *n
        };
        if n % 3 == 0 {
            return Err(Lost::may_have_arrived("lost"));
        }
        Ok(answer)
    }
}

/// The laws of rails against localstripe, without and with lost answers.
#[tokio::test(flavor = "multi_thread")]
async fn laws_hold_against_localstripe() {
    type Law = fn(RailSubject) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let laws: [Law; 4] = [
        |s| Box::pin(agent_pay::conformance::one_id_moves_money_once(s)),
        |s| Box::pin(agent_pay::conformance::final_outcome_stays(s)),
        |s| Box::pin(agent_pay::conformance::id_that_failed_unseen_is_closed(s)),
        |s| Box::pin(agent_pay::conformance::refund_moves_back_at_most_what_was_paid(s)),
    ];
    let Some(peer) = start("python3", "localstripe_here.py") else {
        return;
    };
    let base = peer.base();
    for is_lossy in [false, true] {
        for law in laws {
            // Lost answers make refunds unknown, which the law of refunds does not expect at once.
            if is_lossy && law as usize == laws[3] as usize {
                continue;
            }
            raw(&base, "DELETE", "/_config/data", "").await;
            let source = payer(&base, "4242424242424242").await;
            let Source::Stored {
                customer: Some(customer),
                ..
            } = source.clone()
            else {
                return;
            };
            let transport: Arc<dyn Transport> = if is_lossy {
                Arc::new(Lossy(direct(), Mutex::new(0)))
            } else {
                direct()
            };
            let config = StripeConfig::new(Secret::from("sk_test_12345")).with_base(&base);
            let (db, dir) = store().await;
            let rail = rail(Stripe::new(config, transport).unwrap(), source, db).await;
            let (base, dir) = (base.clone(), Arc::new(dir));
            let subject = RailSubject::new(Arc::new(rail), "shop", move || {
                let (base, customer, dir) = (base.clone(), customer.clone(), Arc::clone(&dir));
                async move {
                    let _dir = dir;
                    moved(&base, customer.as_str()).await
                }
            });
            law(subject.with_unit(10_000)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn localstripe_authorizes_captures_cancels_declines_and_tells() {
    let Some(peer) = start("python3", "localstripe_here.py") else {
        return;
    };
    let base = peer.base();
    let client = client(&base);
    let source = payer(&base, "4242424242424242").await;
    let new = NewIntent::new(minor("10.00 USD"), source.clone()).with_capture(Capture::Manual);
    let made = client.create(&key("a"), &new).await.unwrap();
    let id = made.name().unwrap();
    let held = client.confirm(&key("b"), &id, false).await.unwrap();
    assert_eq!(held.status, IntentStatus::RequiresCapture);
    let refused = client
        .capture(&key("c"), &held, &minor("10.01 USD"))
        .await
        .err();
    assert!(matches!(refused, Some(CallError::Invalid(_))));
    let taken = client
        .capture(&key("c"), &held, &minor("7.50 USD"))
        .await
        .unwrap();
    assert_eq!(taken.status, IntentStatus::Succeeded);
    let back = client
        .refund(&key("d"), &id, &minor("2.00 USD"), &Default::default())
        .await
        .unwrap();
    assert_eq!((back.amount, &*back.status), (200, "succeeded"));
    let again = client
        .create(&key("e"), &new)
        .await
        .unwrap()
        .name()
        .unwrap();
    let given_up = client.cancel(&key("f"), &again).await.unwrap();
    assert_eq!(given_up.status, IntentStatus::Canceled);
    // A card that is declined only when it is charged.
    let declined = payer(&base, "4000000000000341").await;
    let (db, _dir) = store().await;
    let rail = rail(client, declined, db).await;
    let outcome = rail
        .pay(Payment::new(op("p"), "shop", money("5.00 USD")))
        .await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_eq!(rail.look_up(op("p")).await, outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_localstripe_signs_is_verified() {
    let Some(peer) = start("python3", "localstripe_here.py") else {
        return;
    };
    let base = peer.base();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let form = format!("url=http://{here}/hook&secret=whsec_local");
    raw(&base, "POST", "/_config/webhooks/one", &form).await;
    let (db, _dir) = store().await;
    let source = payer(&base, "4242424242424242").await;
    let rail = rail(client(&base), source, db).await;
    let outcome = rail
        .pay(Payment::new(op("p"), "shop", money("5.00 USD")))
        .await;
    assert!(matches!(outcome, Outcome::Settled { .. }), "{outcome:?}");
    let hooks = Webhooks::new(Secret::from("whsec_local"), &Env::system());
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let (head, body) = loop {
            let mut part = [0; 4_096];
            let n = stream.read(&mut part).await.unwrap();
            bytes.extend_from_slice(&part[..n]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("Content-Length: "));
            if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                break (head.to_owned(), body.to_owned());
            }
        };
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        let signature = head
            .lines()
            .find_map(|l| l.strip_prefix("Stripe-Signature: "))
            .unwrap();
        let event = hooks.verify(signature, body.as_bytes()).unwrap();
        assert!(
            hooks
                .verify(signature, format!("{body} ").as_bytes())
                .is_err()
        );
        if event.kind == "payment_intent.succeeded" {
            assert_eq!(event.data.object["amount"], 500);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stateful_mock_sees_one_charge_for_one_key() {
    let Some(peer) = start("node", "stateful_here.cjs") else {
        return;
    };
    let client = client(&peer.base());
    let token = ChargeToken::new("tok_visa").unwrap();
    let charge = |k: &'static str, text: &'static str, is_captured| {
        let (client, token) = (client.clone(), token.clone());
        async move {
            client
                .charge(&key(k), &minor(text), &token, is_captured)
                .await
        }
    };
    let first = charge("k", "5.00 USD", true).await.unwrap();
    assert_eq!(charge("k", "5.00 USD", true).await.unwrap(), first);
    let refused = charge("k", "5.01 USD", true).await.err();
    assert!(
        matches!(&refused, Some(CallError::Refused(r)) if r.kind == "idempotency_error"),
        "{refused:?}"
    );
    let declined = ChargeToken::new("tok_chargeDeclined").unwrap();
    let refused = client
        .charge(&key("d"), &minor("5.00 USD"), &declined, true)
        .await
        .err();
    assert!(
        matches!(&refused, Some(CallError::Refused(r)) if r.status == 402 && r.code == "card_declined"),
        "{refused:?}"
    );
    let held = charge("h", "7.00 USD", false).await.unwrap();
    assert!(!held.captured);
    assert!(
        client
            .capture_charge(&key("c"), &held, &minor("7.01 USD"))
            .await
            .is_err()
    );
    let taken = client
        .capture_charge(&key("c"), &held, &minor("3.00 USD"))
        .await
        .unwrap();
    assert!(taken.captured && taken.amount_refunded == 400);
    let id = ChargeId::new(first.id).unwrap();
    for _ in 0..2 {
        let back = client
            .refund_charge(&key("r"), &id, &minor("1.00 USD"))
            .await
            .unwrap();
        assert_eq!(back.amount, 100);
    }
    assert!(
        client
            .refund_charge(&key("r2"), &id, &minor("4.01 USD"))
            .await
            .is_err()
    );
    assert!(
        client
            .refund_charge(&key("r3"), &id, &minor("4.00 USD"))
            .await
            .is_ok()
    );
}
