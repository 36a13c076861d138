//! An intent is digested as canonical JSON (RFC 8785), whatever its texts are.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::common::{money, op, path, who};
use agent_core::{Digest, Timestamp, canonical_json};
use agent_pay::AccountName;
use agent_pay::authority::{Intent, Movement, Origin, Payee, PriceBasis};
use proptest::prelude::*;
use serde_json::json;

fn text() -> impl Strategy<Value = String> {
    // Characters that are escaped, that are not, and those of two UTF-16 units.
    prop_oneof![
        ".{0,20}",
        r#"[\u{0}-\u{2f}\\\u{7f}-\u{a0}\u{2028}\u{fffd}😀]{0,20}"#
    ]
}

fn intent() -> impl Strategy<Value = Intent> {
    let texts = (text(), text(), text(), text(), proptest::option::of(text()));
    let rest = (any::<bool>(), 0..3_usize, -9_007_199_254_740_991_i64..);
    (texts, rest).prop_map(|((name, rail, resource, purpose, category), rest)| {
        let (moves, n_delegators, expires_ms) = rest;
        let payee = Payee::new(name, Origin::SignedOffer);
        let until = Timestamp::from_unix_ms(expires_ms.min(9_007_199_254_740_991));
        let (key, node) = (op("key"), path("acme/team"));
        let mut intent = Intent::new(key, node, who("agent_x"), money("1.25 USD"), payee, until)
            .with_basis(PriceBasis::RateCard)
            .with_rail(rail)
            .with_resource(resource, purpose)
            .with_delegation(vec![who("human:alice"); n_delegators]);
        intent.category = category;
        if moves {
            let name = |text: &str| AccountName::new(text).unwrap();
            intent = intent.with_movement(Movement::new(name("from"), name("to")));
        }
        intent
    })
}

proptest! {
    #[test]
    fn an_intent_is_digested_as_canonical_json(intent in intent()) {
        let wanted = Digest::of_json(&json!({ "v": 1, "intent": intent })).unwrap();
        prop_assert_eq!(intent.digest().unwrap(), wanted);
        let canonical = canonical_json(&intent).unwrap();
        prop_assert_eq!(serde_json::to_vec(&intent).unwrap(), canonical);
    }
}

#[test]
fn an_expiry_canonical_json_would_round_is_refused() {
    let payee = Payee::new("shop", Origin::Catalogue);
    let until = Timestamp::from_unix_ms(1 << 53);
    let intent = Intent::new(
        op("key"),
        path("acme"),
        who("agent_x"),
        money("1 USD"),
        payee,
        until,
    );
    assert!(intent.digest().is_err());
}
