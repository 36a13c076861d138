//! Laws of adding, retiring and history.

use std::time::Duration;

use agent_core::{Classify, ErrorKind, IdempotencyKey, Timestamp};

use super::{START, Subject, home, somebody};
use crate::{Draft, Error, MemoryId, MemoryStoreExt, Metadata, Query, Trust, Value, Verb};

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("a valid key")
}

/// What was added is returned with every field as given.
pub async fn added_memories_are_returned_as_given(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let text = "Ana said: \u{202e}\u{200b}h\u{e9}llo \u{1f600}\0 'quotes\" % _";
    let event = subject.put(&scope, &at, Draft::event(text)).await;
    let then = Timestamp::from_unix_ms(86_400_000);
    let draft = Draft::fact("Ana says hello.")
        .with_label("lang", "en")
        .with_label("n", 7)
        .with_label("ok", true)
        .in_thread("t1")
        .occurred_at(then)
        .valid(then, Some(START.after(Duration::from_secs(60))))
        .derived_from(event)
        .via("mail")
        .with_trust(Trust::Untrusted)
        .because("she said so");
    let fact = subject.put(&scope, &at, draft).await;
    let memory = store.get(&scope, at.clone(), event).await.expect("it");
    assert_eq!(memory.text, text);
    assert_eq!((memory.id, memory.occurred_at), (event, START));
    let memory = store.get(&scope, at.clone(), fact).await.expect("it");
    let labels = Metadata::from([
        ("lang".to_owned(), Value::from("en")),
        ("n".to_owned(), Value::from(7)),
        ("ok".to_owned(), Value::from(true)),
    ]);
    assert_eq!(memory.metadata, labels);
    assert_eq!(memory.thread.as_deref(), Some("t1"));
    assert_eq!((memory.occurred_at, memory.recorded_at), (then, START));
    assert_eq!(memory.valid_to, Some(START.after(Duration::from_secs(60))));
    assert_eq!(memory.provenance.sources, [event]);
    assert_eq!(memory.provenance.channel.as_deref(), Some("mail"));
    assert_eq!(memory.provenance.trust, Trust::Untrusted);
    let history = store.history(&scope, at, fact).await.expect("a history");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].verb, Verb::Added);
    assert_eq!(history[0].reason.as_deref(), Some("she said so"));
}

/// If one draft of a call cannot be added, none is.
pub async fn a_batch_is_added_whole_or_not_at_all(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let nobody = MemoryId::from_bits(1);
    let drafts = vec![
        Draft::event("the zebra crossed"),
        Draft::fact("zebras cross").derived_from(nobody),
    ];
    let error = store.add(&scope, at.clone(), drafts).await.expect_err("no");
    assert!(matches!(error, Error::NotFound { id, .. } if id == nobody));
    assert!(
        subject
            .found(&scope, Query::new(at, "zebra"))
            .await
            .is_empty()
    );
}

/// A key used again for the same draft returns the first id; for another draft it is a conflict.
pub async fn a_repeated_key_adds_nothing(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let draft = Draft::event("the kettle boiled").with_key(key("k1"));
    let first = store
        .add_one(&scope, at.clone(), draft.clone())
        .await
        .expect("added");
    let again = store
        .add_one(&scope, at.clone(), draft.clone())
        .await
        .expect("known");
    assert_eq!((first.is_new, again.is_new), (true, false));
    assert_eq!(first.id, again.id);
    let twice = vec![
        Draft::event("two in a call").with_key(key("k2")),
        Draft::event("two in a call").with_key(key("k2")),
    ];
    let both = store.add(&scope, at.clone(), twice).await.expect("added");
    assert_eq!((both[0].id, both[1].is_new), (both[1].id, false));
    let other = Draft::event("something else").with_key(key("k1"));
    let error = store
        .add_one(&scope, at.clone(), other)
        .await
        .expect_err("no");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        subject
            .found(&scope, Query::new(at.clone(), "kettle call"))
            .await
            .len(),
        2
    );
    let elsewhere = crate::Namespace::new("elsewhere").expect("a path");
    let added = store
        .add_one(&scope, elsewhere, draft)
        .await
        .expect("added");
    assert!(added.is_new, "keys belong to a namespace");
}

/// The key of the scope makes a whole call repeatable.
pub async fn a_scope_key_covers_a_batch(subject: Subject) {
    let at = home();
    let scope = somebody().with_idempotency_key(key("step-7"));
    let drafts = || vec![Draft::event("one fish"), Draft::event("two fish")];
    let first = subject
        .store
        .add(&scope, at.clone(), drafts())
        .await
        .expect("added");
    let again = subject
        .store
        .add(&scope, at.clone(), drafts())
        .await
        .expect("known");
    assert_ne!(first[0].id, first[1].id);
    assert!(again.iter().all(|added| !added.is_new));
    assert_eq!(first[1].id, again[1].id);
}

/// Drafts beyond the limits, or without anything to see, are refused.
pub async fn hostile_drafts_are_refused(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let many_labels = (0..33).fold(Draft::event("x"), |d, n| d.with_label(n.to_string(), n));
    let many_sources = (0..65).fold(Draft::fact("x"), |d, n| {
        d.derived_from(MemoryId::from_bits(n))
    });
    let refused = [
        Draft::event(""),
        Draft::event(" \n\t"),
        Draft::event("\u{200b}\u{feff}\u{2060}\u{200d}"),
        Draft::event("x".repeat(1 << 20)),
        Draft::event("x").in_thread(""),
        Draft::event("x").in_thread("t".repeat(257)),
        Draft::event("x").via("a\0b"),
        Draft::event("x").with_label("", 1),
        Draft::event("x").with_label("k", "v".repeat(1_025)),
        Draft::event("x").because("r".repeat(1_025)),
        Draft::fact("x").valid(START, Some(START)),
        many_labels,
        many_sources,
    ];
    for draft in refused {
        let error = store
            .add_one(&scope, at.clone(), draft)
            .await
            .expect_err("no");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let many = vec![Draft::event("x"); Draft::BATCH_MAX + 1];
    let error = store.add(&scope, at.clone(), many).await.expect_err("no");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(subject.found(&scope, Query::new(at, "x")).await.is_empty());
}

/// Vectors that are not finite, of another length or too few are refused, and nothing is added.
pub async fn a_broken_embedder_changes_nothing(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    for text in ["walrus !nan", "walrus !short", "walrus !few"] {
        let drafts = vec![Draft::event("walrus"), Draft::event(text)];
        let error = store.add(&scope, at.clone(), drafts).await.expect_err("no");
        assert!(matches!(error, Error::BadVector { .. }), "{text}");
        let error = store.search(&scope, Query::new(at.clone(), text)).await;
        assert!(matches!(error, Err(Error::BadVector { .. })), "{text}");
    }
    assert!(
        subject
            .found(&scope, Query::new(at, "walrus"))
            .await
            .is_empty()
    );
}

/// A canceled scope and one past its deadline are refused before anything changes.
pub async fn a_stopped_scope_changes_nothing(subject: Subject) {
    let (store, at) = (&subject.store, home());
    let canceled = somebody();
    canceled.cancellation.cancel();
    let late = somebody().with_deadline(START);
    for (scope, kind) in [(canceled, ErrorKind::Canceled), (late, ErrorKind::TimedOut)] {
        let error = store
            .add_one(&scope, at.clone(), Draft::event("late"))
            .await;
        assert_eq!(error.expect_err("no").kind(), kind);
        let error = store.search(&scope, Query::new(at.clone(), "late")).await;
        assert_eq!(error.expect_err("no").kind(), kind);
    }
    let found = subject.found(&somebody(), Query::new(at, "late")).await;
    assert!(found.is_empty());
}

/// A record's validity ends once, with a reason; it is found no more and stays readable.
pub async fn a_record_ends_once_and_keeps_its_history(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let id = subject
        .put(&scope, &at, Draft::fact("the office is in Rome"))
        .await;
    subject.bench.advance(Duration::from_secs(60));
    let end = START.after(Duration::from_secs(30));
    let retire = |to| store.retire(&scope, at.clone(), id, to, "it moved".to_owned());
    let early = retire(Timestamp::EPOCH).await.expect_err("no");
    assert_eq!(early.kind(), ErrorKind::Invalid);
    retire(end).await.expect("retired");
    let again = retire(end).await.expect_err("no");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let query = Query::new(at.clone(), "office");
    assert!(subject.found(&scope, query.clone()).await.is_empty());
    assert_eq!(subject.found(&scope, query.with_retired()).await.len(), 1);
    let memory = store.get(&scope, at.clone(), id).await.expect("it");
    assert_eq!(memory.valid_to, Some(end));
    let history = store
        .history(&scope, at.clone(), id)
        .await
        .expect("a history");
    let verbs: Vec<Verb> = history.iter().map(|change| change.verb).collect();
    assert_eq!(verbs, [Verb::Added, Verb::Retired]);
    assert_eq!(history[1].reason.as_deref(), Some("it moved"));
    assert_eq!(history[1].valid_to, Some(end));
    assert_eq!(history[1].at, START.after(Duration::from_secs(60)));
    let nobody = MemoryId::from_bits(3);
    let error = store.history(&scope, at, nobody).await.expect_err("no");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// A successor ends the validity of the record it replaces where its own begins, and only once.
pub async fn a_successor_ends_the_record_it_replaces(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let old = subject
        .put(&scope, &at, Draft::fact("the name is Bob"))
        .await;
    subject.bench.advance(Duration::from_secs(5));
    let draft = Draft::fact("the name is Alice")
        .superseding(old)
        .because("corrected");
    let new = subject.put(&scope, &at, draft.clone()).await;
    let texts = subject.texts(&scope, Query::new(at.clone(), "name")).await;
    assert_eq!(texts, ["the name is Alice"]);
    let memory = store.get(&scope, at.clone(), old).await.expect("it");
    assert_eq!(memory.superseded_by, Some(new));
    assert_eq!(memory.valid_to, Some(START.after(Duration::from_secs(5))));
    let history = store
        .history(&scope, at.clone(), old)
        .await
        .expect("a history");
    assert_eq!(history[1].verb, Verb::Superseded);
    assert_eq!(history[1].successor, Some(new));
    assert_eq!(history[1].reason.as_deref(), Some("corrected"));
    let error = store.add_one(&scope, at, draft).await.expect_err("no");
    assert!(matches!(error, Error::Retired { id, .. } if id == old));
}

/// An event cannot be retired, superseded, or supersede anything.
pub async fn events_are_immutable(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let event = subject.put(&scope, &at, Draft::event("it rained")).await;
    let retired = store
        .retire(&scope, at.clone(), event, START, String::new())
        .await;
    let replaced = store
        .add_one(
            &scope,
            at.clone(),
            Draft::fact("it snowed").superseding(event),
        )
        .await;
    let fact = subject.put(&scope, &at, Draft::fact("it rains")).await;
    let replacing = store
        .add_one(&scope, at, Draft::event("it hailed").superseding(fact))
        .await;
    assert_eq!(retired.expect_err("no").kind(), ErrorKind::Invalid);
    assert_eq!(replaced.expect_err("no").kind(), ErrorKind::Invalid);
    assert_eq!(replacing.expect_err("no").kind(), ErrorKind::Invalid);
}
