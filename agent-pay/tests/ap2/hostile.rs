//! Hostile bytes break no reader of mandates, and are refused with a kind.

use agent_core::{Classify, ErrorKind};
use agent_pay::ap2::{Checkout, CheckoutMandate, Hop, PaymentMandate, PublicKey};
use proptest::prelude::*;

use crate::minting::{Minted, assets, chain, closed, jwt, now, pair, public, verifier, verify};

const CORPUS: [&str; 22] = [
    "",
    "~",
    "~~",
    "~~~",
    "~~~~",
    ".",
    "..",
    "...",
    "a.b.c",
    "a.b.c~",
    "e30.e30.~",
    "e30.e30.e30~e30~",
    "eyJhbGciOiJub25lIn0.e30.~",
    "\0",
    "é~é",
    "W10.W10.W10~~W10.W10.W10~",
    "bnVsbA.bnVsbA.bnVsbA~",
    "{",
    "[[[[",
    "{\"kty\":\"EC\"}",
    "1e999",
    "\"\\ud800\"",
];

fn feed(text: &str) {
    for n_hops in 0..3 {
        let hops = vec![Hop::new("shop", "n2"); n_hops];
        let error = verifier().verify(text, &hops, now()).unwrap_err();
        assert!(
            [ErrorKind::Invalid, ErrorKind::Denied].contains(&error.kind()),
            "{text}"
        );
    }
    assert!(Checkout::verify(text, &public(7), &assets()).is_err());
    assert!(PublicKey::from_jwk(text).is_err());
    // Signed by who is trusted, and nonsense all the same.
    let header = r#"{"alg":"ES256","kid":"user-1"}"#;
    let _nonsense = verify(&format!("{}~", jwt(1, header, text)), 0);
    assert!(Checkout::verify(&jwt(7, header, text), &public(7), &assets()).is_err());
    if let Ok(read) = verify(&chain(&[Minted::root(text)]), 0) {
        let _payment = PaymentMandate::read(&read, &assets());
        let _checkout = CheckoutMandate::read(&read);
    }
}

#[test]
fn hostile_bytes_break_no_reader() {
    for text in CORPUS {
        feed(text);
    }
    feed(&"~".repeat(100_000));
    feed(&"[".repeat(50_000));
    feed(&format!("{}1{}", "[".repeat(30), "]".repeat(30)));
    feed(&"{\"a\":".repeat(5_000));
    let whole = chain(&pair("", &closed(500, "USD")));
    for end in 0..whole.len() {
        assert!(verify(&whole[..end], 1).is_err(), "{end}");
    }
    let long = format!("{whole}{}", "A".repeat(200_000));
    feed(&long);
}

proptest! {
    #[test]
    fn random_bytes_break_no_reader(text in "\\PC{0,60}", claims in "[\\[\\]{}\":,.0-9a-z~]{0,80}") {
        feed(&text);
        feed(&claims);
    }

    #[test]
    fn one_changed_letter_breaks_a_chain(at in 0_usize..900, letter in "[A-Za-z0-9_-]") {
        let whole = chain(&pair("", &closed(500, "USD")));
        let mut changed = whole.into_bytes();
        let at = at % changed.len();
        let letter = letter.as_bytes()[0];
        prop_assume!(changed[at] != letter && changed[at] != b'~' && changed[at] != b'.');
        changed[at] = letter;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert!(verify(&changed, 1).is_err());
    }
}
