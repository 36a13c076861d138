//! Hostile bytes for every parser: none panics, what is refused is refused as invalid, and what is
//! taken reads back as it was.

use agent_core::{Classify, ErrorKind};
use agent_pay::x402::{
    Address, Atomic, Bytes32, Network, PaymentPayload, PaymentRequired, Requirements,
    SettleResponse, Signature, Supported, VerifyResponse, header,
};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

/// A payment, an offer and an answer nothing is wrong with.
const GOOD: [&str; 4] = [
    r#"{"x402Version":2,"accepted":{"scheme":"exact","network":"eip155:1","amount":"1","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","maxTimeoutSeconds":60,"extra":{"name":"T","version":"1"}},"payload":{"signature":"0x2d6a7588d6acca505cbf0d9a4a227e0c52c6c34008c8e8986a1283259764173608a2ce6496642e377d6da8dbbf5836e9bd15092f9ecab05ded3d6293af148b571c","authorization":{"from":"0x857b06519E91e3A54538791bDbb0E22373e36b66","to":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","value":"1","validAfter":"0","validBefore":"9","nonce":"0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480"}}}"#,
    r#"{"x402Version":2,"resource":{"url":"u"},"accepts":[{"scheme":"exact","network":"eip155:1","amount":"1","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","maxTimeoutSeconds":60,"extra":{"name":"T","version":"1"}}]}"#,
    r#"{"x402Version":1,"accepts":[{"scheme":"exact","network":"base","maxAmountRequired":"1","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","maxTimeoutSeconds":60,"extra":{"name":"T","version":"1"}}]}"#,
    r#"{"success":true,"transaction":"0x","network":"eip155:1","isValid":true,"kinds":[]}"#,
];

/// What has broken parsers of JSON, numbers, base64 and hexadecimal digits.
const CORPUS: [&str; 40] = [
    "",
    " ",
    "\0",
    "\u{feff}",
    "é",
    "\u{1f4b8}",
    "-",
    "-1",
    "+1",
    "01",
    "00",
    "1e2",
    "1.0",
    "0x10",
    "0x",
    "0X",
    "NaN",
    "Infinity",
    "1_000",
    "340282366920938463463374607431768211456",
    "18446744073709551616",
    "null",
    "true",
    "[]",
    "{}",
    "[[]]",
    "{\"x402Version\":2}",
    "{\"x402Version\":3,\"accepts\":[]}",
    "{\"x402Version\":\"2\"}",
    "{\"x402Version\":-2}",
    "eip155:",
    ":1",
    "eip155:01",
    "eip155:18446744073709551616",
    "EIP155:1",
    "eip155:1:1",
    "AA==",
    "AA=",
    "AB==",
    "e30",
];

fn invalid<T>(outcome: agent_pay::Result<T>, text: &str) -> Option<T> {
    outcome
        .map_err(|error| assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}"))
        .ok()
}

/// Gives a text to every parser.
fn feed(text: &str) {
    if let Some(amount) = invalid(text.parse::<Atomic>(), text) {
        assert_eq!(amount.to_string(), text);
    }
    if let Some(network) = invalid(text.parse::<Network>(), text) {
        assert_eq!(network.to_string(), text);
    }
    if let Some(address) = invalid(text.parse::<Address>(), text) {
        assert_eq!(address.to_string().to_lowercase(), text.to_lowercase());
    }
    if let Some(bytes) = invalid(text.parse::<Bytes32>(), text) {
        assert_eq!(bytes.to_string(), text.to_lowercase());
    }
    if let Some(signature) = invalid(text.parse::<Signature>(), text) {
        assert_eq!(String::from(signature), text.to_lowercase());
    }
    let _network = invalid(Network::from_v1(text), text);
    if let Some(payment) = invalid(PaymentPayload::read(text.as_bytes()), text) {
        let written = payment.to_json().to_string();
        assert_eq!(
            PaymentPayload::read(written.as_bytes()).unwrap().to_json(),
            payment.to_json()
        );
    }
    if let Some(required) = invalid(PaymentRequired::read(text.as_bytes()), text) {
        let _written = (required.to_v1(), required.to_v2());
    }
    let _settled = invalid(SettleResponse::read(text.as_bytes()), text);
    let _verified = invalid(VerifyResponse::read(text.as_bytes()), text);
    let _supported = invalid(Supported::read(text.as_bytes()), text);
    if let Ok(raw) = serde_json::from_str::<serde_json::Value>(text) {
        let _v2 = invalid(Requirements::read(raw.clone()), text);
        let _v1 = invalid(Requirements::read_v1(raw), text);
    }
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes())
        && let Some(bytes) = invalid(header::decode(&value), text)
    {
        let _payment = PaymentPayload::read(&bytes);
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&bytes) {
            let _again = header::encode(&json).unwrap();
        }
    }
}

#[test]
fn the_corpus_breaks_no_parser() {
    for good in GOOD {
        feed(good);
    }
    for text in CORPUS {
        feed(text);
        let quoted = serde_json::Value::from(text).to_string();
        // In the place of every value of every message, as itself and as a string.
        for good in GOOD {
            for (at, _colon) in good.match_indices(':') {
                let (before, after) = good.split_at(at + 1);
                let end = after.find([',', '}']).unwrap_or(after.len());
                let (_value, rest) = after.split_at(end);
                feed(&format!("{before}{quoted}{rest}"));
                feed(&format!("{before}{text}{rest}"));
            }
        }
    }
    for depth in [10, 1_000, 100_000] {
        feed(&"[".repeat(depth));
        feed(&"{\"accepts\":".repeat(depth));
        feed(&"0".repeat(depth));
        feed(&format!(
            "{{\"x402Version\":2,\"accepts\":[{}0]}}",
            "0,".repeat(depth)
        ));
        feed(&format!("eip155:{}", "1".repeat(depth)));
        feed(&"A".repeat(depth * 4));
    }
}

#[test]
fn sizes_have_limits() {
    let long = "A".repeat(header::HEADER_BYTES_MAX + 4);
    assert!(header::decode(&HeaderValue::from_str(&long).unwrap()).is_err());
    assert!(header::encode(&serde_json::Value::from(long.as_str())).is_err());
    let padded = format!("{}{}", GOOD[1], " ".repeat(65_536));
    assert!(PaymentRequired::read(padded.as_bytes()).is_err());
    let many = format!(
        r#"{{"x402Version":2,"resource":{{"url":"u"}},"accepts":[{}null]}}"#,
        "null,".repeat(PaymentRequired::ACCEPTS_MAX)
    );
    assert!(PaymentRequired::read(many.as_bytes()).is_err());
    let mut headers = HeaderMap::new();
    headers.append(header::PAYMENT_SIGNATURE, HeaderValue::from_static("e30="));
    assert!(
        header::only(&headers, &header::PAYMENT_SIGNATURE)
            .unwrap()
            .is_some()
    );
    headers.append(header::PAYMENT_SIGNATURE, HeaderValue::from_static("e30="));
    assert!(
        header::only(&headers, &header::PAYMENT_SIGNATURE).is_err(),
        "there twice"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..<_>::default() })]

    #[test]
    fn random_text_breaks_no_parser(text in any::<String>()) {
        feed(&text);
    }

    #[test]
    fn changed_messages_break_no_parser(
        which in 0..GOOD.len(), at in 0..900_usize, put in "[\\PC\n]{0,6}", cut in 0..12_usize,
    ) {
        let mut chars: Vec<char> = GOOD[which].chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, put.chars());
        feed(&chars.into_iter().collect::<String>());
    }
}
