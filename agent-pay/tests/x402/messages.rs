//! Messages of both versions as the specification has them.

use agent_pay::x402::{
    Network, PaymentPayload, PaymentRequired, Requirements, ResourceInfo, SettleResponse, Signed,
    Supported, Version, check, header,
};

use crate::wire::{THEN, specified};

#[test]
fn what_is_accepted_is_echoed_whole() {
    let mut raw = specified().1.raw().clone();
    raw["extra"]["later"] = serde_json::json!({ "a": [1, 2.5] });
    raw["unknown"] = "member".into();
    let asked = Requirements::read(raw.clone()).unwrap();
    let payment = PaymentPayload::new(asked, specified().0.signed);
    assert_eq!(payment.to_json()["accepted"], raw);
    let written = header::encode(&payment.to_json()).unwrap();
    let read = PaymentPayload::read(&header::decode(&written).unwrap()).unwrap();
    assert_eq!(read.to_json(), payment.to_json());
}

/// The 402 and the payment of version 1 (`transports-v1/http.md`).
#[test]
fn version_1_is_read_and_written() {
    let body = r#"{"x402Version":1,"error":"Payment required to access this resource","accepts":[
        {"scheme":"exact","network":"base-sepolia","maxAmountRequired":"10000",
        "asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo":"0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "resource":"https://api.example.com/premium-data","description":"Access to premium market data",
        "mimeType":"application/json","outputSchema":null,"maxTimeoutSeconds":60,
        "extra":{"name":"USDC","version":"2"}}]}"#;
    let required = PaymentRequired::read(body.as_bytes()).unwrap();
    assert_eq!(required.version, Version::V1);
    let (payment, asked) = specified();
    assert_eq!(required.accepts, std::slice::from_ref(&asked));
    let paid = PaymentPayload::new_v1(Network::evm(84_532), payment.signed.clone());
    let json = paid.to_json();
    assert_eq!(json["network"], "base-sepolia");
    let read = PaymentPayload::read(json.to_string().as_bytes()).unwrap();
    assert_eq!(read, paid);
    let named = |version: &PaymentPayload| check(version, &asked, THEN).unwrap().unwrap();
    assert_eq!(
        named(&read),
        named(&payment),
        "one payment in both versions"
    );

    let mut resource = ResourceInfo::new("https://api.example.com/premium-data");
    resource.description = Some("Access to premium market data".to_owned());
    resource.mime_type = Some("application/json".to_owned());
    let mut offered = PaymentRequired::new(resource, vec![asked]);
    offered.error.clone_from(&required.error);
    let written: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(offered.to_v1(), written);
    let again = PaymentRequired::read(offered.to_v2().to_string().as_bytes()).unwrap();
    assert_eq!(again, offered);
}

#[test]
fn ways_to_pay_that_are_not_known_are_passed_over() {
    let asked = specified().1;
    let others = [
        r#"{"scheme":"exact","network":"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp","amount":"1","asset":"E","payTo":"P","maxTimeoutSeconds":60}"#.to_owned(),
        asked.raw().to_string().replace("exact", "upto"),
        asked.raw().to_string().replace("\"name\"", "\"assetTransferMethod\":\"permit2\",\"name\""),
        asked.raw().to_string().replace("\"10000\"", "\"1e4\""),
        asked.raw().to_string().replace("60", "0"),
        asked.raw().to_string().replace("60", "60.5"),
        "null".to_owned(),
    ];
    let text = format!(
        r#"{{"x402Version":2,"resource":{{"url":"u"}},"accepts":[{},{}]}}"#,
        others.join(","),
        asked.raw()
    );
    let required = PaymentRequired::read(text.as_bytes()).unwrap();
    assert_eq!(
        (required.accepts.as_slice(), required.n_others),
        ([asked].as_slice(), 7)
    );
}

/// The answers of a facilitator in sections 7.1 to 7.3 of the specification.
#[test]
fn answers_of_facilitators_are_read() {
    let settled = SettleResponse::read(
        br#"{"success":true,"payer":"0x857b06519E91e3A54538791bDbb0E22373e36b66",
        "transaction":"0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef",
        "network":"eip155:84532"}"#,
    );
    assert!(settled.unwrap().success);
    let failed = SettleResponse::read(
        br#"{"success":false,"errorReason":"insufficient_funds","transaction":"","network":"eip155:84532"}"#,
    );
    assert_eq!(
        failed.unwrap().error_reason.as_deref(),
        Some("insufficient_funds")
    );
    let supported = Supported::read(
        br#"{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:84532"}],"extensions":[],
        "signers":{"eip155:*":["0x1234567890abcdef1234567890abcdef12345678"]}}"#,
    );
    assert_eq!(supported.unwrap().kinds.len(), 1);
    let signed = Signed::new(
        specified().0.signed.authorization,
        specified().0.signed.signature,
    );
    assert_eq!(signed, specified().0.signed);
}
