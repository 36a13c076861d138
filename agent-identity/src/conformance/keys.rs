//! The laws of a key store.

use std::sync::Arc;

use agent_core::{Classify, ErrorKind, Principal, Scope};

use crate::key_store::{KeyId, KeyName, KeyStore, MESSAGE_BYTES_MAX, NAMES_MAX};
use crate::{Key, Purpose};

type Store = Arc<dyn KeyStore>;

fn scope() -> Scope {
    Scope::new(Principal::host())
}

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

async fn generate(store: &Store, text: &str) -> Key {
    let mut keys = store.generate(&scope(), vec![name(text)]).await.unwrap();
    keys.remove(0)
}

/// The same name gives the same key, another name another.
pub async fn one_name_gives_one_key(store: Store) {
    let first = generate(&store, "a").await;
    assert_eq!(first, generate(&store, "a").await);
    assert_ne!(first.did, generate(&store, "b").await.did);
    assert_eq!(first.id, KeyId::from(first.did));
}

/// A batch returns its keys in the order of the names, also for a name given twice, and the same
/// keys when it is repeated.
pub async fn a_batch_keeps_its_order_and_repeats(store: Store) {
    let names: Vec<_> = ["c", "a", "b", "a"].map(name).into();
    let keys = store.generate(&scope(), names.clone()).await.unwrap();
    let found: Vec<_> = keys.iter().map(|key| key.name.clone()).collect();
    assert_eq!(found, names);
    assert_eq!(keys.get(1), keys.get(3));
    assert_eq!(store.generate(&scope(), names).await.unwrap(), keys);
}

/// A signature verifies for its purpose, bytes and signer, and for no others.
pub async fn signatures_verify_for_their_purpose_alone(store: Store) {
    let (key, other) = (generate(&store, "a").await, generate(&store, "b").await);
    let signature = store
        .sign(&scope(), key.id, Purpose::COMMIT, b"tree".to_vec())
        .await
        .unwrap();
    key.did
        .verify(&Purpose::COMMIT, b"tree", &signature)
        .unwrap();
    for (did, purpose, bytes) in [
        (key.did, Purpose::AUDIT_ROOT, &b"tree"[..]),
        (key.did, Purpose::COMMIT, b"tree2"),
        (other.did, Purpose::COMMIT, b"tree"),
    ] {
        let error = did.verify(&purpose, bytes, &signature).unwrap_err();
        assert_eq!(error.code(), "identity.bad_signature");
    }
}

/// The keys of a tenant do not exist for another, and the same name is another identity there.
pub async fn tenants_do_not_see_one_another(store: Store) {
    let key = generate(&store, "a").await;
    let other = scope().with_tenant("other");
    assert!(store.list(&other, None, 10).await.unwrap().is_empty());
    assert!(store.history(&other, name("a")).await.unwrap().is_empty());
    let signed = store
        .sign(&other, key.id, Purpose::MESSAGE, Vec::new())
        .await;
    assert_eq!(signed.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!store.remove(&other, name("a")).await.unwrap());
    let theirs = store.generate(&other, vec![name("a")]).await.unwrap();
    assert_ne!(theirs.first().map(|key| key.did), Some(key.did));
}

/// After a rotation the old key is kept for verification, signs nothing, and the name gives the
/// other key.
pub async fn a_rotated_key_verifies_and_signs_nothing(store: Store) {
    let old = generate(&store, "a").await;
    let signature = store
        .sign(&scope(), old.id, Purpose::RECEIPT, b"r".to_vec())
        .await
        .unwrap();
    let next = store.rotate(&scope(), name("a"), old.id).await.unwrap();
    assert_eq!((next.generation, next.retired), (1, None));
    assert_eq!(generate(&store, "a").await, next);
    let history = store.history(&scope(), name("a")).await.unwrap();
    let [newest, oldest] = history.as_slice() else {
        panic!("expected two keys, got {history:?}");
    };
    assert_eq!((newest, oldest.id), (&next, old.id));
    assert!(oldest.retired.is_some());
    oldest
        .did
        .verify(&Purpose::RECEIPT, b"r", &signature)
        .unwrap();
    let signed = store
        .sign(&scope(), old.id, Purpose::RECEIPT, Vec::new())
        .await;
    assert_eq!(signed.unwrap_err().code(), "identity.retired");
}

/// Of two rotations that expect the same key, one wins.
pub async fn of_two_rotations_one_wins(store: Store) {
    let old = generate(&store, "a").await;
    let scope = scope();
    let (one, two) = tokio::join!(
        store.rotate(&scope, name("a"), old.id),
        store.rotate(&scope, name("a"), old.id),
    );
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    let lost = one.and(two).unwrap_err();
    assert_eq!(lost.code(), "identity.not_current");
    assert_eq!(store.history(&scope, name("a")).await.unwrap().len(), 2);
}

/// A removed name has no keys; generated again it is another identity.
pub async fn a_removed_name_is_another_identity(store: Store) {
    let key = generate(&store, "a").await;
    assert!(store.remove(&scope(), name("a")).await.unwrap());
    assert!(!store.remove(&scope(), name("a")).await.unwrap());
    assert!(store.history(&scope(), name("a")).await.unwrap().is_empty());
    let signed = store
        .sign(&scope(), key.id, Purpose::MESSAGE, Vec::new())
        .await;
    assert_eq!(signed.unwrap_err().kind(), ErrorKind::NotFound);
    assert_ne!(generate(&store, "a").await.did, key.did);
}

/// Following pages returns every current key once, in the order of names.
pub async fn pages_cover_every_name_once(store: Store) {
    let names: Vec<_> = (0..7).map(|n| name(&format!("agent-{n}"))).collect();
    let keys = store.generate(&scope(), names.clone()).await.unwrap();
    let first = keys.first().unwrap();
    store
        .rotate(&scope(), first.name.clone(), first.id)
        .await
        .unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&scope(), after.clone(), 3).await.unwrap();
        assert!(page.len() <= 3 && page.iter().all(|key| key.retired.is_none()));
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        found.extend(page.into_iter().map(|key| key.name));
    }
    assert_eq!(found, names);
}

/// Unknown keys and names are not found.
pub async fn unknown_keys_are_not_found(store: Store) {
    let key = KeyId::from_bits(7);
    let signed = store
        .sign(&scope(), key, Purpose::MESSAGE, Vec::new())
        .await;
    assert_eq!(signed.unwrap_err().code(), "identity.unknown_key");
    let rotated = store.rotate(&scope(), name("nobody"), key).await;
    assert_eq!(rotated.unwrap_err().code(), "identity.unknown_name");
    assert!(
        store
            .history(&scope(), name("nobody"))
            .await
            .unwrap()
            .is_empty()
    );
}

/// Batches and messages above their bounds are refused.
pub async fn bounds_are_kept(store: Store) {
    let names = vec![name("a"); NAMES_MAX + 1];
    let error = store.generate(&scope(), names).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let key = generate(&store, "a").await;
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    let signed = store.sign(&scope(), key.id, Purpose::MESSAGE, long).await;
    assert_eq!(signed.unwrap_err().kind(), ErrorKind::Invalid);
}

/// `Debug` of a store shows no key material.
pub async fn no_secret_is_shown(store: Store) {
    generate(&store, "a").await;
    let shown = format!("{store:?}");
    for word in ["data_key:", "sealed:", "SigningKey"] {
        assert!(!shown.contains(word), "{shown}");
    }
}
