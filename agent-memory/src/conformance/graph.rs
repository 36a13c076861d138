//! Laws of relations.

use agent_core::{Classify, ErrorKind};

use super::{Subject, home, somebody};
use crate::{Direction, Draft, MemoryId, MemoryStoreExt, Node, Relation, Walk};

fn entity(name: &str) -> Node {
    Node::entity(name)
}

/// A walk returns a shortest path to each node within its depth, nearest first.
pub async fn relations_are_walked_by_the_shortest_path(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let id = subject.put(&scope, &at, Draft::event("Ana met Bo")).await;
    let relations = vec![
        Relation::new(id, "mentions", entity("Ana")),
        Relation::new(id, "mentions", entity("Bo")),
        Relation::new(entity("Bo"), "works at", entity("Acme")),
        Relation::new(entity("Acme"), "sits in", entity("Oslo")),
        Relation::new(entity("Ana"), "knows", entity("Oslo")).with_weight(0.25),
    ];
    store
        .relate(&scope, at.clone(), relations)
        .await
        .expect("related");
    let paths = |walk: Walk| store.paths(&scope, at.clone(), walk);
    let near = store
        .neighbours(&scope, at.clone(), entity("Ana"))
        .await
        .expect("near");
    assert_eq!(near, [entity("Oslo"), Node::from(id)]);
    let all = paths(Walk::from(id).with_depth(3)).await.expect("paths");
    let reached: Vec<(Node, usize)> = all
        .into_iter()
        .map(|path| (path.to, path.steps.len()))
        .collect();
    let expected = [("Ana", 1), ("Bo", 1), ("Oslo", 2), ("Acme", 2)];
    assert_eq!(reached, expected.map(|(name, n)| (entity(name), n)));
    let walk = Walk::from(id).to(entity("Oslo")).with_depth(6);
    let path = paths(walk.clone()).await.expect("a path").remove(0);
    assert_eq!(path.steps[1].label, "knows");
    assert!((path.steps[1].weight - 0.25).abs() < 1e-6);
    let long = walk.along("mentions").along("works at").along("sits in");
    assert_eq!(paths(long).await.expect("a path").remove(0).steps.len(), 3);
    let back = Walk::from(entity("Oslo")).with_direction(Direction::Out);
    assert!(paths(back).await.expect("none").is_empty());
    let few = Walk::from(id).with_depth(3).with_limit(2);
    assert_eq!(paths(few).await.expect("two").len(), 2);
    let again = Relation::new(entity("Ana"), "knows", entity("Oslo")).with_weight(1.0);
    store
        .relate(&scope, at.clone(), vec![again])
        .await
        .expect("related");
    let walk = Walk::from(entity("Ana")).to(entity("Oslo"));
    let paths = paths(walk).await.expect("a path");
    assert!(paths.len() == 1 && paths[0].steps[0].weight > 0.99);
}

/// Relations to unknown memories or beyond the limits are refused, all of the call.
pub async fn relations_need_their_ends(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let good = || Relation::new(entity("a"), "x", entity("b"));
    let refused = [
        (
            Relation::new(MemoryId::from_bits(9), "x", entity("b")),
            ErrorKind::NotFound,
        ),
        (
            Relation::new(entity("a"), "x", entity("a")),
            ErrorKind::Invalid,
        ),
        (
            Relation::new(entity(""), "x", entity("b")),
            ErrorKind::Invalid,
        ),
        (
            Relation::new(entity("a\0"), "x", entity("b")),
            ErrorKind::Invalid,
        ),
        (
            Relation::new(entity("a"), "", entity("b")),
            ErrorKind::Invalid,
        ),
        (
            Relation::new(entity("a"), "l".repeat(257), entity("b")),
            ErrorKind::Invalid,
        ),
        (good().with_weight(0.0), ErrorKind::Invalid),
        (good().with_weight(f32::NAN), ErrorKind::Invalid),
        (good().with_weight(1.5), ErrorKind::Invalid),
    ];
    for (bad, kind) in refused {
        let error = store.relate(&scope, at.clone(), vec![good(), bad]).await;
        assert_eq!(error.expect_err("no").kind(), kind);
    }
    let many = vec![good(); Relation::BATCH_MAX + 1];
    assert!(store.relate(&scope, at.clone(), many).await.is_err());
    let near = store.neighbours(&scope, at.clone(), entity("a")).await;
    assert!(near.expect("none").is_empty());
    for walk in [
        Walk::from(entity("a")).with_depth(0),
        Walk::from(entity("a")).with_depth(7),
        Walk::from(entity("a")).with_limit(0),
        Walk::from(entity("a")).with_limit(1_001),
        Walk::from(entity("")),
    ] {
        let error = store.paths(&scope, at.clone(), walk).await.expect_err("no");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
