//! Exact amounts, strict constraints, and budgets that count.

use agent_core::{Amount, Timestamp};
use agent_pay::ap2::{Facts, PaymentMandate, Violation};
use agent_pay::authority::Authorization;
use serde_json::{Value, json};

use crate::common::{Shop, money, path, who};
use crate::minting::{Minted, assets, chain, closed, disclosure, hash, now, open, pair, verify};

fn read(constraints: &str, closed: &Value) -> agent_pay::Result<PaymentMandate> {
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

fn budget(max: &str, currency: &str) -> String {
    format!(r#"{{"type":"payment.budget","max":{max},"currency":"{currency}"}}"#)
}

fn range(max: i64) -> String {
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

const POLICY: &str = r#"
[node.user]
limits = ["1000.00 USD lifetime"]
first_payee = "allow"
"#;

/// Imports the user's mandate and pays transactions under it; returns which were allowed.
async fn pay(shop: &Shop, constraints: &str, payments: &[(&str, i64)]) -> Vec<bool> {
    let mut allowed = Vec::new();
    for (transaction, minor) in payments {
        let mut payment = closed(*minor, "USD");
        payment["transaction_id"] = json!(transaction);
        let mandate = read(constraints, &payment).unwrap();
        let (under, host) = (path("user"), who("host"));
        let node = mandate
            .import(&shop.authority, &under, &host)
            .await
            .unwrap();
        let facts = Facts::at(shop.now()).with_open_checkout("open-1");
        let until = Timestamp::from_unix_ms(now().as_unix_ms() + 3_600_000);
        let intent = mandate.intent(&facts, node, who("agent"), until);
        let Ok(intent) = intent else {
            allowed.push(false);
            continue;
        };
        let intent = intent.with_basis(agent_pay::authority::PriceBasis::RateCard);
        let mut intent = intent;
        intent.payee.origin = agent_pay::authority::Origin::Catalogue;
        let authorized = shop.authorize(&intent).await;
        if let Authorization::Held {
            hold, is_replayed, ..
        } = &authorized
        {
            if !is_replayed {
                let captured = shop.authority.capture(hold.key.clone(), hold.amount);
                captured.await.unwrap();
            }
            assert_eq!(
                hold.amount,
                Amount::from_units(i128::from(*minor) * 10_000, hold.amount.asset())
            );
        }
        allowed.push(matches!(authorized, Authorization::Held { .. }));
    }
    allowed
}

#[tokio::test]
async fn an_imported_budget_counts_over_payments_and_a_transaction_is_paid_once() {
    let shop = Shop::open(POLICY).await;
    let recurring = r#"{"type":"payment.agent_recurrence","frequency":"ON_DEMAND"}"#;
    let constraints = format!("{},{},{recurring}", range(1_500), budget("19.99", "USD"));
    let payments = [("a", 1_000), ("b", 1_000), ("c", 999), ("c", 999), ("d", 1)];
    let allowed = pay(&shop, &constraints, &payments).await;
    // To the cent: 10.00 and 9.99 fit, and not a cent more; the same transaction is the same spend.
    assert_eq!(allowed, [true, false, true, true, false]);
    shop.check().await;
}

#[tokio::test]
async fn a_mandate_recurs_as_often_as_it_says_and_else_pays_once() {
    let shop = Shop::open(POLICY).await;
    let once = range(500);
    assert_eq!(
        pay(&shop, &once, &[("a", 5), ("b", 5)]).await,
        [true, false]
    );
    let bounds = format!("{},{}", range(501), budget("100.00", "USD"));
    let daily = r#"{"type":"payment.agent_recurrence","frequency":"DAILY","max_occurrences":2}"#;
    let daily = format!("{bounds},{daily}");
    assert_eq!(
        pay(&shop, &daily, &[("a", 5), ("b", 5)]).await,
        [true, false]
    );
    shop.check().await;
    let shop = Shop::open(POLICY).await;
    let thrice =
        r#"{"type":"payment.agent_recurrence","frequency":"ON_DEMAND","max_occurrences":2}"#;
    let thrice = format!("{bounds},{thrice}");
    let allowed = pay(&shop, &thrice, &[("a", 5), ("b", 5), ("c", 5)]).await;
    assert_eq!(allowed, [true, true, false]);
    shop.check().await;
}

#[tokio::test]
async fn each_delegate_can_only_narrow_and_payees_are_those_that_were_named() {
    let shop = Shop::open(POLICY).await;
    let tea = r#"{"type":"payment.allowed_payees","allowed":[{"id":"shop:tea","name":"Tea"}]}"#;
    let minted = [
        Minted::root(open(&format!("{},{tea}", range(500)), 2)),
        Minted::hop(2, "kb+sd-jwt+kb", open(&range(900), 3)),
        Minted::hop(3, "kb+sd-jwt", closed(600, "USD")),
    ];
    let verified = verify(&chain(&minted), 2).unwrap();
    let mandate = PaymentMandate::read(&verified, &assets()).unwrap();
    let facts = Facts::at(now()).with_open_checkout("open-1");
    assert_eq!(mandate.check(&facts).unwrap_err(), [Violation::AmountRange]);
    let node = mandate
        .import(&shop.authority, &path("user"), &who("host"))
        .await
        .unwrap();
    assert_eq!(node.as_str().matches('/').count(), 2);
    // Nor past the mandate's own check.
    let mut intent = shop.intent("k", node.as_str(), "6.00 USD");
    assert_eq!(shop.denied(&intent).await, "over_limit");
    intent.amount_max = money("5.00 USD");
    intent.payee.name = "shop:milk".to_owned();
    assert_eq!(shop.denied(&intent).await, "payee_not_listed");
    intent.payee.name = "shop:tea".to_owned();
    shop.held(&intent).await;
    shop.check().await;
    // Narrowed to what the one before allows.
    let policies = mandate.policies().unwrap();
    assert_eq!(policies[1].limits, policies[0].limits);
    let unbounded = read("", &closed(1, "USD")).unwrap();
    assert!(unbounded.policies().is_err());
}

#[tokio::test]
async fn no_disclosure_and_no_other_signature_gives_a_budget_twice() {
    let shop = Shop::open(POLICY).await;
    let names = ["tea", "milk"].map(|name| format!(r#"{{"id":"shop:{name}","name":"{name}"}}"#));
    let digests = names
        .each_ref()
        .map(|name| format!(r#"{{"...":"{}"}}"#, hash(&disclosure(name))));
    let allowed = format!(
        r#"{{"type":"payment.allowed_payees","allowed":[{}]}}"#,
        digests.join(",")
    );
    let mut nodes = Vec::new();
    let mut keys = Vec::new();
    for shown in [0..1, 0..2] {
        let mut minted = pair(&format!("{},{allowed}", range(500)), &closed(500, "USD"));
        minted[0].disclosures = names[shown].iter().map(|name| disclosure(name)).collect();
        let whole = chain(&minted);
        for whole in [whole.clone(), resigned(&whole)] {
            // The closed mandate of the other signature is bound to the first: only the root is looked at.
            let verified = verify(&whole, 1)
                .or_else(|_bound| verify(&format!("{}~", whole.split("~~").next().unwrap()), 0));
            let mandate = PaymentMandate::read(&verified.unwrap(), &assets()).unwrap();
            let (under, host) = (path("user"), who("host"));
            let node = mandate.import(&shop.authority, &under, &host).await;
            nodes.push(node.unwrap());
            let facts = Facts::at(now()).with_open_checkout("open-1");
            let intent = mandate.intent(&facts, path("user"), who("agent"), now());
            keys.extend(intent.ok().map(|intent| intent.key));
        }
    }
    nodes.dedup();
    keys.dedup();
    assert_eq!((nodes.len(), keys.len()), (1, 1));
    shop.check().await;
}

/// The same chain with the other signature that is as good for the first token: `r` and `n - s`.
fn resigned(whole: &str) -> String {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (jwt, rest) = whole.split_once('~').unwrap();
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let signature = engine.decode(signature).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    assert_ne!(other, signature);
    format!("{message}.{}~{rest}", engine.encode(other.to_bytes()))
}
