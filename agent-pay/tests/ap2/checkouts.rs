//! What may be bought, and what the merchant signed.

use agent_core::{Classify, ErrorKind};
use agent_pay::ap2::{Checkout, CheckoutMandate, Facts, PaymentMandate, Violation};
use agent_pay::authority::PriceBasis;
use serde_json::{Value, json};

use crate::common::{path, who};
use crate::minting::{
    Minted, NOON, assets, chain, closed, hash, jwk, jwt, now, pair, public, verify,
};

const HEADER: &str = r#"{"alg":"ES256"}"#;

type Items<'a> = &'a [(&'a str, i64)];

fn signed(items: &[(&str, i64)], total: i64) -> Value {
    let lines: Vec<Value> = items
        .iter()
        .map(|(id, n)| json!({ "id": id, "item": { "id": id, "title": id }, "quantity": n, "totals": [] }))
        .collect();
    json!({ "id": "c-1", "merchant": { "id": "shop:tea", "name": "Tea" }, "line_items": lines,
        "status": "ready_for_complete", "currency": "USD", "links": [],
        "totals": [{ "type": "subtotal", "amount": 1 }, { "type": "total", "amount": total }] })
}

fn merchant_jwt(checkout: &Value) -> String {
    jwt(7, HEADER, &checkout.to_string())
}

fn checkout(items: &[(&str, i64)]) -> (String, Checkout) {
    let jwt = merchant_jwt(&signed(items, 500));
    let read = Checkout::verify(&jwt, &public(7), &assets()).unwrap();
    (jwt, read)
}

fn mandate(requirements: &Value, merchants: &[&str], jwt: &str) -> CheckoutMandate {
    let merchants: Vec<Value> = merchants
        .iter()
        .map(|id| json!({ "id": id, "name": "x" }))
        .collect();
    let mut constraints = vec![json!({ "type": "checkout.line_items", "items": requirements })];
    if !merchants.is_empty() {
        constraints.push(json!({ "type": "checkout.allowed_merchants", "allowed": merchants }));
    }
    let open = json!({ "vct": "mandate.checkout.open.1", "constraints": constraints,
        "cnf": { "jwk": jwk(2) }, "iat": NOON });
    let closed =
        json!({ "vct": "mandate.checkout.1", "checkout_hash": hash(jwt), "checkout_jwt": jwt });
    let minted = [Minted::root(open), Minted::hop(2, "kb+sd-jwt", closed)];
    CheckoutMandate::read(&verify(&chain(&minted), 1).unwrap()).unwrap()
}

fn wants(wanted: &[(&[&str], i64)]) -> Value {
    wanted
        .iter()
        .map(|(ids, n)| {
            let items: Vec<Value> = ids
                .iter()
                .map(|id| json!({ "id": id, "title": id }))
                .collect();
            json!({ "id": "r", "acceptable_items": items, "quantity": n })
        })
        .collect()
}

#[test]
fn items_must_be_shared_out_over_the_requirements_exactly() {
    let cases: [(Items<'_>, Value, bool); 9] = [
        (&[("tea", 2)], wants(&[(&["tea"], 2)]), true),
        (&[("tea", 1)], wants(&[(&["tea"], 2)]), false),
        (&[("tea", 3)], wants(&[(&["tea"], 2)]), false),
        (&[("tea", 1), ("milk", 1)], wants(&[(&["tea"], 1)]), false),
        (
            &[("tea", 1), ("milk", 1)],
            wants(&[(&["tea", "milk"], 2)]),
            true,
        ),
        // The first takes what the second cannot do without, unless it gives it back.
        (
            &[("a", 1), ("b", 1)],
            wants(&[(&["a", "b"], 1), (&["a"], 1)]),
            true,
        ),
        (
            &[("a", 1), ("b", 1), ("c", 1)],
            wants(&[(&["a", "b"], 1), (&["a", "c"], 1), (&["a"], 1)]),
            true,
        ),
        (
            &[("a", 2), ("b", 1)],
            wants(&[(&["a", "b"], 1), (&["b"], 2)]),
            false,
        ),
        (
            &[("a", 50), ("b", 50)],
            wants(&[(&["a", "b"], 50), (&["a"], 50)]),
            true,
        ),
    ];
    for (items, wanted, is_so) in cases {
        let (jwt, checkout) = checkout(items);
        let checked = mandate(&wanted, &[], &jwt).check(&checkout);
        assert_eq!(checked.is_ok(), is_so, "{items:?} for {wanted}");
        if !is_so {
            assert_eq!(checked.unwrap_err(), [Violation::LineItems]);
        }
    }
}

#[test]
fn the_checkout_is_the_one_that_was_decided_on_and_of_an_allowed_merchant() {
    let (jwt, checkout) = checkout(&[("tea", 1)]);
    let wanted = wants(&[(&["tea"], 1)]);
    assert_eq!(
        mandate(&wanted, &["shop:tea"], &jwt).check(&checkout),
        Ok(())
    );
    let other = mandate(&wanted, &["shop:milk"], &jwt);
    assert_eq!(other.check(&checkout), Err(vec![Violation::Merchant]));
    let (later, _) = self::checkout(&[("tea", 2)]);
    let other = mandate(&wanted, &[], &later);
    assert_eq!(other.check(&checkout), Err(vec![Violation::Checkout]));
}

#[test]
fn a_checkout_is_its_merchants_and_whole() {
    let good = signed(&[("tea", 1)], 500);
    for (seed, header) in [
        (8, HEADER),
        (7, r#"{"alg":"none"}"#),
        (7, r#"{"alg":"HS256"}"#),
        (7, "{}"),
    ] {
        let jwt = jwt(seed, header, &good.to_string());
        let error = Checkout::verify(&jwt, &public(7), &assets()).unwrap_err();
        assert!(
            [ErrorKind::Denied, ErrorKind::Invalid].contains(&error.kind()),
            "{header}"
        );
    }
    let mut bad = vec![json!({}), json!([])];
    for (pointer, value) in [
        ("/merchant", Value::Null),
        ("/merchant/id", Value::Null),
        ("/currency", json!("XXX")),
        ("/totals", json!([])),
        ("/totals/0/type", json!("total")),
        ("/totals/1/amount", json!(5.5)),
        ("/totals/1/amount", json!(-5)),
        ("/line_items/0/quantity", json!(0)),
        ("/line_items/0/quantity", json!(1_000_000)),
        ("/line_items/0/item", json!("tea")),
        ("/line_items", json!({})),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        bad.push(changed);
    }
    for checkout in bad {
        let jwt = merchant_jwt(&checkout);
        assert!(
            Checkout::verify(&jwt, &public(7), &assets()).is_err(),
            "{checkout}"
        );
    }
}

#[test]
fn a_payment_is_for_what_the_merchant_signed_and_its_price_is_then_vouched_for() {
    let (jwt, checkout) = checkout(&[("tea", 1)]);
    let paying = |minor: i64, transaction: &str, payee: &str| {
        let mut payment = closed(minor, "USD");
        payment["transaction_id"] = json!(transaction);
        payment["payee"]["id"] = json!(payee);
        let verified = verify(&chain(&pair("", &payment)), 1).unwrap();
        PaymentMandate::read(&verified, &assets()).unwrap()
    };
    let facts = Facts::at(now()).with_open_checkout("open-1");
    let with = facts.with_checkout(&checkout);
    let digest = hash(&jwt);
    let good = paying(500, &digest, "shop:tea");
    let until = now().after(std::time::Duration::from_secs(60));
    let intent = good
        .intent(&with, path("user"), who("agent"), until)
        .unwrap();
    assert_eq!(intent.basis, PriceBasis::SignedOffer);
    assert!(!intent.payee.origin.is_tainted());
    let unvouched = good
        .intent(&facts, path("user"), who("agent"), until)
        .unwrap();
    assert_eq!(unvouched.basis, PriceBasis::Unknown);
    assert!(unvouched.payee.origin.is_tainted());
    let other = paying(500, "tx-1", "shop:tea");
    assert_eq!(other.check(&with).unwrap_err(), [Violation::Transaction]);
    for (minor, payee) in [(499, "shop:tea"), (500, "shop:milk")] {
        let other = paying(minor, &digest, payee);
        assert_eq!(other.check(&with).unwrap_err(), [Violation::Checkout]);
    }
}

#[test]
fn checkout_mandates_that_are_not_understood_allow_nothing() {
    let requirement = |value: Value| {
        json!({ "vct": "mandate.checkout.open.1", "cnf": { "jwk": jwk(2) },
            "constraints": [{ "type": "checkout.line_items", "items": value }] })
    };
    let bad = [
        requirement(json!([])),
        requirement(json!([{ "id": "r", "acceptable_items": [], "quantity": 1 }])),
        requirement(json!([{ "id": "r", "acceptable_items": [{ "id": "a" }], "quantity": 0 }])),
        requirement(json!([{ "id": "r", "acceptable_items": [{ "id": "a" }], "quantity": 1.0 }])),
        requirement(json!([null])),
        json!({ "vct": "mandate.checkout.open.1", "cnf": { "jwk": jwk(2) }, "constraints": [] }),
        json!({ "vct": "mandate.checkout.open.1", "cnf": { "jwk": jwk(2) }, "constraints": [{ "type": "x" }] }),
        json!({ "vct": "mandate.payment.open.1", "cnf": { "jwk": jwk(2) }, "constraints": [] }),
    ];
    for open in bad {
        let verified = verify(&chain(&[Minted::root(&open)]), 0).unwrap();
        assert!(CheckoutMandate::read(&verified).is_err(), "{open}");
    }
}
