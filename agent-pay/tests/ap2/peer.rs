//! Other implementations. `AP2_PYTHON` names a folder with the packages `sd-jwt` and `jwcrypto`;
//! with `AP2_SDK` beside it, naming the folder of the SDK of the specification's repository that has
//! the package `ap2`, that mints and verifies too. What is not there is skipped.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use agent_core::Timestamp;
use agent_pay::ap2::{Facts, Hop, PaymentMandate};
use serde_json::Value;

use crate::minting::{assets, chain, closed, pair, verifier};
use crate::program::{SILENCE_MAX, output};

/// Runs the peer and returns what it says.
fn peer(arguments: &[&str]) -> Option<Value> {
    let Some(packages) = std::env::var_os("AP2_PYTHON") else {
        println!("SKIPPED {arguments:?}: AP2_PYTHON names no folder");
        return None;
    };
    let mut folders: Vec<OsString> = vec![packages];
    if arguments[0].starts_with("sdk") {
        let Some(sdk) = std::env::var_os("AP2_SDK") else {
            println!("SKIPPED {arguments:?}: AP2_SDK names no folder");
            return None;
        };
        folders.push(sdk);
    }
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/ap2/mandates.py");
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", std::env::join_paths(folders).unwrap())
        .arg(program)
        .args(arguments);
    let said = output(&mut command, SILENCE_MAX);
    Some(serde_json::from_slice(&said).unwrap())
}

const RANGE: &str = r#"{"type":"payment.amount_range","max":1999,"currency":"USD"},{"type":"payment.budget","max":19.99,"currency":"USD"}"#;

/// Mints with a peer, verifies here.
fn minted_there(how: &str) {
    let Some(minted) = peer(&[how]) else { return };
    let text = minted["chain"].as_str().unwrap();
    let at = Timestamp::from_unix_ms(minted["now"].as_i64().unwrap() * 1_000);
    let hops = [Hop::new("shop", "n2")];
    let verified = verifier().verify(text, &hops, at).unwrap();
    let mandate = PaymentMandate::read(&verified, &assets()).unwrap();
    let facts = Facts::at(at).with_open_checkout("open-1");
    let payment = mandate.check(&facts).unwrap();
    assert_eq!(payment.amount.to_string(), "19.99 USD");
    assert_eq!(payment.payee.id, "shop:tea");
    for hop in [Hop::new("other", "n2"), Hop::new("shop", "n3")] {
        assert!(verifier().verify(text, &[hop], at).is_err());
    }
}

/// Mints here, verifies with a peer.
fn minted_here(how: &str) {
    let whole = chain(&pair(RANGE, &closed(1_999, "USD")));
    let Some(read) = peer(&[how, &whole]) else {
        return;
    };
    assert_eq!(read[0]["vct"], "mandate.payment.open.1");
    assert_eq!(read[1]["payment_amount"]["amount"], 1_999);
}

#[test]
fn chains_of_the_sd_jwt_library_for_python_are_verified_here() {
    minted_there("mint");
}

#[test]
fn chains_minted_here_are_verified_by_the_sd_jwt_library_for_python() {
    minted_here("verify");
}

#[test]
fn chains_of_the_sdk_of_the_specification_are_verified_here() {
    minted_there("sdk-mint");
}

#[test]
fn chains_minted_here_are_verified_by_the_sdk_of_the_specification() {
    minted_here("sdk-verify");
}
