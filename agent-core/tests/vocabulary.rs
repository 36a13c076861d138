//! The values every layer shares: their texts, bounds and arithmetic.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests await the tasks they spawn"
)]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentId, Amount, Asset, Clock, ClockExt, Digest, Effect, EffectClass, EntropyExt, Env, Error,
    ErrorKind, Fence, IdempotencyKey, ManualClock, OsEntropy, Principal, Retry, RunId, Scope,
    SeededEntropy, SystemClock, TaskId, Timestamp, Unit, Usage, canonical_json,
};
use agent_core::{Classify, Failure};
use proptest::prelude::*;
use serde_json::{Value, json};

fn seeded(seed: u64) -> (Arc<ManualClock>, Env) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_000)));
    let env = Env::new(
        Arc::<ManualClock>::clone(&clock),
        Arc::new(SeededEntropy::new(seed)),
    );
    (clock, env)
}

fn asset() -> impl Strategy<Value = Asset> {
    ("[A-Z][A-Z0-9-]{0,11}", 0..=Asset::SCALE_MAX)
        .prop_map(|(code, scale)| Asset::new(&code, scale).unwrap())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53) + 1..1_i64 << 53).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn an_amounts_text_is_read_back(units in any::<i128>(), asset in asset()) {
        let amount = Amount::from_units(units, asset);
        prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        let json = serde_json::to_string(&amount).unwrap();
        prop_assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
        prop_assert_eq!(asset.to_string().parse::<Asset>().unwrap(), asset);
    }

    #[test]
    fn hostile_texts_are_refused_without_panics(text in ".{0,40}") {
        let _ = text.parse::<Amount>();
        let _ = text.parse::<Asset>();
        let _ = text.parse::<AgentId>();
        let _ = text.parse::<Digest>();
        prop_assert!(Principal::new(&text).is_err() || !text.contains(char::is_whitespace));
    }

    #[test]
    fn an_ids_text_is_read_back_by_its_own_type_only(bits in any::<u128>()) {
        let id = TaskId::from_bits(bits);
        prop_assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
        prop_assert!(id.to_string().parse::<RunId>().is_err());
        prop_assert!(id.to_string().to_uppercase().parse::<TaskId>().is_err());
        let json = serde_json::to_value(id).unwrap();
        prop_assert_eq!(serde_json::from_value::<TaskId>(json).unwrap(), id);
    }

    #[test]
    fn a_digest_depends_on_the_value_and_not_on_the_order_of_keys(
        members in prop::collection::btree_map("[a-z]{1,6}", json_value(), 1..6),
        seed in any::<u64>(),
    ) {
        let entropy = SeededEntropy::new(seed);
        let mut shuffled: Vec<_> = members.iter().collect();
        shuffled.sort_by_cached_key(|_member| entropy.next_u64());
        let members_text: Vec<_> = shuffled
            .iter()
            .map(|(key, value)| format!("  \"{key}\" :\n{value}"))
            .collect();
        let text = format!("{{{}}}", members_text.join(","));
        let same: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Digest::of_json(&members).unwrap(), Digest::of_json(&same).unwrap());
        let mut other = members.clone();
        other.insert("another_key".to_owned(), Value::Null);
        prop_assert_ne!(Digest::of_json(&members).unwrap(), Digest::of_json(&other).unwrap());
    }

    #[test]
    fn a_digests_text_is_read_back(bytes in any::<[u8; 32]>()) {
        let digest = Digest::from_bytes(bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let top: [u8; 16] = std::array::from_fn(|n| bytes[n]);
        prop_assert_eq!(digest.to_bits(), u128::from_be_bytes(top));
    }

    #[test]
    fn moments_are_ordered_like_their_texts(a in 0_i64..253_402_300_800_000, b in 0_i64..253_402_300_800_000) {
        let (a, b) = (Timestamp::from_unix_ms(a), Timestamp::from_unix_ms(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.after(b.since(a)), a.max(b));
    }

    #[test]
    fn usage_sums_saturate_and_round_trip(a in any::<u64>(), b in any::<u64>()) {
        let mut usage = Usage::new().with(Unit::TokensIn, a);
        usage.merge(&Usage::new().with(Unit::TokensIn, b).with(Unit::Fuel, 1));
        prop_assert_eq!(usage.get(Unit::TokensIn), a.saturating_add(b));
        let json = serde_json::to_value(&usage).unwrap();
        prop_assert_eq!(serde_json::from_value::<Usage>(json).unwrap(), usage);
    }
}

#[test]
fn amounts_are_written_as_people_write_money() {
    let known = [
        (1_250_000, "USD", 6, "1.25 USD"),
        (-5, "USD", 6, "-0.000005 USD"),
        (1_000_000, "USD", 6, "1.00 USD"),
        (500, "JPY", 0, "500 JPY/0"),
        (15, "BTC", 1, "1.5 BTC/1"),
        (1_999, "EUR", 2, "19.99 EUR/2"),
    ];
    for (units, code, scale, text) in known {
        let amount = Amount::from_units(units, Asset::new(code, scale).unwrap());
        assert_eq!(amount.to_string(), text);
    }
    assert_eq!(
        "1 USD".parse::<Amount>().unwrap(),
        Amount::from_units(1_000_000, Asset::USD)
    );
    let too_much = format!("1{} USD", "0".repeat(40));
    for wrong in [
        "1.25",
        "1.25USD",
        "1,25 USD",
        "1e3 USD",
        "+1 USD",
        "1. USD",
        ".5 USD",
        "--1 USD",
        "1.0000001 USD",
        "1 usd",
        "1  USD",
        "1 USD/10",
        "1 USD/+2",
        "1 USD/02",
        "NaN USD",
        "٣ USD",
        too_much.as_str(),
    ] {
        assert_eq!(
            wrong.parse::<Amount>().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{wrong}"
        );
    }
}

#[test]
fn amount_arithmetic_is_checked() {
    let (usd, eur) = (Asset::USD, Asset::new("EUR", 6).unwrap());
    let max = Amount::from_units(i128::MAX, usd);
    let one = Amount::from_units(1, usd);
    for failed in [
        max.plus(one),
        Amount::from_units(i128::MIN, usd).minus(one),
        max.times(2),
        one.plus(Amount::zero(eur)),
        one.minus(Amount::zero(Asset::new("USD", 2).unwrap())),
    ] {
        assert_eq!(failed.unwrap_err().code(), "core.amount");
    }
    assert_eq!(one.times(7).unwrap().minus(one).unwrap().units(), 6);
    assert_eq!(one.compare(&max).unwrap(), std::cmp::Ordering::Less);
    assert_eq!(max.units_i64().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(one.units_i64().unwrap(), 1);
}

/// The samples of RFC 8785: section 3.2.2 (whole document), 3.2.3 (order of keys) and appendix B
/// (numbers).
#[test]
fn canonical_json_is_that_of_the_rfc() {
    let text = |value: &Value| String::from_utf8(canonical_json(value).unwrap()).unwrap();
    let sample: Value = serde_json::from_str(
        r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]}"#,
    )
    .unwrap();
    assert_eq!(
        text(&sample),
        concat!(
            r#"{"literals":[null,true,false],"#,
            r#""numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        )
    );
    let sorted: Value = serde_json::from_str(
        r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
            "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"}"#,
    )
    .unwrap();
    let written = text(&sorted);
    let order = [
        "Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew",
    ];
    let places: Vec<_> = order
        .iter()
        .map(|name| written.find(name).unwrap())
        .collect();
    assert!(places.is_sorted(), "{written}");
    for (bits, expected) in [
        (0x0000_0000_0000_0001_u64, "5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0x4340_0000_0000_0001, "9007199254740994"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x8000_0000_0000_0000, "0"),
    ] {
        assert_eq!(text(&json!(f64::from_bits(bits))), expected);
    }
}

#[test]
fn numbers_that_canonical_json_would_change_are_refused() {
    assert!(canonical_json(&json!([(1_u64 << 53) - 1, -(1_i64 << 53) + 1])).is_ok());
    for inexact in [
        json!(1_u64 << 53),
        json!({"a": [u64::MAX]}),
        json!([i64::MIN]),
    ] {
        assert_eq!(
            Digest::of_json(&inexact).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
    assert!(canonical_json(&f64::NAN).is_err());
}

#[test]
fn an_effects_digest_covers_all_of_it() {
    let effect = || {
        Effect::new(
            "pay.transfer",
            "shop",
            EffectClass::Idempotent,
            json!({"n": 1}),
        )
    };
    let digest = |effect: &Effect| effect.digest().unwrap();
    let mut others = vec![effect().with_cost_max("1 USD".parse().unwrap())];
    for change in 0..4 {
        let mut other = effect();
        match change {
            0 => "pay.refund".clone_into(&mut other.action),
            1 => "shop2".clone_into(&mut other.target),
            2 => other.class = EffectClass::Opaque,
            _ => other.arguments = json!({"n": 2}),
        }
        others.push(other);
    }
    assert_eq!(digest(&effect()), digest(&effect()));
    for other in others {
        assert_ne!(digest(&effect()), digest(&other), "{other:?}");
        let back: Effect = serde_json::from_value(serde_json::to_value(&other).unwrap()).unwrap();
        assert_eq!(back, other);
    }
    let upper = digest(&effect()).to_string().to_uppercase();
    assert!(upper.parse::<Digest>().is_err());
}

#[test]
fn ids_are_version_7_and_ordered_by_time() {
    let (clock, env) = seeded(1);
    let mut last = AgentId::generate(&env);
    assert_eq!(last.to_bits() >> 80, 1_000);
    assert_eq!(last.to_bits() >> 76 & 0xF, 7, "version");
    assert_eq!(last.to_bits() >> 62 & 0b11, 0b10, "variant");
    for _ in 0..100 {
        clock.advance(Duration::from_millis(1));
        let next = AgentId::generate(&env);
        assert!(next > last && next.to_string() > last.to_string());
        last = next;
    }
    assert_eq!(
        AgentId::generate(&seeded(1).1),
        AgentId::generate(&seeded(1).1)
    );
    assert_ne!(
        AgentId::generate(&seeded(1).1),
        AgentId::generate(&seeded(2).1)
    );
}

#[test]
fn moments_are_written_as_rfc_3339() {
    let known = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (ms, text) in known {
        assert_eq!(Timestamp::from_unix_ms(ms).to_string(), text);
    }
    assert!(
        Timestamp::from_unix_ms(i64::MAX)
            .after(Duration::MAX)
            .to_string()
            .ends_with('Z')
    );
    assert!(!Timestamp::from_unix_ms(i64::MIN).to_string().is_empty());
    assert_eq!(
        Timestamp::EPOCH.since(Timestamp::from_unix_ms(5)),
        Duration::ZERO
    );
}

#[tokio::test]
async fn a_manual_clock_moves_only_when_told_and_wakes_who_waited() {
    let (clock, env) = seeded(1);
    let deadline = clock.now().after(Duration::from_secs(60));
    let waiting = Arc::clone(&env.clock);
    let waiter = tokio::task::spawn(async move { waiting.sleep_until(deadline).await });
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(59));
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    clock.advance(Duration::from_secs(1));
    waiter.await.unwrap();
    assert_eq!(
        (clock.now(), clock.monotonic()),
        (deadline, Duration::from_secs(60))
    );
    clock.sleep_until(deadline).await;
    assert_eq!(
        clock.deadline(deadline, std::future::pending::<()>()).await,
        None
    );
    assert_eq!(
        clock.deadline(deadline, std::future::ready(1)).await,
        Some(1)
    );
}

#[tokio::test]
async fn the_system_clock_waits_until_it_shows_the_deadline() {
    let clock = SystemClock::new();
    let (deadline, before) = (
        clock.now().after(Duration::from_millis(3)),
        clock.monotonic(),
    );
    clock.sleep_until(deadline).await;
    assert!(clock.now() >= deadline && clock.monotonic() > before);
}

#[test]
fn names_and_keys_are_bounded() {
    let name = |n| Principal::new(&"x".repeat(n)).map(|_| ());
    assert!(name(1).is_ok() && name(Principal::BYTES_MAX).is_ok());
    assert!(name(0).is_err() && name(Principal::BYTES_MAX + 1).is_err());
    for wrong in ["a b", "a\n", "\u{0}", "a\u{2003}b"] {
        assert!(Principal::new(wrong).is_err(), "{wrong:?}");
        assert!(serde_json::from_value::<Principal>(json!(wrong)).is_err());
    }
    let key = |text: String| IdempotencyKey::new(text).map(|_| ());
    assert!(key("k".into()).is_ok() && key("k".repeat(IdempotencyKey::BYTES_MAX)).is_ok());
    for wrong in ["", "a b", "é", "a\r\nX: y"] {
        assert!(key(wrong.into()).is_err(), "{wrong:?}");
        assert!(serde_json::from_value::<IdempotencyKey>(json!(wrong)).is_err());
    }
    assert!(key("k".repeat(IdempotencyKey::BYTES_MAX + 1)).is_err());
}

#[tokio::test]
async fn a_child_scope_narrows() {
    let (clock, _env) = seeded(1);
    let soon = clock.now().after(Duration::from_secs(1));
    let parent = Scope::new(Principal::host()).with_deadline(soon);
    let later = soon.after(Duration::from_secs(9));
    let child = parent
        .delegate(Principal::new("agent-a").unwrap(), None)
        .with_deadline(later);
    assert_eq!(child.deadline, Some(soon));
    assert_eq!(*child.delegation, [Principal::host()]);
    let sibling = parent.child();
    child.cancellation.cancel();
    assert_eq!(
        child.check(clock.as_ref()).unwrap_err().kind(),
        ErrorKind::Canceled
    );
    assert!(sibling.check(clock.as_ref()).is_ok() && parent.check(clock.as_ref()).is_ok());
    assert_eq!(
        parent
            .guard(clock.as_ref(), std::future::ready(1))
            .await
            .unwrap(),
        1
    );
    clock.advance(Duration::from_secs(1));
    let late = parent
        .guard(clock.as_ref(), std::future::pending::<()>())
        .await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    parent.cancellation.cancel();
    assert!(sibling.cancellation.is_cancelled());
    assert!(Fence(1) < Fence(2));
}

#[derive(Debug, thiserror::Error)]
#[error("link {0}")]
struct Link(u32, #[source] Option<Box<Self>>);

#[test]
fn a_failure_prints_each_cause_once_and_is_bounded() {
    let root = Link(2, None);
    let error = Error::backend(
        "mailbox",
        "send",
        ErrorKind::Unavailable,
        Retry::Safe,
        Link(1, Some(Box::new(root))),
    )
    .with_retry_after(Duration::from_millis(1_500));
    let failure = Failure::of(&error);
    assert_eq!(failure.message, "mailbox failed to send: link 1: link 2");
    assert_eq!(
        (failure.kind, failure.retry),
        (ErrorKind::Unavailable, Retry::Safe)
    );
    assert_eq!(
        (failure.code.as_str(), failure.retry_after_ms),
        ("core.backend", Some(1_500))
    );
    let json = serde_json::to_value(&failure).unwrap();
    assert_eq!(serde_json::from_value::<Failure>(json).unwrap(), failure);

    let long = (0..10_000)
        .fold(None, |inner, n| Some(Box::new(Link(n, inner))))
        .unwrap();
    let error = Error::backend("b", "o", ErrorKind::Internal, Retry::Never, *long);
    assert!(Failure::of(&error).message.len() <= Failure::MESSAGE_BYTES_MAX);
    let wide = Failure::new(
        ErrorKind::Internal,
        Retry::Never,
        "c",
        &"é".repeat(2_000),
        "f",
    );
    assert!(wide.message.len() <= Failure::MESSAGE_BYTES_MAX && wide.message.ends_with('é'));
}

#[test]
fn seeded_entropy_repeats_and_the_systems_does_not() {
    let draw = |seed| {
        let entropy = SeededEntropy::new(seed);
        [entropy.next_u64(), entropy.next_u64()]
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert_ne!(draw(1)[0], draw(1)[1]);
    assert_ne!(OsEntropy::new().next_u64(), OsEntropy::new().next_u64());
    let entropy = SeededEntropy::new(5);
    let hits = (0..10_000).filter(|_| entropy.chance(100_000)).count();
    assert!((850..1_150).contains(&hits), "{hits}");
}
