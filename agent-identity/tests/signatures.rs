//! Identities and signatures, without a key store where none is needed.

use agent_core::{Classify, Env, Principal, Scope};
use agent_identity::backend::InMemoryKeyStore;
use agent_identity::{DidKey, KeyName, KeyStore, Purpose, Signature};
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

/// The seeds `00…00` to `00…04` of the did:key specification's test vectors.
const SPECIFICATION: [&str; 5] = [
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
    "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG",
    "did:key:z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf",
    "did:key:z6MkvqoYXQfDDJRv8L4wKzxYeuKyVZBfi9Qo6Ro8MiLH3kDQ",
    "did:key:z6MkwW6aqMnjgrhJXFUko3NnZPGzVpkNzhYK7yEhnsibmLwL",
];

#[test]
fn the_vectors_of_the_specification_hold() {
    for (n, text) in (0_u8..).zip(SPECIFICATION) {
        let mut seed = [0; 32];
        seed[31] = n;
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        let did = DidKey::from_public_key(public).unwrap();
        assert_eq!(did.to_string(), text);
        assert_eq!(text.parse::<DidKey>().unwrap(), did);
        let principal = Principal::try_from(did).unwrap();
        assert_eq!(principal.as_str(), text);
        assert_eq!(DidKey::try_from(&principal).unwrap(), did);
    }
}

#[test]
fn other_spellings_and_methods_are_refused() {
    let good = SPECIFICATION[0];
    let fragment = format!("{good}#{}", good.get(8..).unwrap());
    let upper = good.to_uppercase();
    let padded = format!("{good} ");
    for text in [
        "",
        "did:key:",
        good.get(..55).unwrap(),
        &fragment,
        &upper,
        &padded,
        "did:web:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
        // X25519, secp256k1 and P-256 keys of the specification.
        "did:key:z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169",
    ] {
        assert_eq!(
            text.parse::<DidKey>().unwrap_err().code(),
            "identity.invalid",
            "{text}"
        );
    }
}

#[test]
fn weak_and_non_canonical_keys_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    // y = 2^255 - 16: the point of y = 3 in an encoding above the prime.
    let mut high = [0xff; 32];
    high[0] = 0xf0;
    high[31] = 0x7f;
    for bytes in [identity, [0; 32], high] {
        DidKey::from_public_key(bytes).unwrap_err();
    }
}

#[test]
fn a_bare_ed25519_signature_proves_nothing_here() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let did = DidKey::from_public_key(key.verifying_key().to_bytes()).unwrap();
    let bare = Signature::from_bytes(key.sign(b"message").to_bytes());
    did.verify(&Purpose::MESSAGE, b"message", &bare)
        .unwrap_err();
}

#[test]
fn purposes_of_the_host_are_apart_from_ours() {
    assert_eq!(
        Purpose::custom("acme.invoice").unwrap().as_str(),
        "acme.invoice"
    );
    for name in [
        "grant",
        "commit",
        "",
        "Acme.invoice",
        "acme invoice.x",
        &".".repeat(65),
    ] {
        Purpose::custom(name).unwrap_err();
    }
}

#[tokio::test]
async fn a_signature_has_one_text_and_malleable_forms_fail() {
    let store = InMemoryKeyStore::new(&Env::system());
    let scope = Scope::new(Principal::host());
    let names = vec![KeyName::new("a").unwrap()];
    let key = store.generate(&scope, names).await.unwrap().remove(0);
    let signature = store
        .sign(&scope, key.id, Purpose::MESSAGE, b"m".to_vec())
        .await
        .unwrap();
    let text = signature.to_string();
    assert_eq!(text.parse::<Signature>().unwrap(), signature);
    // The last of 86 digits carries four bits: another digit with the same bits is refused.
    let last = text.chars().next_back().unwrap();
    let other = char::from_u32(u32::from(last) + 1).unwrap();
    let twisted = format!("{}{other}", text.strip_suffix(last).unwrap());
    assert!(
        twisted
            .parse::<Signature>()
            .map_or(true, |parsed| parsed != signature)
    );
    // s + L verifies under lax rules.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut malleable = *signature.as_bytes();
    let mut carry = 0_u16;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let malleable = Signature::from_bytes(malleable);
    key.did.verify(&Purpose::MESSAGE, b"m", &signature).unwrap();
    key.did
        .verify(&Purpose::MESSAGE, b"m", &malleable)
        .unwrap_err();
}

proptest! {
    #[test]
    fn parsers_survive_any_text(text in ".{0,120}", digits in "[1-9A-HJ-NP-Za-km-z]{47}") {
        let _ = text.parse::<DidKey>();
        let _ = text.parse::<Signature>();
        let _ = KeyName::new(text);
        let did = format!("did:key:z{digits}");
        if let Ok(parsed) = did.parse::<DidKey>() {
            prop_assert_eq!(parsed.to_string(), did);
        }
    }
}
