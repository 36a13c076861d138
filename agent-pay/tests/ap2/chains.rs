//! Every token of a chain is checked, and nothing of it can be had otherwise.

use agent_core::{Classify, ErrorKind, Timestamp};
use agent_pay::ap2::{Hop, PaymentMandate, PublicKey};
use serde_json::{Value, json};

use crate::minting::{
    Minted, NOON, assets, chain, closed, disclosure, encode, hash, jwk, jwt, now, open, pair,
    verifier, verify,
};

#[test]
fn chains_of_one_two_and_three_tokens_verify() {
    let whole = chain(&pair("", &closed(500, "USD")));
    let verified = verify(&whole, 1).unwrap();
    assert_eq!((verified.len(), verified.root()), (2, "user-1"));
    assert!(!verified.is_empty());
    let alone = chain(&[Minted::root(open("", 2))]);
    assert_eq!(verify(&alone, 0).unwrap().first_digest(), hash(&alone));
    let longer = chain(&three());
    let verified = verify(&longer, 2).unwrap();
    let mandate = PaymentMandate::read(&verified, &assets()).unwrap();
    assert_eq!((mandate.open.len(), mandate.closed.is_some()), (2, true));
}

fn three() -> Vec<Minted> {
    vec![
        Minted::root(open("", 2)),
        Minted::hop(2, "kb+sd-jwt+kb", open("", 3)),
        Minted::hop(3, "kb+sd-jwt", closed(500, "USD")),
    ]
}

type Change = fn(&mut Minted);

/// Refuses chains, each of which is a good one with one change.
fn refused(of: &[Minted], n_hops: u8, changes: &[(usize, &str, Change)]) {
    assert!(verify(&chain(of), n_hops).is_ok());
    for (n, name, change) in changes {
        let mut changed = of.to_vec();
        change(&mut changed[*n]);
        let error = verify(&chain(&changed), n_hops).expect_err(name);
        assert!(
            [ErrorKind::Invalid, ErrorKind::Denied].contains(&error.kind()),
            "{name}: {error}"
        );
    }
}

#[test]
fn no_algorithm_but_es256_and_no_key_but_the_confirmed_one_count() {
    refused(
        &three(),
        2,
        &[
            (0, "no algorithm", |t| t.header["alg"] = json!("none")),
            (0, "a shared secret", |t| t.header["alg"] = json!("HS256")),
            (1, "another curve", |t| t.header["alg"] = json!("ES384")),
            (1, "its name in capitals", |t| {
                t.header["alg"] = json!("es256");
            }),
            (2, "a list", |t| t.header["alg"] = json!(["ES256"])),
            (2, "an extension", |t| t.header["crit"] = json!(["exp"])),
            (0, "a stranger's name", |t| {
                t.header["kid"] = json!("user-2");
            }),
            (0, "no name", |t| t.header["kid"] = Value::Null),
            (0, "a stranger's key", |t| t.seed = 9),
            (1, "the user's key", |t| t.seed = 1),
            (2, "the key before", |t| t.seed = 2),
        ],
    );
    // A key a token brings itself counts for nothing.
    let mut own = three();
    own[0].seed = 9;
    own[0].header["jwk"] = jwk(9);
    assert!(verify(&chain(&own), 2).is_err());
    let whole = chain(&three());
    let (body, signature) = whole.rsplit_once('.').unwrap();
    let (signature, rest) = signature.split_once('~').unwrap();
    for signature in ["", &signature[..84], &encode([0; 64]), &encode([0xff; 64])] {
        assert!(verify(&format!("{body}.{signature}~{rest}"), 2).is_err());
    }
}

#[test]
fn audience_nonce_binding_and_times_of_every_token_are_checked() {
    let changes: [(&str, Change); 16] = [
        ("another audience", |t| t.claims["aud"] = json!("other")),
        ("audiences", |t| t.claims["aud"] = json!(["shop"])),
        ("no audience", |t| t.claims["aud"] = Value::Null),
        ("another nonce", |t| t.claims["nonce"] = json!("n9")),
        ("no nonce", |t| t.claims["nonce"] = Value::Null),
        ("another binding", |t| {
            t.claims["sd_hash"] = json!(hash("x"));
        }),
        ("no binding", |t| t.claims["sd_hash"] = Value::Null),
        ("two bindings", |t| t.claims["issuer_jwt_hash"] = json!("x")),
        ("no time", |t| {
            t.claims.as_object_mut().unwrap().remove("iat");
        }),
        ("a time to come", |t| t.claims["iat"] = json!(NOON + 61)),
        ("a time before it counts", |t| {
            t.claims["nbf"] = json!(NOON + 61);
        }),
        ("a time that is over", |t| {
            t.claims["exp"] = json!(NOON - 60);
        }),
        ("a time as text", |t| t.claims["exp"] = json!("2030-01-01")),
        ("a time as a fraction", |t| {
            t.claims["exp"] = json!(1_795_608_000.5_f64);
        }),
        ("a time before all", |t| t.claims["iat"] = json!(-1)),
        ("another type", |t| t.header["typ"] = json!("dc+sd-jwt")),
    ];
    for n in [1, 2] {
        let changes: Vec<_> = changes.iter().map(|(name, f)| (n, *name, *f)).collect();
        refused(&three(), 2, &changes);
    }
    let over: Change = |t| {
        t.mandate = t
            .mandate
            .replace(&format!("{}", NOON + 3_600), "1795600000");
    };
    refused(
        &three(),
        2,
        &[
            (0, "a mandate that is over", over),
            (1, "one behind it", over),
        ],
    );
    let skewed = Timestamp::from_unix_ms((NOON + 3_600 + 59) * 1_000);
    let hops = [Hop::new("shop", "n2")];
    let whole = chain(&pair("", &closed(500, "USD")));
    assert!(verifier().verify(&whole, &hops, skewed).is_ok());
    let late = Timestamp::from_unix_ms((NOON + 3_600 + 60) * 1_000);
    assert!(verifier().verify(&whole, &hops, late).is_err());
}

#[test]
fn a_chain_has_the_form_that_was_asked_for() {
    let whole = chain(&three());
    for n_hops in [0, 1, 3, 9] {
        assert!(verify(&whole, n_hops).is_err(), "{n_hops}");
    }
    refused(
        &three(),
        2,
        &[
            (1, "an end in the middle", |t| {
                t.header["typ"] = json!("kb+sd-jwt");
            }),
            (2, "no end", |t| t.header["typ"] = json!("kb+sd-jwt+kb")),
            (2, "a key behind the end", |t| t.mandate = open("", 4)),
            (1, "no key in the middle", |t| {
                t.mandate = closed(1, "USD").to_string();
            }),
            (0, "no key at the start", |t| {
                t.mandate = closed(1, "USD").to_string();
            }),
        ],
    );
    let tokens: Vec<&str> = whole.trim_end_matches('~').split("~~").collect();
    for shuffled in [[0, 2, 1], [1, 0, 2], [0, 1, 1], [0, 0, 2]] {
        let shuffled: Vec<&str> = shuffled.iter().map(|n| tokens[*n]).collect();
        assert!(verify(&format!("{}~", shuffled.join("~~")), 2).is_err());
    }
    // Bound to what the issuer signed, a later delegate may drop disclosures; bound to all, not.
    let mut loose = pair("", &closed(500, "USD"));
    let first = chain(&loose[..1]);
    let issuer_jwt = first.split('~').next().unwrap().to_owned();
    loose[1].claims["issuer_jwt_hash"] = json!(hash(&issuer_jwt));
    let without = |loose: &[Minted]| {
        let whole = chain(loose);
        verify(&whole, 1)
    };
    assert!(without(&loose).is_err(), "both bindings");
}

#[test]
fn disclosures_are_each_signed_used_once_and_hide_no_constraint() {
    let hidden = r#"{"type":"payment.budget","max":1.00,"currency":"USD"}"#;
    let digest = hash(&disclosure(hidden));
    let constraints = format!(r#"{{"...":"{digest}"}}"#);
    let mut minted = pair(&constraints, &closed(500, "USD"));
    let verified = verify(&chain(&minted), 1).unwrap();
    assert!(
        PaymentMandate::read(&verified, &assets()).is_err(),
        "a hidden constraint"
    );
    minted[0].disclosures.push(disclosure(hidden));
    let verified = verify(&chain(&minted), 1).unwrap();
    assert!(PaymentMandate::read(&verified, &assets()).is_ok());

    let twice = minted[0].disclosures[0].clone();
    minted[0].disclosures.push(twice);
    assert!(verify(&chain(&minted), 1).is_err(), "a disclosure twice");
    let mut stray = pair("", &closed(500, "USD"));
    stray[0].disclosures.push(disclosure("1"));
    assert!(
        verify(&chain(&stray), 1).is_err(),
        "a disclosure nothing refers to"
    );

    // A claim of the mandate that stays hidden, one that takes another's place, and bad names.
    let claim = |name: &str| encode(format!(r#"["c2FsdA","{name}","x"]"#));
    for (name, is_shown) in [("exp", false), ("vct", true), ("_sd", true), ("...", true)] {
        let shown = claim(name);
        let mut minted = pair("", &closed(500, "USD"));
        let with = format!(r#"{{"_sd":["{}"],"#, hash(&shown));
        minted[0].mandate = minted[0].mandate.replacen('{', &with, 1);
        if is_shown {
            minted[0].disclosures.push(shown);
        }
        let read = verify(&chain(&minted), 1).and_then(|c| PaymentMandate::read(&c, &assets()));
        assert!(read.is_err(), "{name}");
    }
    for alg in ["sha-512", "md5"] {
        let mandate = disclosure(&open("", 2));
        let payload = json!({ "_sd_alg": alg, "delegate_payload": [{ "...": hash(&mandate) }] });
        let header = r#"{"alg":"ES256","kid":"user-1"}"#;
        let token = jwt(1, header, &payload.to_string());
        assert!(verify(&format!("{token}~{mandate}~"), 0).is_err(), "{alg}");
    }
    let header = r#"{"alg":"ES256","kid":"user-1"}"#;
    for payload in [
        json!({ "delegate_payload": [] }),
        json!({ "delegate_payload": [1] }),
        json!({ "delegate_payload": [{}, {}] }),
        json!({ "delegate_payload": {} }),
        json!({}),
        json!([]),
    ] {
        let token = jwt(1, header, &payload.to_string());
        assert!(verify(&format!("{token}~"), 0).is_err(), "{payload}");
    }
    let twice = r#"{"delegate_payload":[{}],"delegate_payload":[{"vct":"x"}]}"#;
    assert!(verify(&format!("{}~", jwt(1, header, twice)), 0).is_err());
}

#[test]
fn only_public_keys_of_p256_are_keys() {
    assert!(PublicKey::from_jwk(&jwk(2).to_string()).is_ok());
    let mut bad = Vec::new();
    for (name, value) in [
        ("kty", json!("RSA")),
        ("crv", json!("P-384")),
        ("alg", json!("HS256")),
        ("use", json!("enc")),
        ("d", json!(encode([2; 32]))),
        ("x", json!(encode([1; 32]))),
        ("y", json!(encode([1; 31]))),
        ("x", json!("")),
        ("y", json!(7)),
    ] {
        let mut key = jwk(2);
        key[name] = value;
        bad.push(key.to_string());
    }
    bad.extend(["{}", "null", "", "[]"].map(str::to_owned));
    for key in bad {
        assert!(PublicKey::from_jwk(&key).is_err(), "{key}");
    }
    let confirmed = format!(r#""cnf":{{"jwk":{}}}"#, jwk(2));
    let mut minted = pair("", &closed(500, "USD"));
    minted[0].mandate = minted[0]
        .mandate
        .replace(&confirmed, r#""cnf":{"kid":"user-1"}"#);
    assert!(verify(&chain(&minted), 1).is_err());
    let _now = now();
}
