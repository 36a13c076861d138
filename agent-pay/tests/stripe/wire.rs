//! What goes to Stripe and what comes from it: amounts, tokens, meters, signatures, hostile bytes.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{money, op};
use crate::fake_stripe::{FakeStripe, Faults};
use agent_core::{Asset, Classify, Env, ErrorKind, ManualClock, Secret, SeededEntropy, Timestamp};
use agent_pay::stripe::{
    CallError, Capture, ChargeToken, CustomerId, IntentId, IntentStatus, MethodId, Money,
    NewIntent, SharedTokenId, Source, Stripe, StripeConfig, Webhooks,
};
use agent_pay::transport::{Answer, Lost, Refuses as _, Request, Transport};
use proptest::prelude::*;

pub(crate) fn client(transport: Arc<dyn Transport>) -> Stripe {
    let config = StripeConfig::new(Secret::from("rk_test_hushhush"));
    Stripe::new(config, transport).unwrap()
}

fn source() -> Source {
    Source::stored(MethodId::new("pm_card").unwrap(), None)
}

#[test]
fn money_is_exact_in_every_scale_or_refused() {
    let good = [
        ("19.99 USD", 1_999, "usd"),
        ("1.15 EUR", 115, "eur"),
        ("4.35 USD/2", 435, "usd"),
        ("0.01 USD/9", 1, "usd"),
        ("500 JPY", 500, "jpy"),
        ("500 JPY/0", 500, "jpy"),
        ("7 MGA", 7, "mga"),
        ("1.230 KWD", 1_230, "kwd"),
        ("5 ISK", 500, "isk"),
        ("5 UGX/0", 500, "ugx"),
        ("10.45 HUF", 1_045, "huf"),
    ];
    for (text, minor, currency) in good {
        let amount = money(text);
        let sent = Money::new(amount).unwrap();
        assert_eq!((sent.minor(), sent.currency()), (minor, currency), "{text}");
        let read = Money::read(minor, currency, amount.asset()).unwrap();
        assert_eq!(read, amount, "{text}");
    }
    let bad = [
        "0.001 USD",
        "0.5 JPY",
        "1.234 KWD",
        "5.50 ISK",
        "0 USD",
        "-1 USD",
        "1 USDC",
        "1 XXX",
        "9999999999999 USD",
    ];
    for text in bad {
        let refused = Money::new(money(text)).err();
        assert_eq!(
            refused.map(|e| e.kind()),
            Some(ErrorKind::Invalid),
            "{text}"
        );
    }
    // A cent does not fit an asset that keeps whole units, and currencies are not mixed.
    assert!(Money::read(150, "usd", "USD/0".parse().unwrap()).is_err());
    assert!(Money::read(1, "eur", Asset::USD).is_err());
    assert!(Money::read(-1, "usd", Asset::USD).is_err());
}

proptest! {
    #[test]
    fn what_is_sent_reads_back_the_same(units in 1_i64..10_000_000_000, scale in 0_u8..=9) {
        for code in ["USD", "JPY", "KWD", "ISK", "MGA"] {
            let asset = Asset::new(code, scale).unwrap();
            let amount = agent_core::Amount::from_units(i128::from(units), asset);
            if let Ok(sent) = Money::new(amount) {
                prop_assert_eq!(Money::read(sent.minor(), sent.currency(), asset).unwrap(), amount);
            }
        }
    }
}

/// Numbers of test cards, as text, as tokens, and with what people put between the digits.
#[test]
fn the_number_of_a_card_is_refused_before_it_leaves_and_not_repeated() {
    let cards = [
        "4242424242424242",
        "5555 5555 5555 4444",
        "3782-822463-10005",
        "4000000000003220",
    ];
    for card in cards {
        for text in [
            card.to_owned(),
            format!("pm_{card}"),
            format!("spt_{card}"),
            format!("tok_{card}"),
        ] {
            let errors = [
                MethodId::new(&*text).err(),
                SharedTokenId::new(&*text).err(),
                ChargeToken::new(&*text).err(),
                CustomerId::new(&*text).err(),
            ];
            for error in errors {
                let error = error.unwrap();
                assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
                assert!(!format!("{error:?} {error}").contains(card));
            }
        }
    }
    for good in [
        "pm_1RgaZbFPC5QUO6ZCe2ekOCNX",
        "pm_card_visa",
        "src_1A2b3C4d5E6f7G",
    ] {
        assert!(MethodId::new(good).is_ok(), "{good}");
    }
    for bad in [
        "pm_",
        "pm_a/../b",
        "pm_a?b=c",
        "pm_a&amount=1",
        "pm_ä",
        "cus_1",
        "",
    ] {
        assert!(MethodId::new(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn no_secret_is_in_debug_or_in_an_error() {
    let fake = FakeStripe::new(Faults::default(), 1);
    let client = client(fake);
    let token = SharedTokenId::new("spt_Hush1").unwrap();
    let new = NewIntent::new(
        Money::new(money("1 USD")).unwrap(),
        Source::shared(token.clone()),
    );
    let hooks = Webhooks::new(Secret::from("whsec_hushhush"), &Env::system());
    let refused = client.create(&op("k"), &new).await.err().unwrap();
    let shown = format!("{client:?} {new:?} {hooks:?} {token:?} {refused:?} {refused}");
    assert!(
        !shown.contains("hushhush") && !shown.contains("Hush1"),
        "{shown}"
    );
    for bad in ["", "pk_test_1", "sk_test_1\r\nx: y", "token"] {
        let config = StripeConfig::new(Secret::from(bad));
        let error = Stripe::new(config, FakeStripe::new(Faults::default(), 1)).err();
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Invalid), "{bad}");
    }
}

#[tokio::test]
async fn at_most_what_was_authorized_is_captured() {
    let fake = FakeStripe::new(Faults::default(), 1);
    let client = client(Arc::<FakeStripe>::clone(&fake));
    let dollars = |text: &str| Money::new(money(text)).unwrap();
    let new = NewIntent::new(dollars("10.00 USD"), source()).with_capture(Capture::Manual);
    let made = client.create(&op("c"), &new).await.unwrap();
    let id = made.name().unwrap();
    let held = client.confirm(&op("f"), &id, false).await.unwrap();
    assert_eq!(
        (held.status, fake.moved()),
        (IntentStatus::RequiresCapture, 0)
    );
    let n_seen = fake.seen().len();
    for too_much in ["10.01 USD", "1.00 EUR"] {
        let refused = client
            .capture(&op("x"), &held, &dollars(too_much))
            .await
            .err();
        assert!(
            matches!(refused, Some(CallError::Invalid(_))),
            "{refused:?}"
        );
    }
    assert_eq!(fake.seen().len(), n_seen);
    let taken = client
        .capture(&op("x"), &held, &dollars("7.50 USD"))
        .await
        .unwrap();
    assert_eq!(
        (taken.status, taken.received()),
        (IntentStatus::Succeeded, 750)
    );
    assert!(client.cancel(&op("y"), &id).await.is_err());
    assert_eq!(fake.moved(), 750);
}

#[derive(Debug)]
pub(crate) struct Says(pub(crate) u16, pub(crate) Vec<u8>);

#[async_trait::async_trait]
impl Transport for Says {
    async fn send(&self, _request: Request) -> Result<Answer, Lost> {
        let answer = http::Response::builder()
            .status(self.0)
            .body(self.1.clone());
        answer.map_err(Lost::may_have_arrived)
    }
}

#[tokio::test]
async fn hostile_answers_are_errors_that_say_what_is_known() {
    let texts: [&[u8]; 12] = [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"{\"id\":1}",
        b"{\"error\":null}",
        b"{\"error\":\"x\"}",
        b"{\"error\":{\"type\":null,\"code\":7}}",
        b"{\"id\":\"pi_1a\",\"amount\":1e99,\"currency\":\"usd\",\"status\":\"x\"}",
        b"{\"id\":\"pi_../x\",\"status\":\"succeeded\",\"amount\":1,\"currency\":\"usd\"}",
        b"<html>",
    ];
    let deep = "[".repeat(100_000).into_bytes();
    let id = IntentId::new("pi_1a").unwrap();
    for text in texts.into_iter().chain([deep.as_slice()]) {
        for status in [200, 301, 400, 401, 402, 404, 409, 429, 500, 503] {
            let client = client(Arc::new(Says(status, text.to_vec())));
            match client.intent(&id).await {
                Ok(read) => assert!(status == 200 && read.name().is_err()),
                Err(CallError::Refused(refusal)) => {
                    assert_eq!(refusal.status, status);
                    assert!(!refusal.reason().is_empty());
                }
                Err(CallError::Busy { .. }) => assert!([409, 429].contains(&status)),
                Err(CallError::Unknown { .. }) => assert!(!(400..500).contains(&status)),
                Err(other) => assert!(other.is_refusal(), "{status} {other:?}"),
            }
        }
    }
}

fn hooks(secret: &str, clock: &Arc<ManualClock>) -> Webhooks {
    let env = Env::new(
        Arc::<ManualClock>::clone(clock),
        Arc::new(SeededEntropy::new(1)),
    );
    Webhooks::new(Secret::from(secret), &env)
}

#[test]
fn a_signature_counts_for_its_body_secret_and_time() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_600_000_000_000)));
    let hooks_a = hooks("whsec_a", &clock);
    let body = br#"{"id":"evt_1","type":"x","data":{"object":{}}}"#;
    let good = hooks_a.sign(body);
    assert_eq!(hooks_a.verify(&good, body).unwrap().id, "evt_1");
    let is_denied = |hooks: &Webhooks, header: &str, body: &[u8]| {
        hooks
            .verify(header, body)
            .is_err_and(|e| e.kind() == ErrorKind::Denied)
    };
    // Another body, another secret, and the other secret beside it while it is rotated.
    assert!(is_denied(&hooks_a, &good, b"{}"));
    let hooks_b = hooks("whsec_b", &clock);
    assert!(is_denied(&hooks_b, &good, body));
    assert!(
        hooks_b
            .with_secret(Secret::from("whsec_a"))
            .verify(&good, body)
            .is_ok()
    );
    let tag = good.split("v1=").nth(1).unwrap();
    let zeros = "0".repeat(64);
    let taken = [
        format!("t=1600000000,v1={zeros},v1={tag}"),
        format!("v1={tag},t=1600000000,v0=abc"),
        format!("t=1600000000, v1={tag}"),
    ];
    for header in &taken {
        assert!(hooks_a.verify(header, body).is_ok(), "{header}");
    }
    let refused = [
        String::new(),
        tag.to_owned(),
        format!("v1={tag}"),
        "t=1600000000".to_owned(),
        format!("t=1600000000,v0={tag}"),
        format!("t=1600000001,v1={tag}"),
        format!("t=1600000000,t=1600000000,v1={tag}"),
        format!("t=-1,v1={tag}"),
        format!("t=+1600000000,v1={tag}"),
        format!("t=99999999999999999999,v1={tag}"),
        format!("t=1600000000,v1={}", tag.replace(char::is_numeric, "g")),
        format!("t=1600000000,v1={tag}00"),
        format!("t=1600000000,{}v1={tag}", format!("v1={zeros},").repeat(60)),
        format!("t=1600000000,v1={tag}\u{202e}"),
    ];
    for header in &refused {
        assert!(is_denied(&hooks_a, header, body), "{header}");
    }
    // Five minutes either way, by the clock that is given.
    clock.advance(Duration::from_secs(300));
    assert!(hooks_a.verify(&good, body).is_ok());
    clock.advance(Duration::from_secs(1));
    assert!(is_denied(&hooks_a, &good, body));
    let early = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_599_999_699_000)));
    assert!(is_denied(&hooks("whsec_a", &early), &good, body));
    let long = vec![b' '; Webhooks::BODY_BYTES_MAX + 1];
    assert!(hooks_a.verify(&hooks_a.sign(&long), &long).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..<_>::default() })]

    #[test]
    fn no_header_and_no_body_breaks_the_verifier(header in "\\PC{0,80}", body in any::<Vec<u8>>()) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1)));
        let hooks = hooks("whsec_a", &clock);
        prop_assert!(hooks.verify(&header, &body).is_err());
        let timed = format!("t=0,v1={header}");
        prop_assert!(hooks.verify(&timed, &body).is_err());
        // Signed nonsense is no event either.
        let signed = hooks.sign(&body);
        if let Ok(event) = hooks.verify(&signed, &body) {
            prop_assert!(body.len() > event.id.len());
        }
    }
}
