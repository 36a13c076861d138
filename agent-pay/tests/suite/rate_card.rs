//! Prices: exact, rounded once, and never invented.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::{Amount, Asset, Classify, ErrorKind, Unit, Usage};
use agent_pay::{Error, Price, RateCard, Rounding};
use proptest::prelude::*;

const CARD: &str = r#"
version = "2026-11-01"
asset = "USD"
rounding = "half_up"
free = ["tool/clock", "model/local-*"]

[[prices]]
resource = "model/*"
unit = "tokens_in"
amount = "3.00 USD"
per = 1000000

[[prices]]
resource = "model/*"
unit = "tokens_out"
amount = "15.00 USD"
per = 1000000

[[prices]]
resource = "model/big"
unit = "tokens_in"
amount = "10.00 USD"
per = 1000000

[[prices]]
resource = "model/big"
unit = "tokens_reasoning"
amount = "60.00 USD"
per = 1000000

[[prices]]
resource = "tool/search"
unit = "calls"
amount = "0.005 USD"
"#;

fn card() -> RateCard {
    toml::from_str(CARD).unwrap()
}

fn usd(text: &str) -> Amount {
    format!("{text} USD").parse().unwrap()
}

fn tokens(n_in: u64, n_out: u64) -> Usage {
    Usage::new()
        .with(Unit::TokensIn, n_in)
        .with(Unit::TokensOut, n_out)
}

#[test]
fn longest_pattern_gives_the_price() {
    let card = card();
    assert_eq!(
        card.price("model/any", &tokens(1_000, 100)).unwrap(),
        usd("0.0045")
    );
    assert_eq!(
        card.price("model/big", &tokens(1_000, 100)).unwrap(),
        usd("0.0115")
    );
    let calls = Usage::new().with(Unit::Calls, 3);
    assert_eq!(card.price("tool/search", &calls).unwrap(), usd("0.015"));
    assert_eq!(card.version(), "2026-11-01");
}

#[test]
fn only_what_is_listed_is_free() {
    let card = card();
    let calls = Usage::new().with(Unit::Calls, 3);
    assert_eq!(card.price("tool/clock", &calls).unwrap(), usd("0"));
    assert_eq!(
        card.price("model/local-7b", &tokens(9_000, 9)).unwrap(),
        usd("0")
    );
    let refused = card.price("tool/other", &calls).unwrap_err();
    assert!(matches!(
        &refused,
        Error::Unpriced {
            unit: Unit::Calls,
            ..
        }
    ));
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let cached = Usage::new().with(Unit::TokensCached, 1);
    assert!(card.price("model/big", &cached).is_err());
    // Nothing used of an unpriced unit costs nothing.
    let none = Usage::new().with(Unit::TokensCached, 0);
    assert_eq!(card.price("model/big", &none).unwrap(), usd("0"));
}

#[test]
fn fractions_are_rounded_once_on_the_sum() {
    let thirds = |rounding| {
        let price = |unit| Price::new("*", unit, Amount::from_units(1, Asset::USD), 3);
        RateCard::new("v", Asset::USD)
            .unwrap()
            .with_rounding(rounding)
            .with_price(price(Unit::TokensIn))
            .and_then(|card| card.with_price(price(Unit::TokensOut)))
            .unwrap()
    };
    let units = |rounding, n_in, n_out| {
        let cost = thirds(rounding).price("x", &tokens(n_in, n_out));
        cost.unwrap().units()
    };
    // Two thirds: each third alone would round to nothing.
    assert_eq!(units(Rounding::HalfUp, 1, 1), 1);
    assert_eq!(units(Rounding::HalfUp, 1, 0), 0);
    assert_eq!(units(Rounding::Up, 1, 0), 1);
    assert_eq!(units(Rounding::Up, 2, 1), 1);
    let halves = Price::new("*", Unit::Calls, Amount::from_units(1, Asset::USD), 2);
    let card = RateCard::new("v", Asset::USD).unwrap().with_price(halves);
    let one = Usage::new().with(Unit::Calls, 1);
    assert_eq!(card.unwrap().price("x", &one).unwrap().units(), 1);
}

#[test]
fn estimate_takes_the_dearer_price_of_each_token() {
    let card = card();
    // Out has the pattern's price of 15, reasoning the model's of 60.
    let most = card.estimate_model_call("model/big", 1_000, 100).unwrap();
    assert_eq!(most, usd("0.016"));
    let worst = Usage::new()
        .with(Unit::TokensIn, 1_000)
        .with(Unit::TokensReasoning, 100);
    assert_eq!(card.price("model/big", &worst).unwrap(), most);
    assert!(card.estimate_model_call("tool/search", 1, 1).is_err());
}

#[test]
fn malformed_cards_are_refused() {
    let price = r#"{"resource":"m","unit":"calls","amount":"1 USD","per":1}"#;
    let with = |prices: &str| {
        serde_json::from_str::<RateCard>(&format!(
            r#"{{"version":"v","asset":"USD","prices":[{prices}]}}"#
        ))
    };
    assert!(with(price).is_ok());
    let malformed = [
        price.replace("\"1 USD\"", "1.0"),
        price.replace("1 USD", "1 EUR"),
        price.replace("1 USD", "-1 USD"),
        price.replace("\"per\":1", "\"per\":0"),
        price.replace("\"m\"", "\"m*x\""),
        price.replace("\"m\"", "\"\""),
        price.replace("\"per\"", "\"pre\""),
        format!("{price},{price}"),
    ];
    for prices in malformed {
        assert!(with(&prices).is_err(), "{prices}");
    }
}

#[test]
fn price_that_does_not_fit_is_an_error() {
    let price = Price::new(
        "*",
        Unit::Fuel,
        Amount::from_units(i128::from(i64::MAX), Asset::USD),
        1,
    );
    let card = RateCard::new("v", Asset::USD)
        .unwrap()
        .with_price(price)
        .unwrap();
    let fuel = |n| Usage::new().with(Unit::Fuel, n);
    assert!(card.price("x", &fuel(1)).is_ok());
    assert_eq!(
        card.price("x", &fuel(2)).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(
        card.price("x", &fuel(u64::MAX)).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn written_card_reads_back() {
    let text = serde_json::to_string(&card()).unwrap();
    assert_eq!(serde_json::from_str::<RateCard>(&text).unwrap(), card());
    assert!(text.contains("\"3.00 USD\""));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    /// The estimate of the most is never below the price of anything within it.
    #[test]
    fn estimate_is_never_too_low(
        n_in in 0..2_000_000_u64, n_out in 0..2_000_000_u64, split in 0..100_u64,
    ) {
        let card = card();
        let most = card.estimate_model_call("model/big", n_in, n_out).unwrap();
        let reasoning = n_out * split / 100;
        let usage = tokens(n_in, n_out - reasoning).with(Unit::TokensReasoning, reasoning);
        prop_assert!(card.price("model/big", &usage).unwrap().units() <= most.units());
        prop_assert!(card.price_max("model/big", &usage).unwrap().units() <= most.units());
    }
}
