//! The wire: what the official library writes, what hostile peers write, and JSON-RPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::{Amount, Asset, Classify, ErrorKind, SecretBytes};
use agent_pay::mpp::{
    AcceptPayment, Challenge, Credential, Offer, OfferKey, PaymentRequest, Problem, ProblemDetails,
    Receipt, rpc,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::money;
use crate::market::{Market, pay};
use crate::seller::manual;

/// Challenges mppx 0.11.0 made for one request with the secret `0123456789abcdef` twice, without
/// optional slots, with an expiry, and with all of them.
const OFFICIAL: [&str; 3] = [
    r#"Payment id="YxTR8w1YyvsATCfb0P9MqJOucI0XCErPnIWdmCP2bWg", realm="api.example.com", method="ledger", intent="charge", request="eyJhbW91bnQiOiIxNTAiLCJjdXJyZW5jeSI6InVzZCIsIm1ldGhvZERldGFpbHMiOnsiZGVjaW1hbHMiOjZ9LCJyZWNpcGllbnQiOiJhY2N0X2IifQ""#,
    r#"Payment id="WY706gZ2s7_LHaOztzyBI1IO7rJCitY4nPL6txwe9oA", realm="api.example.com", method="ledger", intent="charge", request="eyJhbW91bnQiOiIxNTAiLCJjdXJyZW5jeSI6InVzZCIsIm1ldGhvZERldGFpbHMiOnsiZGVjaW1hbHMiOjZ9LCJyZWNpcGllbnQiOiJhY2N0X2IifQ", expires="2026-12-01T12:00:00.000Z""#,
    r#"Payment id="-NBnlnzvVfZQTvRlnm8Mh5YOQKGGOF7HvRO0pm3Gkfs", realm="api.example.com", method="ledger", intent="charge", request="eyJhbW91bnQiOiIxNTAiLCJjdXJyZW5jeSI6InVzZCIsIm1ldGhvZERldGFpbHMiOnsiZGVjaW1hbHMiOjZ9LCJyZWNpcGllbnQiOiJhY2N0X2IifQ", digest="sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", expires="2026-12-01T12:00:00.000Z", opaque="eyJmb3IiOiJhYmMifQ""#,
];

fn official_key() -> OfferKey {
    let secret = b"0123456789abcdef0123456789abcdef".to_vec();
    OfferKey::new(SecretBytes::new(Box::new(secret))).unwrap()
}

fn read(field: &str) -> Challenge {
    Challenge::parse_all(field).unwrap().remove(0)
}

#[test]
fn ids_are_those_of_the_official_library_and_cover_every_slot() {
    let request = PaymentRequest::charge(Amount::from_units(150, Asset::USD), "acct_b");
    for field in OFFICIAL {
        let challenge = read(field);
        assert_eq!(challenge.request, request.encode().unwrap());
        assert!(official_key().knows(&challenge));
        let bound = official_key().bind(challenge.clone()).unwrap();
        assert_eq!(bound, challenge);
        assert_eq!(read(&challenge.to_field().unwrap()), challenge);
        let other = |change: fn(&mut Challenge)| {
            let mut changed = challenge.clone();
            change(&mut changed);
            assert!(!official_key().knows(&changed), "{changed:?}");
        };
        other(|c| c.realm.push('x'));
        other(|c| c.method.push('x'));
        other(|c| c.intent.push('x'));
        other(|c| c.request.push('A'));
        other(|c| c.expires = Some("2026-12-01T12:00:01.000Z".to_owned()));
        other(|c| c.digest = Some("sha-256=:AA==:".to_owned()));
        other(|c| c.opaque = Some("e30".to_owned()));
        other(|c| c.id = c.id.to_uppercase());
        other(|c| c.id.clear());
    }
    let mut split = read(OFFICIAL[0]);
    split.realm = "a|b".to_owned();
    assert!(official_key().bind(split).is_err());
    assert_eq!(format!("{:?}", official_key()), "OfferKey { .. }");
}

#[test]
fn challenges_are_found_among_other_schemes_and_quotes_are_read() {
    let field = format!(
        r#"Basic realm="a, Payment b", Negotiate YII=, {}, payment ID=x,realm="\"q\\",method=m , intent=i,request=r, description="50%, really", Bearer"#,
        OFFICIAL[1]
    );
    let found = Challenge::parse_all(&field).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], read(OFFICIAL[1]));
    assert_eq!(
        (found[1].id.as_str(), found[1].realm.as_str()),
        ("x", "\"q\\")
    );
    assert_eq!(found[1].description.as_deref(), Some("50%, really"));
    // Without an id, or with an empty one, it is no challenge.
    for field in [
        r#"Payment realm="a", method=m, intent=i, request=r"#,
        r#"Payment id="", realm=a, method=m, intent=i, request=r"#,
    ] {
        assert!(Challenge::parse_all(field).unwrap().is_empty());
    }
    for field in [
        "Payment id=a, id=b",
        "Payment id=\"a",
        "id=a",
        "Payment id=\"\\",
        "=",
        "Payment a=@",
    ] {
        let error = Challenge::parse_all(field).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}");
    }
    let mut unprintable = read(OFFICIAL[0]);
    unprintable.description = Some("a\r\nSet-Cookie: b".to_owned());
    assert!(unprintable.to_field().is_err());
}

#[test]
fn amounts_are_whole_numbers_of_a_stated_unit() {
    let encode = |request: Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(request.to_string())
    };
    let request = |amount: Value, details: Value| json!({ "amount": amount, "currency": "usd", "recipient": "r", "methodDetails": details });
    let six = json!({ "decimals": 6 });
    let read = PaymentRequest::decode(&encode(request(json!("1500000"), six.clone()))).unwrap();
    assert_eq!(read.amount, money("1.50 USD"));
    let refused = [
        request(json!(150), six.clone()),
        request(json!(1.5), six.clone()),
        request(json!("1.5"), six.clone()),
        request(json!("1e3"), six.clone()),
        request(json!("-1"), six.clone()),
        request(json!("+1"), six.clone()),
        request(json!("01"), six.clone()),
        request(json!(""), six.clone()),
        request(json!("9223372036854775808"), six),
        request(json!("1"), json!({})),
        request(json!("1"), json!({ "decimals": 10 })),
        request(json!("1"), json!({ "decimals": "6" })),
        json!({ "amount": "1", "currency": "usd", "recipient": "r" }),
    ];
    for request in refused {
        assert!(
            PaymentRequest::decode(&encode(request.clone())).is_err(),
            "{request}"
        );
    }
}

#[test]
fn what_pays_is_not_shown() {
    let challenge = read(OFFICIAL[0]);
    let credential = pay(&challenge, "agent_buyer");
    let token = credential.payload["statement"].as_str().unwrap();
    assert!(!format!("{credential:?}").contains(token));
    let field = credential.to_field().unwrap();
    assert_eq!(Credential::parse(&field).unwrap().unwrap(), credential);
    let broken = field.replace("Payment ", "Payment x");
    let error = Credential::parse(&broken).unwrap_err().to_string();
    assert!(!error.contains(token), "{error}");
    assert!(Credential::parse("Bearer abc").unwrap().is_none());
}

/// Texts that have broken parsers of fields, base64url, JSON and moments.
const CORPUS: [&str; 34] = [
    "",
    " ",
    "\0",
    "\u{feff}",
    "é",
    "Payment",
    "Payment ",
    "Payment =",
    "Payment ,,,,",
    "Payment a",
    "Payment id",
    "Payment id=",
    "Payment id==",
    "Payment id=\"",
    "Payment id=\"\\",
    "Payment \"",
    "Payment id=\"a\" realm=\"b\"",
    "Payment id=a;realm=b",
    "Payment e30",
    "Payment e30=",
    "Payment W10",
    "Payment bnVsbA",
    "Payment eyJjaGFsbGVuZ2UiOnt9LCJwYXlsb2FkIjp7fX0",
    "e30",
    "bnVsbA",
    "Zm9v",
    "Zh",
    "tempo/charge;q=1.0000",
    "*/*;q=2",
    "/",
    "a/b;q=",
    "*",
    "9999-99-99T99:99:99Z",
    "2026-02-29T00:00:00+99:99",
];

fn feed(text: &str) {
    for challenge in Challenge::parse_all(text).unwrap_or_default() {
        let _moment = challenge.expires_at();
        let _request = PaymentRequest::decode(&challenge.request);
        assert!(!official_key().knows(&challenge));
        if let Ok(field) = challenge.to_field() {
            assert_eq!(read(&field), challenge);
        }
    }
    for text in [text.to_owned(), format!("Payment {text}")] {
        if let Ok(Some(credential)) = Credential::parse(&text) {
            let field = credential.to_field().unwrap();
            assert_eq!(Credential::parse(&field).unwrap().unwrap(), credential);
        }
    }
    let _receipt = Receipt::parse(text);
    let _request = PaymentRequest::decode(text);
    let _accepted = AcceptPayment::parse(text);
    let _problem: Result<ProblemDetails, _> = serde_json::from_str(text);
    let mut challenge = read(OFFICIAL[0]);
    challenge.expires = Some(text.to_owned());
    if let Ok(Some(at)) = challenge.expires_at() {
        challenge.expires = Some(at.to_string());
        assert_eq!(challenge.expires_at().unwrap(), Some(at));
    }
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        let _credential = rpc::credential(&json);
        let _challenges = rpc::challenges(&json);
        let _receipt = rpc::receipt(&json);
    }
}

#[test]
fn hostile_bytes_break_no_parser() {
    for text in CORPUS {
        feed(text);
        for other in CORPUS {
            feed(&format!("{text},{other}"));
        }
    }
    feed(&"Payment ".repeat(10_000));
    feed(&"a=b,".repeat(10_000));
    feed(&format!("Payment {}", "A".repeat(100_000)));
    feed(&format!("Payment id=\"{}\"", "\\\\".repeat(8_000)));
    feed(&"[".repeat(50_000));
    for field in OFFICIAL {
        for end in 0..field.len() {
            feed(&field[..end]);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_break_no_parser(text in "\\PC{0,60}", params in "[ -~]{0,80}") {
        feed(&text);
        feed(&format!("Payment {params}"));
    }

    #[test]
    fn moments_are_read_as_they_are_written(ms in -62_135_596_800_000_i64..253_402_300_799_999) {
        let mut challenge = read(OFFICIAL[0]);
        let at = agent_core::Timestamp::from_unix_ms(ms);
        challenge.expires = Some(at.to_string());
        prop_assert_eq!(challenge.expires_at().unwrap(), Some(at));
    }
}

#[test]
fn moments_of_every_zone_are_read() {
    let moment = |text: &str| {
        let mut challenge = read(OFFICIAL[0]);
        challenge.expires = Some(text.to_owned());
        challenge
            .expires_at()
            .ok()
            .flatten()
            .map(|at| at.to_string())
    };
    let noon = Some("2026-11-25T12:00:00.000Z".to_owned());
    for text in [
        "2026-11-25T12:00:00Z",
        "2026-11-25t13:30:00+01:30",
        "2026-11-25 11:00:00.0009-01:00",
    ] {
        assert_eq!(moment(text), noon, "{text}");
    }
    for text in [
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-11-25T24:00:00Z",
        "2026-11-25T12:00Z",
        "2026-11-25T12:00:00",
        "2026-11-25T12:00:00.Z",
        "26-11-25T12:00:00Z",
        "2026-11-25T12:00:00+1:00",
    ] {
        assert_eq!(moment(text), None, "{text}");
    }
}

#[test]
fn every_problem_has_its_uri() {
    for code in [
        "payment-required",
        "invalid-challenge",
        "session/channel-not-found",
    ] {
        let problem = Problem::from_code(code).unwrap();
        let written = serde_json::to_value(problem.details("why")).unwrap();
        assert_eq!(
            written["type"],
            format!("https://paymentauth.org/problems/{code}")
        );
        assert_eq!(written.get("final"), None);
        let read: ProblemDetails = serde_json::from_value(written).unwrap();
        assert_eq!(read.problem(), Some(problem));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_call_is_paid_for_in_its_meta_and_runs_once() {
    let market = Arc::new(Market::open(manual().1).await);
    let n_runs = Arc::new(AtomicUsize::new(0));
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "brew", "arguments": { "cups": 2 } } });
    let serve = async |request: Value| {
        let sale = rpc::sale(&request, vec![Offer::Charge(money("0.10 USD"))]).unwrap();
        let runs = Arc::clone(&n_runs);
        rpc::serve(&market.server, &request, &sale, async move |buyer| {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(json!({ "content": [{ "type": "text", "text": buyer.as_str() }] }))
        })
        .await
        .unwrap()
    };
    let asked = serve(call.clone()).await;
    assert_eq!(asked["error"]["code"], -32_042);
    assert_eq!(asked["error"]["data"]["httpStatus"], 402);
    let offers = rpc::challenges(&asked["error"]).unwrap().unwrap();
    assert_eq!(
        asked["error"]["data"]["challenges"][0]["request"]["amount"],
        "100000"
    );
    let mut paying = call.clone();
    rpc::attach_credential(&mut paying["params"], &pay(&offers[0], "agent_buyer")).unwrap();
    let mut copies = JoinSet::new();
    for _ in 0..100 {
        let (paying, market, runs) = (paying.clone(), Arc::clone(&market), Arc::clone(&n_runs));
        copies.spawn(async move {
            let sale = rpc::sale(&paying, vec![Offer::Charge(money("0.10 USD"))]).unwrap();
            let handler = async move |_buyer: &agent_core::Principal| {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(json!({ "content": [] }))
            };
            rpc::serve(&market.server, &paying, &sale, handler)
                .await
                .unwrap()
        });
    }
    let answers = copies.join_all().await;
    assert_eq!(n_runs.load(Ordering::SeqCst), 1);
    let is_known =
        |answer: &Value| answer.get("result").is_some() || answer["error"]["code"] == -32_603;
    assert!(answers.iter().all(is_known));
    let later = serve(paying.clone()).await;
    let receipt = rpc::receipt(&later).unwrap().unwrap();
    assert_eq!(receipt.challenge_id.as_deref(), Some(&*offers[0].id));
    // Other arguments, a credential nobody can read, and a root-level `_meta`.
    let mut other = paying.clone();
    other["params"]["arguments"]["cups"] = json!(3);
    assert_eq!(serve(other).await["error"]["code"], -32_043);
    let mut broken = paying.clone();
    broken["params"]["_meta"]["org.paymentauth/credential"] = json!("x");
    assert_eq!(serve(broken).await["error"]["code"], -32_602);
    let mut at_root = call;
    at_root["_meta"] = paying["params"]["_meta"].clone();
    assert!(serve(at_root).await.get("result").is_some());
    assert_eq!(n_runs.load(Ordering::SeqCst), 1);
    assert_eq!(
        rpc::capability()["methods"]["ledger"]["intents"][0],
        "charge"
    );
    Arc::into_inner(market).unwrap().close().await;
}
