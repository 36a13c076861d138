//! Laws of the two times.

use std::time::Duration;

use agent_core::{Classify, ErrorKind, Scope, Timestamp};

use super::{START, Subject, home, somebody};
use crate::{
    AsOf, Draft, Listing, MemoryId, MemoryStoreExt, Namespace, Node, Query, Relabel, Relation, Walk,
};

const DAY: Duration = Duration::from_secs(86_400);

fn day(n: u32) -> Timestamp {
    START.after(DAY * n)
}

async fn homes(subject: &Subject, scope: &Scope, at: &Namespace, as_of: AsOf) -> Vec<String> {
    let query = Query::new(at.clone(), "where Ana lives").with_as_of(as_of);
    subject.texts(scope, query).await
}

/// Ana is known to live in Bergen from day 0. On day 10 it becomes known that she has lived in Oslo
/// since day 5.
async fn ana(subject: &Subject, scope: &Scope, at: &Namespace) -> [MemoryId; 2] {
    let bergen = subject
        .put(scope, at, Draft::fact("Ana lives in Bergen"))
        .await;
    subject.bench.advance(DAY * 10);
    let oslo = Draft::fact("Ana lives in Oslo")
        .valid(day(5), None)
        .superseding(bergen);
    let oslo = subject.put(scope, at, oslo).await;
    subject.bench.advance(DAY * 10);
    let labels = vec![("checked".to_owned(), Relabel::Set(true.into()))];
    let relabeled = subject
        .store
        .relabel(scope, at.clone(), bergen, labels, String::new());
    relabeled.await.expect("relabeled");
    [bergen, oslo]
}

/// A question as of a moment is answered by what held then according to what was known then, in
/// the state it was known in.
pub async fn a_question_as_of_a_moment_sees_what_was_believed(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let [bergen, oslo] = ana(&subject, &scope, &at).await;
    let cases = [
        (AsOf::now(), &["Ana lives in Oslo"][..]),
        (AsOf::moment(day(7)), &["Ana lives in Bergen"]),
        (AsOf::now().known_at(day(7)), &["Ana lives in Bergen"]),
        (AsOf::now().valid_at(day(7)), &["Ana lives in Oslo"]),
        (AsOf::now().valid_at(day(3)), &["Ana lives in Bergen"]),
        (AsOf::moment(day(10)), &["Ana lives in Oslo"]),
        (
            AsOf::moment(START.after(DAY * 10 - Duration::from_millis(1))),
            &["Ana lives in Bergen"],
        ),
        (AsOf::now().valid_at(Timestamp::EPOCH), &[]),
        (AsOf::now().known_at(Timestamp::EPOCH), &[]),
    ];
    for (as_of, expected) in cases {
        assert_eq!(
            homes(&subject, &scope, &at, as_of).await,
            expected,
            "{as_of:?}"
        );
    }
    let get = |id, as_of| store.get_as_of(&scope, at.clone(), id, as_of);
    let then = get(bergen, AsOf::moment(day(7))).await.expect("known");
    assert_eq!((then.valid_to, then.superseded_by), (None, None));
    let now = get(bergen, AsOf::now().valid_at(day(3))).await.expect("it");
    assert_eq!(
        (now.valid_to, now.superseded_by),
        (Some(day(5)), Some(oslo))
    );
    for (id, as_of) in [
        (bergen, AsOf::now().valid_at(day(5))),
        (oslo, AsOf::moment(day(9))),
        (oslo, AsOf::now().valid_at(day(4))),
    ] {
        let error = get(id, as_of).await.expect_err("not then");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let query = Query::new(at.clone(), "where Ana lives");
    let hits = subject
        .found(&scope, query.with_as_of(AsOf::moment(day(7))))
        .await;
    assert_eq!(hits[0].memory, then, "a hit is shown as it was known");
    let list = |listing: Listing| store.list(&scope, at.clone(), listing);
    let listed = list(Listing::new().with_as_of(AsOf::moment(day(7)))).await;
    assert_eq!(listed.expect("a page"), [then]);
    let all = Listing::new().with_as_of(AsOf::now().known_at(day(7)));
    assert_eq!(list(all.with_retired()).await.expect("a page").len(), 1);
}

/// An end that was moved is believed at each moment as it was known then, and `with_retired` drops
/// the condition on the time in the world alone.
pub async fn an_end_that_moved_is_believed_as_known(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let draft = Draft::fact("the licence runs").valid(day(0), Some(day(90)));
    let id = subject.put(&scope, &at, draft).await;
    subject.bench.advance(DAY);
    for (wait, end) in [(1, 60), (1, 30)] {
        store
            .retire(&scope, at.clone(), id, day(end), "shortened".to_owned())
            .await
            .expect("retired");
        subject.bench.advance(DAY * wait);
    }
    for (known, end) in [(0, 90), (1, 60), (2, 30), (9, 30)] {
        let as_of = AsOf::now().known_at(day(known)).valid_at(day(end - 1));
        let memory = store.get_as_of(&scope, at.clone(), id, as_of).await;
        assert_eq!(memory.expect("it holds").valid_to, Some(day(end)));
        let query = |valid| {
            let as_of = AsOf::now().known_at(day(known)).valid_at(day(valid));
            Query::new(at.clone(), "licence").with_as_of(as_of)
        };
        assert_eq!(subject.found(&scope, query(end - 1)).await.len(), 1);
        assert!(subject.found(&scope, query(end)).await.is_empty());
        let all = query(end).with_retired();
        assert_eq!(subject.found(&scope, all).await.len(), 1);
    }
    let before = AsOf::now().known_at(START.after(Duration::ZERO));
    let query = Query::new(at, "licence").with_as_of(before).with_retired();
    assert_eq!(subject.found(&scope, query).await.len(), 1);
}

async fn employers(subject: &Subject, scope: &Scope, at: &Namespace, as_of: AsOf) -> Vec<String> {
    let walk = Walk::from(Node::entity("Ana")).with_as_of(as_of);
    let paths = subject.store.paths(scope, at.clone(), walk).await;
    let weight = |path: crate::Path| format!("{} {}", path.to, path.steps[0].weight);
    paths.expect("paths").into_iter().map(weight).collect()
}

/// Relations are walked as of a moment; a version that is replaced stays known until then, an end
/// at the start says that it never held, and what is there just so is left alone.
pub async fn relations_are_walked_as_of_a_moment(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let works = |place: &str| Relation::new(Node::entity("Ana"), "works at", Node::entity(place));
    let relate = |relation: Relation| store.relate(&scope, at.clone(), vec![relation]);
    relate(works("Acme")).await.expect("related");
    relate(works("Brix").valid(day(0), Some(day(2))))
        .await
        .expect("related");
    subject.bench.advance(DAY * 10);
    relate(works("Acme").with_weight(0.5))
        .await
        .expect("replaced");
    relate(works("Acme").with_weight(0.5))
        .await
        .expect("left alone");
    subject.bench.advance(DAY * 10);
    relate(works("Acme").with_weight(0.5).until(day(15)))
        .await
        .expect("ended");
    relate(works("Cord").valid(day(15), None))
        .await
        .expect("related");
    relate(works("Dune")).await.expect("related");
    subject.bench.advance(DAY);
    relate(works("Dune").until(day(20)))
        .await
        .expect("never held");
    relate(works("Acme").valid(day(21), None))
        .await
        .expect("again");
    let cases: [(AsOf, &[&str]); 8] = [
        (AsOf::now(), &["entity:Acme 1", "entity:Cord 1"]),
        (AsOf::moment(day(1)), &["entity:Acme 1", "entity:Brix 1"]),
        (AsOf::moment(day(12)), &["entity:Acme 0.5"]),
        (
            AsOf::now().valid_at(day(1)),
            &["entity:Acme 0.5", "entity:Brix 1"],
        ),
        (AsOf::now().valid_at(day(16)), &["entity:Cord 1"]),
        (AsOf::moment(day(16)), &["entity:Acme 0.5"]),
        (AsOf::moment(day(20)), &["entity:Cord 1", "entity:Dune 1"]),
        (AsOf::now().known_at(Timestamp::EPOCH), &[]),
    ];
    for (as_of, expected) in cases {
        assert_eq!(
            employers(&subject, &scope, &at, as_of).await,
            expected,
            "{as_of:?}"
        );
    }
    for bad in [
        works("Acme").valid(day(3), Some(day(2))),
        works("Nowhere").until(day(1)),
    ] {
        let error = relate(bad).await.expect_err("it ends before it starts");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// What was erased is gone at every moment, with every version of its relations.
pub async fn erasure_reaches_into_the_past(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let [bergen, oslo] = ana(&subject, &scope, &at).await;
    let mentions = |weight| {
        let relation = Relation::new(bergen, "mentions", Node::entity("Ana"));
        vec![relation.with_weight(weight)]
    };
    store
        .relate(&scope, at.clone(), mentions(1.0))
        .await
        .expect("related");
    subject.bench.advance(DAY);
    store
        .relate(&scope, at.clone(), mentions(0.5))
        .await
        .expect("replaced");
    subject.bench.advance(DAY);
    let receipt = store
        .forget_one(&scope, at.clone(), bergen, "asked to".to_owned())
        .await
        .expect("a receipt");
    assert_eq!((receipt.erased, receipt.n_relations), (vec![bergen], 1));
    for moment in 0..22 {
        let as_of = AsOf::moment(day(moment));
        let texts = homes(&subject, &scope, &at, as_of).await;
        assert!(!texts.iter().any(|text| text.contains("Bergen")));
        assert!(
            store
                .get_as_of(&scope, at.clone(), bergen, as_of)
                .await
                .is_err()
        );
        assert!(employers(&subject, &scope, &at, as_of).await.is_empty());
    }
    let kept = store.get_as_of(&scope, at.clone(), oslo, AsOf::moment(day(20)));
    assert_eq!(kept.await.expect("it").text, "Ana lives in Oslo");
}
