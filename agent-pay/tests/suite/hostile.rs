//! Hostile bytes for every parser: none panics, what is refused is refused with a kind, and what is
//! taken reads back as it was.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::{Classify, ErrorKind};
use agent_pay::authority::{Calendar, Limit, PolicyBook};
use agent_pay::signed::{self, VerifyKey};
use agent_pay::trade::{Escrow, Quote, Receipt, Voucher};
use agent_pay::{AccountName, BudgetPath, Invoice, Price, RateCard, Ratio};
use proptest::prelude::*;

/// Texts that have broken parsers of amounts, paths, JSON, TOML and tokens.
const CORPUS: [&str; 44] = [
    "",
    " ",
    "\0",
    "\u{feff}",
    "\u{202e}USD 1",
    "\u{1f4b8}",
    "é",
    "-",
    "--1",
    "+1",
    "1e309",
    "1E5 USD day",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "1.",
    ".1",
    "1..2",
    "1/0",
    "0/0",
    "-1/2",
    "1/-2",
    "340282366920938463463374607431768211456",
    "170141183460469231731687303715884105727/1",
    "0.0000000000000000000000000000000000000001",
    "1.0 USD day +99:99",
    "1 USD rolling -1s",
    "1 USD rolling 18446744073709551615d",
    "18446744073709551616 count day",
    "a//b",
    "/",
    "a/../b",
    "..",
    "{",
    "[",
    "null",
    "{\"version\":1}",
    "[node",
    "[node.a]\nlimits = [[[[[[[[[[",
    "a.b.c",
    "..",
    "eyJ.eyJ.",
    "e30.e30.e30",
];

#[derive(Debug)]
struct Trusting;

impl VerifyKey for Trusting {
    fn verify(&self, _key_id: &str, _algorithm: &str, _message: &[u8], _signature: &[u8]) -> bool {
        true
    }
}

/// Gives a text to every parser.
fn feed(text: &str) {
    if let Ok(ratio) = text.parse::<Ratio>() {
        assert_eq!(ratio.to_string().parse::<Ratio>().unwrap(), ratio, "{text}");
    }
    if let Ok(limit) = text.parse::<Limit>() {
        assert_eq!(limit.to_string().parse::<Limit>().unwrap(), limit, "{text}");
    }
    if let Ok(calendar) = text.parse::<Calendar>() {
        assert_eq!(
            calendar.to_string().parse::<Calendar>().unwrap(),
            calendar,
            "{text}"
        );
        let last = agent_core::Timestamp::from_unix_ms(i64::MAX);
        let first = agent_core::Timestamp::from_unix_ms(-62_000_000_000_000);
        assert!(calendar.start(last) <= last);
        assert!(calendar.start(first) <= first);
    }
    if let Ok(path) = BudgetPath::new(text) {
        assert_eq!(path.as_str(), text);
    }
    if let Ok(name) = AccountName::new(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Err(error) = text.parse::<PolicyBook>() {
        assert!(!error.reason.is_empty() && !error.to_string().is_empty());
    }
    if let Ok(card) = toml::from_str::<RateCard>(text) {
        let written = serde_json::to_string(&card).unwrap();
        assert_eq!(serde_json::from_str::<RateCard>(&written).unwrap(), card);
    }
    let _card: Result<RateCard, _> = serde_json::from_str(text);
    let _price: Result<Price, _> = serde_json::from_str(text);
    let _invoice: Result<Invoice, _> = serde_json::from_str(text);
    let _escrow: Result<Escrow, _> = serde_json::from_str(text);
    token::<Quote>(text);
    token::<Voucher>(text);
    token::<Receipt>(text);
    token::<serde_json::Value>(text);
}

/// Reads a token as if every signature were good, which is the worst that can happen to a parser.
fn token<T: serde::de::DeserializeOwned + serde::Serialize>(text: &str) {
    for kind in ["agent-pay.quote+jws", "JWT", ""] {
        if let Err(error) = signed::verify::<T>(kind, text, &Trusting) {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }
}

#[test]
fn corpus_breaks_no_parser() {
    for text in CORPUS {
        feed(text);
        // As the value of everything a policy or a rate card may say.
        let value = toml::Value::String(text.to_owned());
        for key in [
            "limits",
            "alone_up_to",
            "first_payee",
            "quorum",
            "approvers",
            "x",
        ] {
            feed(&format!("[node.acme]\n{key} = {value}"));
            feed(&format!("[node.acme]\n{key} = [{value}, {value}]"));
        }
        for key in ["version", "asset", "rounding", "free", "prices"] {
            feed(&format!("{key} = {value}"));
        }
        feed(&format!("[node.{value}]"));
    }
    for depth in [10, 1_000, 100_000] {
        feed(&"[".repeat(depth));
        feed(&format!("a = {}", "[".repeat(depth)));
        feed(&"{\"a\":".repeat(depth));
        feed(&"a/".repeat(depth));
        feed(&"a.".repeat(depth));
        feed(&"9".repeat(depth));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..<_>::default() })]

    #[test]
    fn random_text_breaks_no_parser(text in any::<String>()) {
        feed(&text);
    }

    #[test]
    fn changed_policies_break_no_parser(at in 0..400_usize, put in "[\\PC\n]{0,6}", cut in 0..12_usize) {
        let good = "[node.acme]\nlimits = [\"100.00 USD lifetime\", \"20 count rolling 1h\"]\n\
                    approvers = [\"human:a\"]\n[node.\"acme/a\"]\nalone_up_to = \"5.00 USD\"\n";
        let mut chars: Vec<char> = good.chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, put.chars());
        feed(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn changed_tokens_break_no_parser(header in any::<Vec<u8>>(), body in "[\\PC]{0,40}", tail in "[A-Za-z0-9_.-]{0,20}") {
        let header = String::from_utf8_lossy(&header).into_owned();
        feed(&format!("{header}.{body}.{tail}"));
        feed(&format!("eyJhbGciOiIiLCJraWQiOiIiLCJ0eXAiOiIifQ.{tail}.{tail}"));
    }
}
