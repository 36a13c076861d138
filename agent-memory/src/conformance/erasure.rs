//! Laws of forgetting.

use agent_core::{Classify, ErrorKind, IdempotencyKey, Scope};

use super::{Subject, home, somebody};
use crate::{
    Draft, Error, MemoryId, MemoryStoreExt, Namespace, Node, Query, Relation, Selection, Verb,
};

async fn assert_gone(subject: &Subject, scope: &Scope, at: &Namespace, id: MemoryId) {
    let error = subject
        .store
        .get(scope, at.clone(), id)
        .await
        .expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let history = subject
        .store
        .history(scope, at.clone(), id)
        .await
        .expect("kept");
    let (last, before) = history.split_last().expect("changes");
    assert_eq!(last.verb, Verb::Erased);
    assert_eq!(last.reason.as_deref(), Some("asked to"));
    assert!(before.iter().all(|change| change.reason.is_none()));
}

/// An erased memory takes with it whatever was derived from it, directly or not, and its
/// relations; the rest stays. Erasing it again is no error.
pub async fn forgetting_takes_what_was_derived(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let event = subject
        .put(
            &scope,
            &at,
            Draft::event("my diagnosis is migraine").because("heard"),
        )
        .await;
    let other = subject
        .put(&scope, &at, Draft::event("the migraine clinic called"))
        .await;
    let fact = Draft::fact("has migraine")
        .derived_from(event)
        .derived_from(other);
    let fact = subject.put(&scope, &at, fact).await;
    let second = Draft::new(crate::Kind::Preference, "avoid migraine triggers").derived_from(fact);
    let second = subject.put(&scope, &at, second).await;
    let relations = vec![
        Relation::new(event, "mentions", Node::entity("diagnosis")),
        Relation::new(other, "mentions", Node::entity("clinic")),
    ];
    store
        .relate(&scope, at.clone(), relations)
        .await
        .expect("related");
    let reason = || "asked to".to_owned();
    let receipt = store
        .forget_one(&scope, at.clone(), event, reason())
        .await
        .expect("a receipt");
    let mut expected = vec![event, fact, second];
    expected.sort();
    assert_eq!((receipt.erased, receipt.n_relations), (expected.clone(), 1));
    for id in expected {
        assert_gone(&subject, &scope, &at, id).await;
    }
    let texts = subject
        .texts(
            &scope,
            Query::new(at.clone(), "migraine diagnosis").with_retired(),
        )
        .await;
    assert_eq!(texts, ["the migraine clinic called"]);
    let near = store
        .neighbours(&scope, at.clone(), Node::entity("diagnosis"))
        .await;
    assert!(near.expect("none").is_empty());
    let near = store
        .neighbours(&scope, at.clone(), Node::entity("clinic"))
        .await;
    assert_eq!(near.expect("one"), [Node::from(other)]);
    let again = store
        .forget_one(&scope, at.clone(), event, reason())
        .await
        .expect("a receipt");
    assert!(again.erased.is_empty());
    let many = Selection::Ids(vec![event; Selection::IDS_MAX + 1]);
    let error = store
        .forget(&scope, at.clone(), many, reason())
        .await
        .expect_err("no");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let long = store.forget_one(&scope, at, other, "r".repeat(1_025)).await;
    assert_eq!(long.expect_err("no").kind(), ErrorKind::Invalid);
}

/// Forgetting an entity erases its relations and the memories directly related to it.
pub async fn forgetting_an_entity_takes_what_is_about_it(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let about = subject
        .put(&scope, &at, Draft::event("Zoe likes chess"))
        .await;
    let kept = subject
        .put(&scope, &at, Draft::event("Yan likes chess"))
        .await;
    let relations = vec![
        Relation::new(about, "mentions", Node::entity("Zoe")),
        Relation::new(Node::entity("Zoe"), "knows", Node::entity("Yan")),
        Relation::new(kept, "mentions", Node::entity("Yan")),
    ];
    store
        .relate(&scope, at.clone(), relations)
        .await
        .expect("related");
    let what = Selection::Entity("Zoe".to_owned());
    let receipt = store
        .forget(&scope, at.clone(), what, "asked to".to_owned())
        .await
        .expect("done");
    assert_eq!((receipt.erased, receipt.n_relations), (vec![about], 2));
    assert_gone(&subject, &scope, &at, about).await;
    let texts = subject
        .texts(&scope, Query::new(at.clone(), "Zoe chess"))
        .await;
    assert_eq!(texts, ["Yan likes chess"]);
    let near = store
        .neighbours(&scope, at.clone(), Node::entity("Yan"))
        .await;
    assert_eq!(near.expect("one"), [Node::from(kept)]);
    let error = store
        .forget(&scope, at, Selection::Entity(String::new()), String::new())
        .await;
    assert_eq!(error.expect_err("no").kind(), ErrorKind::Invalid);
}

/// Forgetting all leaves no memory and no relation, and the namespace can be used again.
pub async fn forgetting_all_leaves_nothing(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let drafts = (0..50)
        .map(|n| Draft::event(format!("item {n}")).in_thread("t"))
        .collect();
    let added = store.add(&scope, at.clone(), drafts).await.expect("added");
    let relations = vec![
        Relation::new(Node::entity("a"), "x", Node::entity("b")),
        Relation::new(added[0].id, "x", Node::entity("b")),
    ];
    store
        .relate(&scope, at.clone(), relations)
        .await
        .expect("related");
    let reason = "asked to".to_owned();
    let receipt = store
        .forget(&scope, at.clone(), Selection::All, reason)
        .await
        .expect("done");
    assert_eq!((receipt.erased.len(), receipt.n_relations), (50, 2));
    assert!(
        subject
            .found(&scope, Query::new(at.clone(), "item"))
            .await
            .is_empty()
    );
    let near = store
        .neighbours(&scope, at.clone(), Node::entity("b"))
        .await;
    assert!(near.expect("none").is_empty());
    let id = subject
        .put(&scope, &at, Draft::event("item again").in_thread("t"))
        .await;
    let hits = subject.found(&scope, Query::new(at, "item")).await;
    assert_eq!(
        hits.iter().map(|hit| hit.memory.id).collect::<Vec<_>>(),
        [id]
    );
}

/// Repeating an `add` with the key of an erased memory does not bring it back.
pub async fn an_erased_key_does_not_come_back(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let key = IdempotencyKey::new("call-1").expect("a key");
    let draft = Draft::event("a slip of the tongue").with_key(key);
    let id = subject.put(&scope, &at, draft.clone()).await;
    let receipt = store
        .forget_one(&scope, at.clone(), id, "asked to".to_owned())
        .await;
    receipt.expect("a receipt");
    let error = store
        .add_one(&scope, at.clone(), draft)
        .await
        .expect_err("no");
    assert!(matches!(error, Error::Erased { id: of, .. } if of == id));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        subject
            .found(&scope, Query::new(at, "slip"))
            .await
            .is_empty()
    );
}
