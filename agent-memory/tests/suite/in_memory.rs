//! What holds for the backend in main memory alone.

use std::sync::Arc;

use agent_core::{IdempotencyKey, Principal, Scope};
use agent_memory::backend::InMemory;
use agent_memory::conformance::Bench;
use agent_memory::portable::Portable;
use agent_memory::{Draft, MemoryStore, MemoryStoreExt, Namespace, Selection};

/// Its receipts vouch for the erasure: nothing the store gives away holds the text any more, and
/// the key, of which only a digest is left, does not bring it back.
#[tokio::test]
async fn erased_text_is_nowhere_and_the_receipt_says_so() {
    let bench = Bench::new();
    let store = InMemory::new(bench.env.clone(), Arc::clone(&bench.embedder));
    let scope = Scope::new(Principal::host());
    let at = Namespace::new("home").unwrap();
    let key = IdempotencyKey::new("call-of-the-heron").unwrap();
    let draft = Draft::event("the heron's secret").because("heron told me");
    let draft = draft.with_key(key).with_label("bird", "heron");
    let id = store
        .add_one(&scope, at.clone(), draft.clone())
        .await
        .unwrap()
        .id;
    let derived = Draft::fact("a heron has secrets").derived_from(id);
    store.add_one(&scope, at.clone(), derived).await.unwrap();
    let given = store.give(&scope, at.clone(), None).await.unwrap();
    assert!(format!("{given:?}").contains("heron"));
    let what = Selection::Ids(vec![id]);
    let receipt = store.forget(&scope, at.clone(), what, "asked to".to_owned());
    let receipt = receipt.await.unwrap();
    assert_eq!(receipt.erased.len(), 2);
    assert!(receipt.is_scrubbed);
    let mut from = None;
    loop {
        let given = store.give(&scope, at.clone(), from).await.unwrap();
        assert!(!format!("{given:?}").contains("heron"), "{given:?}");
        from = given.next;
        if from.is_none() {
            break;
        }
    }
    assert!(store.add_one(&scope, at, draft).await.is_err());
}
