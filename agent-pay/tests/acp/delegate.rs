//! Delegated payments: where a card goes, and how far its token does.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use crate::acp_shop::Served;
use crate::common::{NOON_MS, op};
use agent_core::{IdempotencyKey, Secret, Timestamp};
use agent_pay::acp::{
    AcpClient, AcpError, Allowance, CardDelegation, Checkout, Credential, FulfillmentDetails,
    Selected, SessionStatus,
};
use agent_pay::transport::{Direct, DirectConfig, Transport};
use serde_json::{Value, json};

const NUMBER: &str = "4242424242424242";
const CVC: &str = "7391";

fn client(served: &Served) -> AcpClient {
    let direct = Arc::new(Direct::new(DirectConfig::new()).unwrap());
    AcpClient::new(&served.base, &Secret::from("bearer_a"), direct).unwrap()
}

fn card(number: &str) -> Value {
    json!({
        "type": "card", "card_number_type": "fpan", "number": number, "exp_month": "11",
        "exp_year": "2040", "cvc": CVC, "name": "Jane Doe", "display_card_funding_type": "credit",
        "metadata": {},
    })
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOON_MS + ms)
}

fn allowance(session: &str, max: i64) -> Allowance {
    Allowance::new(session, "shop", max, "usd", at(3_600_000))
}

fn delegation(allowance: Allowance) -> CardDelegation {
    CardDelegation::new(Secret::from(card(NUMBER).to_string()), allowance)
}

fn key(text: &str) -> IdempotencyKey {
    op(text)
}

/// A session of one cup sent by post: 20.00.
async fn ready(client: &AcpClient, name: &str) -> Checkout {
    let made = client
        .create(&key(&format!("c{name}")), &["cup"], "usd", None, None)
        .await
        .unwrap();
    let details: FulfillmentDetails = serde_json::from_value(json!({
        "address": { "name": "A", "line_one": "1", "city": "X", "state": "NY", "country": "US",
            "postal_code": "1" },
    }))
    .unwrap();
    let selected: Vec<Selected> = serde_json::from_value(json!([
        { "type": "shipping", "option_id": "slow", "item_ids": ["li_cup"] }
    ]))
    .unwrap();
    let name = key(&format!("u{name}"));
    let ready = client
        .update(&name, &made.id, Some(&details), Some(&selected))
        .await
        .unwrap();
    assert_eq!(
        (ready.status, ready.total()),
        (SessionStatus::ReadyForPayment, Some(2_000))
    );
    ready
}

async fn pay(
    client: &AcpClient,
    k: &str,
    id: &str,
    token: &Credential,
) -> Result<Checkout, AcpError> {
    client.complete(&key(k), id, "card_tokenized", token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_is_in_the_vault_and_nowhere_else() {
    let served = Served::open().await;
    let client = client(&served);
    let checkout = ready(&client, "1").await;
    let delegated = delegation(allowance(&checkout.id, 2_000));
    assert!(!format!("{delegated:?}").contains(NUMBER));
    let token = client.delegate(&key("d"), &delegated).await.unwrap();
    assert!(token.token.starts_with("vt_") && !format!("{token:?}").contains(&token.token));
    // A repeated request and a refused one keep nothing of it either.
    assert_eq!(client.delegate(&key("d"), &delegated).await.unwrap(), token);
    let refused = CardDelegation::new(
        Secret::from(card("4000000000000002").to_string()),
        allowance(&checkout.id, 2_000),
    );
    let error = client.delegate(&key("e"), &refused).await.err().unwrap();
    assert!(matches!(&error, AcpError::Refused(said) if said.status == 400));
    assert!(!format!("{error:?}").contains("4000000000000002"));
    let done = pay(&client, "p", &checkout.id, &token).await.unwrap();
    assert_eq!(done.status, SessionStatus::Completed);
    // The till was given what the vault gave.
    assert_eq!(served.shop.charges()[0].1, "pm_vaulted0");
    assert_eq!(served.shop.vaulted().len(), 1);
    let dir = Arc::clone(&served.dir);
    let served = served.restart().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [NUMBER, CVC, "4000000000000002"] {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "a card is in the store");
        }
    }
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_pays_once_within_its_allowance_and_nothing_else() {
    let served = Served::open().await;
    let client = client(&served);
    let (one, two) = (ready(&client, "1").await, ready(&client, "2").await);
    let token = client
        .delegate(&key("d"), &delegation(allowance(&one.id, 2_000)))
        .await
        .unwrap();
    let little = client
        .delegate(&key("e"), &delegation(allowance(&one.id, 1_999)))
        .await
        .unwrap();
    let mut euros = allowance(&one.id, 2_000);
    euros.currency = "eur".to_owned();
    let euros = client
        .delegate(&key("f"), &delegation(euros))
        .await
        .unwrap();
    let unknown = Credential::new("vault_token", "vt_00000000000000000000000000000000");
    for (n, (session, token)) in [
        (&two, &token),
        (&one, &little),
        (&one, &euros),
        (&one, &unknown),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = pay(&client, &format!("x{n}"), &session.id, token)
            .await
            .err()
            .unwrap();
        assert!(
            matches!(&refused, AcpError::Refused(said) if said.status == 400 && said.code == "payment_declined"),
            "{n} {refused:?}"
        );
    }
    // A token of one agent is not one of another.
    assert!(served.shop.charges().is_empty());
    let done = pay(&client, "p", &one.id, &token).await.unwrap();
    assert_eq!(done.status, SessionStatus::Completed);
    assert_eq!(
        (served.shop.charges().len(), served.shop.taken().await),
        (1, 2_000)
    );
    // One that ended.
    let token = client
        .delegate(&key("g"), &delegation(allowance(&two.id, 2_000)))
        .await
        .unwrap();
    served.clock.advance(std::time::Duration::from_secs(3_600));
    let refused = pay(&client, "q", &two.id, &token).await;
    assert!(refused.is_err());
    assert_eq!(served.shop.taken().await, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_the_form_never_reaches_the_vault_and_is_not_repeated() {
    let served = Served::open().await;
    let direct = Direct::new(DirectConfig::new()).unwrap();
    let good = json!({
        "payment_method": card(NUMBER), "allowance": allowance("cs_1", 2_000), "risk_signals": [],
        "metadata": {},
    });
    let changes = [
        ("/payment_method/number", json!("4242 4242 4242 4242")),
        ("/payment_method/number", json!(4242424242424242_u64)),
        (
            "/payment_method/number",
            json!("42424242424242424242424242"),
        ),
        ("/payment_method/exp_month", json!("13")),
        ("/payment_method/type", json!("bank")),
        ("/payment_method/card_number_type", json!("pan")),
        ("/payment_method/metadata", json!([])),
        ("/payment_method", json!(NUMBER)),
        ("/payment_method", json!([[[[[[]]]]]])),
        ("/allowance/max_amount", json!("2000")),
        ("/allowance/max_amount", json!(20.5)),
        ("/allowance/max_amount", json!(0)),
        ("/allowance/max_amount", json!(-1)),
        ("/allowance/max_amount", json!(1e300)),
        ("/allowance/currency", json!("USD")),
        ("/allowance/reason", json!("recurring")),
        ("/allowance/merchant_id", json!("other")),
        ("/allowance/expires_at", json!("2025-10-09T07:20:50.52Z")),
        ("/allowance/expires_at", json!("2027-02-30T00:00:00Z")),
        ("/allowance/expires_at", json!("tomorrow")),
        ("/allowance/expires_at", json!("2027-01-01T00:00:00+99:99")),
        ("/allowance", json!(null)),
        (
            "/risk_signals",
            json!([{ "type": "card_testing", "score": 9, "action": "blocked" }]),
        ),
        ("/risk_signals", json!({})),
        ("/metadata", json!("x")),
    ];
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for (place, value) in changes {
        let mut body = good.clone();
        *body.pointer_mut(place).unwrap() = value;
        bodies.push(body.to_string().into_bytes());
    }
    let mut extra = good.clone();
    extra["card"] = json!(NUMBER);
    bodies.push(extra.to_string().into_bytes());
    for text in ["", "{", "null", "[]", "\u{feff}{}", "{\"a\":1e999}"] {
        bodies.push(text.as_bytes().to_vec());
    }
    bodies.push(b"\xff\xfe".to_vec());
    bodies.push("[".repeat(100_000).into_bytes());
    bodies.push(vec![b' '; 300 * 1_024]);
    for (n, body) in bodies.into_iter().enumerate() {
        let request =
            http::Request::post(format!("{}/agentic_commerce/delegate_payment", served.base))
                .header("authorization", "Bearer bearer_a")
                .header("api-version", agent_pay::acp::VERSION)
                .header("content-type", "application/json")
                .header("idempotency-key", format!("k{n}"))
                .body(body.clone());
        let answer = direct.send(request.unwrap()).await.unwrap();
        let shown = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(answer.status().is_client_error(), "{n} {shown}");
        assert!(!shown.contains("4242"), "{n} {shown}");
    }
    assert!(served.shop.vaulted().is_empty());
}
