//! The forms of the wire and what is signed, against vectors that others made.

use agent_core::{Classify, ErrorKind, Secret};
use agent_pay::x402::{
    Accepted, Address, Atomic, Authorization, Bytes32, CanonicalKey, Domain, LocalKey, Mismatch,
    PaymentPayload, Requirements, Signature, Signer, check, recover,
};

/// The payment of section 5.2.1 of the specification (version 2 of 2025-12-09).
pub(crate) const SPECIFIED: &str = r#"{
  "x402Version": 2,
  "resource": {
    "url": "https://api.example.com/premium-data",
    "description": "Access to premium market data",
    "mimeType": "application/json"
  },
  "accepted": {
    "scheme": "exact",
    "network": "eip155:84532",
    "amount": "10000",
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
    "maxTimeoutSeconds": 60,
    "extra": { "name": "USDC", "version": "2" }
  },
  "payload": {
    "signature": "0x2d6a7588d6acca505cbf0d9a4a227e0c52c6c34008c8e8986a1283259764173608a2ce6496642e377d6da8dbbf5836e9bd15092f9ecab05ded3d6293af148b571c",
    "authorization": {
      "from": "0x857b06519E91e3A54538791bDbb0E22373e36b66",
      "to": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
      "value": "10000",
      "validAfter": "1740672089",
      "validBefore": "1740672154",
      "nonce": "0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480"
    }
  },
  "extensions": {}
}"#;

/// A second within the time of [`SPECIFIED`].
pub(crate) const THEN: u64 = 1_740_672_100;

pub(crate) fn specified() -> (PaymentPayload, Requirements) {
    let payment = PaymentPayload::read(SPECIFIED.as_bytes()).unwrap();
    let asked = match payment.accepted.clone() {
        Accepted::V2(asked) => Ok(asked),
        other => Err(other),
    }
    .unwrap();
    (payment, asked)
}

/// A public test key of the development chain `anvil`; never for money.
pub(crate) const TEST_KEY: &str =
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

pub(crate) fn test_key() -> LocalKey {
    LocalKey::new(&Secret::from(TEST_KEY)).unwrap()
}

#[test]
fn the_payment_of_the_specification_is_signed_by_who_pays() {
    let (payment, asked) = specified();
    let key = check(&payment, &asked, THEN).unwrap().unwrap();
    let domain = asked.domain().unwrap();
    assert_eq!(
        key,
        CanonicalKey::new(&domain, &payment.signed.authorization)
    );
    let digest = domain.digest(&payment.signed.authorization);
    let signer = recover(&digest, &payment.signed.signature).unwrap();
    assert_eq!(
        signer.to_string(),
        "0x857b06519E91e3A54538791bDbb0E22373e36b66"
    );
}

/// Digests and signatures made with viem 2.57.20, `hashTypedData` and `signTypedData`, with the
/// public test key [`TEST_KEY`].
#[tokio::test]
async fn digests_and_signatures_are_those_of_viem() {
    let vectors = [
        (
            10_000,
            "0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480",
            "0x88fac224f13644a7697d6a79a757d6947abd2b0c213f281f41a516ef5d12f258",
            "0xf63f964abc373413d69869d887b4102912b4aeed3528cc8d8daf9e2b5c33c1336b273445bf66521b2a3d21a71c911435fd57c040bf0ddab724d6148cd065048f1b",
        ),
        (
            u128::MAX,
            "0x0000000000000000000000000000000000000000000000000000000000000001",
            "0xb322940589347df41306c8c9330bd62d3f9aae444d0ec6e1ab15e235a3c67d8a",
            "0x9ce8ebbe1cfe49015217e2ca39a550a99d5770902f735f7ec3b4d1e35cda263c47217f695393eb1bea3b628f24d6a2b5e661463799771fe98cdc8501c67cc5731c",
        ),
    ];
    let key = test_key();
    let token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
        .parse()
        .unwrap();
    let domain = Domain::new("USD Coin", "2", 84_532, token);
    let to = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
        .parse()
        .unwrap();
    for (value, nonce, digest, signature) in vectors {
        let (value, nonce) = (Atomic::new(value), nonce.parse().unwrap());
        let times = (1_740_672_089, 1_740_672_154);
        let made = domain.digest(&Authorization::new(
            (key.address(), to),
            value,
            times,
            nonce,
        ));
        assert_eq!(made.to_string(), digest);
        let signed = key.sign(made).await.unwrap();
        assert_eq!(String::from(signed), signature);
        assert_eq!(recover(&made, &signed), Some(key.address()));
    }
}

/// The addresses of EIP-55, section "Test Cases".
#[test]
fn addresses_are_written_with_the_checksum_of_eip_55() {
    let addresses = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];
    for written in addresses {
        for read in [written.to_owned(), written.to_lowercase()] {
            assert_eq!(read.parse::<Address>().unwrap().to_string(), written);
        }
    }
}

#[test]
fn whatever_is_altered_in_a_payment_is_found() {
    let (payment, asked) = specified();
    let altered = |alter: fn(&mut Authorization)| {
        let mut payment = payment.clone();
        alter(&mut payment.signed.authorization);
        check(&payment, &asked, THEN).unwrap().unwrap_err()
    };
    assert_eq!(altered(|a| a.to = a.from), Mismatch::Recipient);
    assert_eq!(altered(|a| a.value = Atomic::new(9_999)), Mismatch::Value);
    assert_eq!(altered(|a| a.value = Atomic::new(10_001)), Mismatch::Value);
    assert_eq!(altered(|a| a.valid_after = THEN), Mismatch::NotYetValid);
    assert_eq!(
        altered(|a| a.valid_before = THEN + 5),
        Mismatch::ValidBefore
    );
    assert_eq!(
        altered(|a| a.valid_before = u64::MAX),
        Mismatch::ValidBefore
    );
    assert_eq!(altered(|a| a.valid_before += 1), Mismatch::Signature);
    assert_eq!(altered(|a| a.from = a.to), Mismatch::Signature);
    assert_eq!(
        altered(|a| a.nonce = Bytes32::from_bytes([1; 32])),
        Mismatch::Signature
    );
}

/// Altered requirements, as at a facilitator: the amount lowered and raised, another payee.
#[test]
fn a_payment_for_other_requirements_is_found() {
    let (payment, asked) = specified();
    let with = |member: &str, value: serde_json::Value| {
        let mut raw = asked.raw().clone();
        raw[member] = value;
        let other = Requirements::read(raw).unwrap();
        // As if the payer accepted them too: then the signature is what tells.
        let mut echoing = payment.clone();
        echoing.accepted = Accepted::V2(other.clone());
        let outcomes = [&payment, &echoing].map(|p| check(p, &other, THEN).unwrap().unwrap_err());
        (outcomes[0], outcomes[1])
    };
    let other = Mismatch::Requirements;
    for amount in ["1", "20000"] {
        assert_eq!(with("amount", amount.into()), (other, Mismatch::Value));
    }
    let payee = "0x857b06519E91e3A54538791bDbb0E22373e36b66";
    assert_eq!(with("payTo", payee.into()), (other, Mismatch::Recipient));
    assert_eq!(with("asset", payee.into()), (other, Mismatch::Signature));
    let network = "eip155:8453";
    assert_eq!(
        with("network", network.into()),
        (Mismatch::Network, Mismatch::Signature)
    );
    let extra = serde_json::json!({ "name": "USDC", "version": "3" });
    assert_eq!(with("extra", extra), (other, Mismatch::Signature));
}

/// One payment has one name, and no second text of it is read.
#[test]
fn no_text_of_a_payment_has_another_key() {
    let (payment, asked) = specified();
    let key = check(&payment, &asked, THEN).unwrap().unwrap();
    // Addresses are the same in any case of letters.
    let lower = SPECIFIED
        .replace(
            "0x857b06519E91e3A54538791bDbb0E22373e36b66",
            "0x857b06519e91e3a54538791bdbb0e22373e36b66",
        )
        .replace(
            "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "0x209693bc6afc0c5328ba36faf03c514ef312287c",
        )
        .replace(
            "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
        );
    let lower = PaymentPayload::read(lower.as_bytes()).unwrap();
    assert_eq!(check(&lower, &asked, THEN).unwrap().unwrap(), key);
    // Members no signature covers change nothing either.
    let other = SPECIFIED
        .replace("premium market data", "anything")
        .replace("premium-data", "x");
    let other = PaymentPayload::read(other.as_bytes()).unwrap();
    assert_eq!(check(&other, &asked, THEN).unwrap().unwrap(), key);

    let nonce = "f3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480";
    let signature_end = "148b571c";
    let refused = [
        (nonce, format!("00{nonce}")),
        (nonce, format!("{nonce}00")),
        (nonce, nonce.trim_start_matches("f3").to_owned()),
        (nonce, format!(" {nonce}")),
        ("0xf3746613", "0Xf3746613".to_owned()),
        ("0xf3746613", "f3746613".to_owned()),
        (
            "\"10000\",\n      \"validAfter\"",
            "\"010000\",\n      \"validAfter\"".to_owned(),
        ),
        ("\"1740672089\"", "\"01740672089\"".to_owned()),
        ("\"1740672154\"", "1740672154".to_owned()),
        ("\"1740672154\"", "\"0x67c08a9a\"".to_owned()),
        ("eip155:84532", "eip155:084532".to_owned()),
        // The other signature of the same message, and other ways to write the last byte.
        (signature_end, "148b571b00".to_owned()),
        (signature_end, "148b5701".to_owned()),
        ("\"validAfter\"", "\"valid_after\"".to_owned()),
        ("\"nonce\":", "\"salt\": \"1\", \"nonce\":".to_owned()),
        ("\"nonce\":", "\"nonce\": \"0x\", \"nonce\":".to_owned()),
    ];
    for (from, to) in refused {
        let text = SPECIFIED.replace(from, &to);
        assert_ne!(text, SPECIFIED, "{from}");
        let refused = PaymentPayload::read(text.as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{to}");
    }
}

#[test]
fn the_second_signature_of_a_message_is_not_read() {
    // The order of the group less the s of a signature is an s of the same message.
    let order: Bytes32 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .unwrap();
    let (payment, _asked) = specified();
    let mut bytes = *payment.signed.signature.as_bytes();
    let (mut s, mut borrow) = ([0_u8; 32], 0_u16);
    for n in (0..32).rev() {
        let minuend = u16::from(order.as_bytes()[n]);
        let taken = u16::from(bytes[32 + n]) + borrow;
        borrow = u16::from(minuend < taken);
        s[n] = u8::try_from((minuend + 256 * borrow) - taken).unwrap();
    }
    bytes[32..64].copy_from_slice(&s);
    bytes[64] = 55 - bytes[64];
    assert_eq!(
        Signature::from_bytes(bytes).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn keys_and_signatures_do_not_show_themselves() {
    let (payment, _asked) = specified();
    let shown = format!("{:?} {:?}", test_key(), payment);
    assert!(
        !shown.contains("59c6995e") && !shown.contains("2d6a7588"),
        "{shown}"
    );
    assert!(
        shown.contains("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        "{shown}"
    );
    for wrong in [
        "",
        "0x00",
        "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690g",
    ] {
        let error = LocalKey::new(&Secret::from(wrong)).unwrap_err();
        assert!(!error.to_string().contains("59c6995e"));
    }
    let zero = format!("0x{}", "0".repeat(64));
    assert_eq!(
        LocalKey::new(&Secret::from(zero)).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}
