//! Laws of tenants and namespaces.

use agent_core::{Classify, ErrorKind};

use super::{Subject, home, somebody};
use crate::{Draft, MemoryStoreExt, Namespace, Node, Query, Relation, Selection};

/// Nothing of another tenant or namespace is found, read, changed, related or erased.
pub async fn partitions_never_see_one_another(subject: Subject) {
    let (store, at) = (&subject.store, home());
    let (ours, theirs) = (
        somebody().with_tenant("ours"),
        somebody().with_tenant("theirs"),
    );
    let above = Namespace::new("fleet/pool").expect("a path");
    let id = subject
        .put(&ours, &at, Draft::fact("the safe opens with 1234"))
        .await;
    let relation = Relation::new(id, "about", Node::entity("safe"));
    store
        .relate(&ours, at.clone(), vec![relation.clone()])
        .await
        .expect("related");
    for (scope, at) in [(&theirs, &at), (&ours, &above)] {
        let query = Query::new(at.clone(), "the safe opens with 1234").with_retired();
        assert!(subject.found(scope, query).await.is_empty());
        let got = store.get(scope, at.clone(), id).await.expect_err("no");
        let history = store.history(scope, at.clone(), id).await.expect_err("no");
        let retired = store
            .retire(scope, at.clone(), id, super::START, String::new())
            .await
            .expect_err("no");
        let derived = store
            .add_one(scope, at.clone(), Draft::fact("derived").derived_from(id))
            .await
            .expect_err("no");
        let related = store
            .relate(scope, at.clone(), vec![relation.clone()])
            .await
            .expect_err("no");
        for error in [got, history, retired, derived, related] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        let near = store
            .neighbours(scope, at.clone(), Node::entity("safe"))
            .await;
        assert!(near.expect("an answer").is_empty());
        for what in [
            Selection::Ids(vec![id]),
            Selection::All,
            Selection::Entity("safe".into()),
        ] {
            let receipt = store.forget(scope, at.clone(), what, String::new()).await;
            assert!(receipt.expect("a receipt").erased.is_empty());
        }
    }
    assert!(store.get(&ours, at, id).await.is_ok());
}

/// Names that could be taken for something else are refused.
pub async fn hostile_scopes_are_refused(subject: Subject) {
    let deep = ["x"; 9].join("/");
    let long = "x".repeat(129);
    let paths = [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a b",
        "a\0",
        "a\n",
        "a%",
        "a'--",
        "a*",
        "\u{430}",
        "a\u{200b}",
        &deep,
        &long,
    ];
    for path in paths {
        let error = Namespace::new(path).expect_err(path);
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(Namespace::new("fleet/pool-1/did:key:z6Mk/user@example.org").is_ok());
    let long = "t".repeat(257);
    for tenant in ["", " ", "a b", "a\0b", "a\u{85}b", &long] {
        let scope = somebody().with_tenant(tenant);
        let added = subject
            .store
            .add_one(&scope, home(), Draft::event("x"))
            .await;
        let found = subject.store.search(&scope, Query::new(home(), "x")).await;
        let all = subject
            .store
            .forget(&scope, home(), Selection::All, String::new())
            .await;
        assert_eq!(added.expect_err("no").kind(), ErrorKind::Invalid);
        assert_eq!(found.expect_err("no").kind(), ErrorKind::Invalid);
        assert_eq!(all.expect_err("no").kind(), ErrorKind::Invalid);
    }
    for (one, other) in [("a/b", "c"), ("a", "b/c")] {
        let scope = somebody().with_tenant(one);
        let at = Namespace::new(other).expect("a path");
        subject
            .put(&scope, &at, Draft::event(format!("{one} and {other}")))
            .await;
        assert_eq!(subject.found(&scope, Query::new(at, "and")).await.len(), 1);
    }
}

/// Several namespaces are searched if each is named, and each hit says where it is from.
pub async fn a_union_of_namespaces_is_explicit(subject: Subject) {
    let scope = somebody();
    let (mine, shared) = (home(), Namespace::new("fleet").expect("a path"));
    subject
        .put(&scope, &mine, Draft::event("the red bicycle"))
        .await;
    subject
        .put(&scope, &shared, Draft::event("the blue bicycle"))
        .await;
    let one = Query::new(mine.clone(), "bicycle");
    assert_eq!(subject.found(&scope, one.clone()).await.len(), 1);
    let both = subject.found(&scope, one.also_in(shared.clone())).await;
    let mut places: Vec<_> = both.into_iter().map(|hit| hit.memory.namespace).collect();
    places.sort();
    assert_eq!(places, [shared, mine]);
}
