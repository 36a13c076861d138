//! What the selling side refuses: altered, doubled, misdirected and unsettleable payments.

use crate::house::{House, Work, asked, config, payee};
use crate::selling::{POLICIES, code, said, why};
use agent_pay::x402::Sale;
use agent_pay::x402::{Accepted, Bytes32, Network, PaymentPayload, Requirements, header};
use agent_pay::x402::{Facilitator, Settlement, Verdict};
use serde_json::json;

#[tokio::test]
async fn a_payment_is_for_one_method_one_resource_and_one_body() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let payment = house.payment().await.to_json().to_string();
    assert_eq!(shop.send("POST", "/a", "one", &payment).await.status(), 200);
    for (method, path, body) in [
        ("POST", "/a", "two"),
        ("POST", "/b", "one"),
        ("POST", "/a?x", "one"),
        ("PUT", "/a", "one"),
    ] {
        let answer = shop.send(method, path, body, &payment).await;
        assert_eq!(
            (answer.status().as_u16(), code(&answer).as_str()),
            (409, "payment_used_otherwise")
        );
    }
    assert_eq!(
        shop.send("POST", "/a", "one", &payment).await.body(),
        b"work 1 of one"
    );
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));

    // A payment that says it is for another resource is not taken for this one.
    let mut other = house.payment().await;
    let mut json = other.to_json();
    json["resource"] = json!({ "url": "https://api.example/b" });
    let answer = shop.send("GET", "/a", "", &json.to_string()).await;
    assert_eq!(
        (answer.status().as_u16(), code(&answer).as_str()),
        (400, "invalid_resource")
    );
    other.accepted = Accepted::V1(Network::evm(84_532));
    assert_eq!(
        shop.send("GET", "/b", "", &other.to_json().to_string())
            .await
            .status(),
        200
    );
}

/// Other texts of a payment are the payment.
#[tokio::test]
async fn no_writing_of_a_payment_works_again() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let payment = house.payment().await.to_json();
    let text = payment.to_string();
    assert_eq!(shop.send("GET", "/a", "", &text).await.status(), 200);
    let mut lower = payment.clone();
    for member in ["from", "to"] {
        let address = &mut lower["payload"]["authorization"][member];
        *address = address.as_str().unwrap().to_lowercase().into();
    }
    lower["accepted"]["asset"] = lower["accepted"]["asset"]
        .as_str()
        .unwrap()
        .to_lowercase()
        .into();
    lower["accepted"]["other"] = "member".into();
    assert_ne!(lower, payment);
    let first = PaymentPayload::read(text.as_bytes()).unwrap();
    let v1 = PaymentPayload::new_v1(Network::evm(84_532), first.signed);
    for same in [lower, v1.to_json()] {
        let answer = shop.send("GET", "/a", "", &same.to_string()).await;
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_slice()),
            (200, &b"work 1 of "[..])
        );
    }
    let nonce = payment["payload"]["authorization"]["nonce"]
        .as_str()
        .unwrap()
        .to_owned();
    for padded in [
        format!("{nonce}00"),
        nonce.replace("0x", "0x00"),
        nonce.to_uppercase(),
    ] {
        let mut json = payment.clone();
        json["payload"]["authorization"]["nonce"] = padded.into();
        let answer = shop.send("GET", "/a", "", &json.to_string()).await;
        assert_eq!(
            (answer.status().as_u16(), code(&answer).as_str()),
            (400, "invalid_payload")
        );
    }
    // The same nonce, signed again for something else, finds the first.
    let nonce: Bytes32 = nonce.parse().unwrap();
    house.wait(1);
    let again = house.signed(payee(), nonce).await;
    assert_eq!(shop.get("/a", &again).await.status(), 409);
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
}

#[tokio::test]
async fn two_headers_with_payments_are_none() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let value = header::encode(&house.payment().await.to_json()).unwrap();
    for (first, second) in [
        (header::PAYMENT_SIGNATURE, header::PAYMENT_SIGNATURE),
        (header::PAYMENT_SIGNATURE, header::X_PAYMENT),
    ] {
        let mut request = http::Request::get(format!("{}/a", shop.url))
            .body(Vec::new())
            .unwrap();
        request.headers_mut().append(first, value.clone());
        request.headers_mut().append(second, value.clone());
        let answer = agent_pay::transport::Transport::send(&shop.direct, request)
            .await
            .unwrap();
        assert_eq!(answer.status(), 400);
    }
    // A payment of version 2 in the header of version 1.
    let mut request = http::Request::get(format!("{}/a", shop.url))
        .body(Vec::new())
        .unwrap();
    request.headers_mut().append(header::X_PAYMENT, value);
    let answer = agent_pay::transport::Transport::send(&shop.direct, request)
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(house.n_worked(), 0);
}

#[tokio::test]
async fn nobody_works_for_a_payment_that_cannot_settle() {
    for policy in POLICIES {
        let house = House::open(999).await;
        let shop = house.sells_by(policy).await;
        let payment = house.payment().await;
        let answer = shop.get("/a", &payment).await;
        assert_eq!(why(&answer), "insufficient_funds");
        assert_eq!(
            said(&answer).error_reason.as_deref(),
            Some("insufficient_funds")
        );
        assert_eq!((house.n_worked(), house.earned().await), (0, 0));
    }
}

#[tokio::test]
async fn altered_payments_are_refused_with_the_code_of_the_specification() {
    let house = House::open(100_000).await;
    let shop = house.sells(Sale::new(vec![asked()])).await;
    let payment = house.payment().await.to_json();
    let altered = |path: &[&str], value: &str| {
        let mut json = payment.clone();
        let mut at = &mut json;
        for member in path {
            at = &mut at[*member];
        }
        *at = value.into();
        json.to_string()
    };
    let authorization = |member| ["payload", "authorization", member];
    let other = "0x857b06519E91e3A54538791bDbb0E22373e36b66";
    let cases = [
        (
            altered(&["accepted", "amount"], "1"),
            "invalid_payment_requirements",
        ),
        (
            altered(&["accepted", "amount"], "2000"),
            "invalid_payment_requirements",
        ),
        (
            altered(&["accepted", "payTo"], other),
            "invalid_payment_requirements",
        ),
        (
            altered(&["accepted", "network"], "eip155:1"),
            "invalid_network",
        ),
        (
            altered(&authorization("value"), "1"),
            "invalid_exact_evm_payload_authorization_value_mismatch",
        ),
        (
            altered(&authorization("to"), other),
            "invalid_exact_evm_payload_recipient_mismatch",
        ),
        (
            altered(&authorization("from"), other),
            "invalid_exact_evm_payload_signature",
        ),
        (
            altered(&authorization("validBefore"), "1800000001"),
            "invalid_exact_evm_payload_authorization_valid_before",
        ),
        (
            altered(&authorization("validAfter"), "1800000001"),
            "invalid_exact_evm_payload_authorization_valid_after",
        ),
    ];
    for (payment, expected) in cases {
        assert_eq!(why(&shop.send("GET", "/a", "", &payment).await), expected);
    }
    assert_eq!((house.n_worked(), house.earned().await), (0, 0));
}

/// The same at the facilitator, where the requirements come from whoever asks.
#[tokio::test]
async fn a_facilitator_refuses_altered_requirements() {
    let house = House::open(100_000).await;
    let payment = house.payment().await;
    let other = "0x857b06519E91e3A54538791bDbb0E22373e36b66";
    for (member, value) in [("amount", "1"), ("amount", "2000"), ("payTo", other)] {
        let mut raw = asked().raw().clone();
        raw[member] = value.into();
        let asked = Requirements::read(raw).unwrap();
        let verdict = house
            .facilitator
            .verify(payment.clone(), asked.clone())
            .await;
        assert!(matches!(verdict, Verdict::Invalid { .. }), "{verdict:?}");
        let settlement = house.facilitator.settle(payment.clone(), asked).await;
        assert!(
            matches!(settlement, Settlement::Failed { .. }),
            "{settlement:?}"
        );
    }
    assert_eq!(house.earned().await, 0);
}

#[tokio::test]
async fn what_is_too_long_is_refused_before_anything_is_paid() {
    let house = House::open(100_000).await;
    let seller = house.seller(config().with_body_bytes_max(8)).await;
    let layer = seller.layer(Sale::new(vec![asked()])).unwrap();
    let shop = house.serve(seller, layer, Work::default()).await;
    let payment = house.payment().await.to_json().to_string();
    assert_eq!(
        shop.send("POST", "/a", "123456789", &payment)
            .await
            .status(),
        413
    );
    assert_eq!(
        shop.send("POST", "/a", "12345678", &payment).await.status(),
        200
    );
    assert_eq!((house.n_worked(), house.earned().await), (1, 1_000));
}
