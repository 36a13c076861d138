//! Exact amounts, strict constraints, and budgets that count.

use agent_pay::ap2::{Facts, PaymentMandate, Violation};
use serde_json::{Value, json};

use crate::minting::{Minted, assets, chain, closed, now, open, pair, verify};

pub(crate) fn read(constraints: &str, closed: &Value) -> agent_pay::Result<PaymentMandate> {
    let chain = verify(&chain(&pair(constraints, closed)), 1)?;
    PaymentMandate::read(&chain, &assets())
}

/// What of the constraints a payment does not satisfy.
fn violations(constraints: &str, closed: &Value) -> Vec<Violation> {
    let mandate = read(constraints, closed).unwrap();
    let facts = Facts::at(now()).with_open_checkout("open-1");
    mandate
        .check(&facts)
        .map(|_payment| ())
        .err()
        .unwrap_or_default()
}

pub(crate) fn budget(max: &str, currency: &str) -> String {
    format!(r#"{{"type":"payment.budget","max":{max},"currency":"{currency}"}}"#)
}

pub(crate) fn range(max: i64) -> String {
    format!(r#"{{"type":"payment.amount_range","max":{max},"currency":"USD"}}"#)
}

#[test]
fn budgets_are_read_to_the_last_unit() {
    // What a multiplication of floats makes of each is one unit less.
    for (max, minor) in [
        ("19.99", 1_999),
        ("1.15", 115),
        ("4.35", 435),
        ("0.29", 29),
        ("19.990", 1_999),
        ("20.0", 2_000),
        ("8", 800),
    ] {
        let at = |minor| violations(&budget(max, "USD"), &closed(minor, "USD"));
        assert_eq!(at(minor), [], "{max}");
        assert_eq!(at(minor + 1), [Violation::Budget], "{max}");
    }
    for max in ["500", "500.0"] {
        assert_eq!(violations(&budget(max, "JPY"), &closed(500, "JPY")), []);
        assert_eq!(
            violations(&budget(max, "JPY"), &closed(501, "JPY")),
            [Violation::Budget]
        );
    }
    let ambiguous = [
        ("19.999", "USD"),
        ("0.30000000000000004", "USD"),
        ("500.5", "JPY"),
        ("1e3", "USD"),
        ("1.5E+2", "USD"),
        ("-1", "USD"),
        ("-0", "USD"),
        (r#""19.99""#, "USD"),
        ("null", "USD"),
        ("9223372036854.775808", "USD"),
        ("99999999999999999999999999", "USD"),
        ("5", "usd"),
        ("5", "XXX"),
        ("5", "EUR"),
    ];
    for (max, currency) in ambiguous {
        assert!(
            read(&budget(max, currency), &closed(1, "USD")).is_err(),
            "{max} {currency}"
        );
    }
    for amount in [
        json!(1.5),
        json!(5.0),
        json!("5"),
        json!(-1),
        json!(null),
        json!(1e3),
    ] {
        let mut payment = closed(1, "USD");
        payment["payment_amount"]["amount"] = amount.clone();
        assert!(read("", &payment).is_err(), "{amount}");
    }
    let coarse = ["USD/1".parse().unwrap()];
    let verified = verify(&chain(&pair("", &closed(1, "USD"))), 1).unwrap();
    assert!(PaymentMandate::read(&verified, &coarse).is_err());
    let two = ["USD".parse().unwrap(), "USD/2".parse().unwrap()];
    assert!(PaymentMandate::read(&verified, &two).is_err());
}

#[test]
fn every_constraint_is_checked() {
    let tea = r#"{"id":"shop:tea","name":"Tea"}"#;
    let milk = r#"{"id":"shop:milk","name":"Tea"}"#;
    let card = r#"{"id":"card-1","type":"card"}"#;
    let bank = r#"{"id":"card-1","type":"bank"}"#;
    let pisp = r#"{"legal_name":"P Ltd","brand_name":"P","domain_name":"p.example"}"#;
    let allowed =
        |kind: &str, who: &str| format!(r#"{{"type":"payment.{kind}","allowed":[{who}]}}"#);
    let dates = |dates: &str| format!(r#"{{"type":"payment.execution_date",{dates}}}"#);
    let paid = closed(500, "USD");
    let mut over_p = paid.clone();
    over_p["pisp"] = serde_json::from_str(pisp).unwrap();
    let [tomorrow, yesterday] = ["2026-11-26", "2026-11-24"].map(|date| {
        let mut paid = paid.clone();
        paid["execution_date"] = json!(date);
        paid
    });
    let late = Some(Violation::ExecutionDate);
    let both = format!("{milk},{tea}");
    let cases = [
        (allowed("allowed_payees", &both), &paid, None),
        (
            allowed("allowed_payees", milk),
            &paid,
            Some(Violation::Payee),
        ),
        (allowed("allowed_payment_instruments", card), &paid, None),
        (
            allowed("allowed_payment_instruments", bank),
            &paid,
            Some(Violation::Instrument),
        ),
        (allowed("allowed_pisps", pisp), &over_p, None),
        (allowed("allowed_pisps", pisp), &paid, Some(Violation::Pisp)),
        (range(500), &paid, None),
        (range(499), &paid, Some(Violation::AmountRange)),
        (
            range(500).replace("\"max\"", "\"min\":501,\"max\""),
            &paid,
            Some(Violation::AmountRange),
        ),
        (budget("500", "JPY"), &paid, Some(Violation::Currency)),
        (dates(r#""not_after":"2026-11-25""#), &paid, None),
        (
            dates(r#""not_before":"2026-11-25","not_after":"2026-11-25T12:00:00Z""#),
            &paid,
            None,
        ),
        // Without a date it is paid at once, which is checked like any other.
        (dates(r#""not_after":"2026-11-24""#), &paid, late),
        (dates(r#""not_before":"2026-11-26""#), &paid, late),
        (dates(r#""not_before":"2026-11-26""#), &tomorrow, None),
        (dates(r#""not_after":"2026-11-25""#), &tomorrow, late),
        // A date that lies behind does not bring the time back.
        (dates(r#""not_after":"2026-11-24""#), &yesterday, late),
    ];
    for (constraint, payment, wanted) in cases {
        let wanted: Vec<Violation> = wanted.into_iter().collect();
        assert_eq!(violations(&constraint, payment), wanted, "{constraint}");
    }
}

#[test]
fn a_payment_is_for_the_checkout_its_mandate_refers_to_and_closed() {
    let mandate = read("", &closed(500, "USD")).unwrap();
    let reference = [Violation::Reference];
    assert_eq!(mandate.check(&Facts::at(now())).unwrap_err(), reference);
    let other = Facts::at(now()).with_open_checkout("open-2");
    assert_eq!(mandate.check(&other).unwrap_err(), reference);
    let alone = verify(&chain(&[Minted::root(open("", 2))]), 0).unwrap();
    let alone = PaymentMandate::read(&alone, &assets()).unwrap();
    assert_eq!(alone.check(&other).unwrap_err(), [Violation::NotClosed]);
}

#[test]
fn what_the_user_set_beforehand_stays() {
    let paid = closed(500, "USD");
    let preset = |name: &str, value: Value| {
        let mut minted = pair("", &paid);
        let with = format!(r#"{{"{name}":{value},"#);
        minted[0].mandate = minted[0].mandate.replacen('{', &with, 1);
        let chain = verify(&chain(&minted), 1).unwrap();
        let mandate = PaymentMandate::read(&chain, &assets()).unwrap();
        let facts = Facts::at(now()).with_open_checkout("open-1");
        mandate
            .check(&facts)
            .map(|_payment| ())
            .err()
            .unwrap_or_default()
    };
    assert_eq!(preset("payee", paid["payee"].clone()), []);
    assert_eq!(preset("payment_amount", paid["payment_amount"].clone()), []);
    let changed = [
        ("payee", json!({ "id": "shop:milk", "name": "Tea" })),
        (
            "payment_amount",
            json!({ "amount": 501, "currency": "USD" }),
        ),
        (
            "payment_instrument",
            json!({ "id": "card-2", "type": "card" }),
        ),
        (
            "pisp",
            json!({ "legal_name": "a", "brand_name": "b", "domain_name": "c" }),
        ),
        ("execution_date", json!("2026-11-26")),
    ];
    for (name, value) in changed {
        assert_eq!(preset(name, value), [Violation::Preset], "{name}");
    }
}

#[test]
fn a_mandate_that_is_not_understood_allows_nothing() {
    let recurring = r#"{"type":"payment.agent_recurrence","frequency":"DAILY"}"#;
    let refused = [
        r#"{"type":"payment.moon_phase","phase":"full"}"#.to_owned(),
        r#"{"max":5}"#.to_owned(),
        "7".to_owned(),
        recurring.to_owned(),
        format!("{recurring},{}", range(5)),
        format!("{recurring},{}", budget("5", "USD")),
        recurring.replace("DAILY", "HOURLY"),
        r#"{"type":"payment.allowed_payees","allowed":[]}"#.to_owned(),
        r#"{"type":"payment.allowed_payees","allowed":[{"name":"Tea"}]}"#.to_owned(),
        r#"{"type":"payment.allowed_payees","allowed":[{"...":"AAAA"}]}"#.to_owned(),
        r#"{"type":"payment.execution_date","not_after":"tomorrow"}"#.to_owned(),
    ];
    for constraint in refused {
        assert!(
            read(&constraint, &closed(1, "USD")).is_err(),
            "{constraint}"
        );
    }
    let mut minted = pair("", &closed(1, "USD"));
    minted[0].mandate = minted[0]
        .mandate
        .replace("payment.reference", "payment.budget");
    let chain_of = verify(&chain(&minted), 1).unwrap();
    assert!(PaymentMandate::read(&chain_of, &assets()).is_err());
    for vct in [
        "mandate.payment",
        "mandate.payment.2",
        "mandate.checkout.1",
        "",
    ] {
        let mut other = closed(1, "USD");
        other["vct"] = json!(vct);
        assert!(read("", &other).is_err(), "{vct}");
    }
}
