//! Laws of labels, listings, holds and quarantine.

use std::time::Duration;

use agent_core::{Classify, ErrorKind};

use super::{START, Subject, home, somebody};
use crate::curate::labels::SUBJECT;
use crate::{
    Draft, Error, Filter, Kind, Listing, MemoryId, Namespace, Query, Relabel, Selection, Test,
    Value, Verb, label,
};

fn set(name: &str, value: impl Into<Value>) -> Vec<(String, Relabel)> {
    vec![(name.to_owned(), Relabel::Set(value.into()))]
}

/// What becomes known late, and held until a superseded record's end, comes between that record
/// and its successor; what would hold longer is a conflict.
pub async fn late_knowledge_comes_between_a_record_and_its_successor(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let day = |n: u64| START.after(Duration::from_secs(n * 86_400));
    let rome = Draft::fact("she lives in Rome").valid(day(0), None);
    let rome = subject.put(&scope, &at, rome).await;
    let oslo = Draft::fact("she lives in Oslo").valid(day(9), None);
    subject.put(&scope, &at, oslo.superseding(rome)).await;
    let paris = |to| {
        let draft = Draft::fact("she lives in Paris").valid(day(4), to);
        store.add(&scope, at.clone(), vec![draft.superseding(rome)])
    };
    for to in [None, Some(day(10))] {
        let error = paris(to).await.expect_err("no");
        assert!(matches!(error, Error::Retired { id, .. } if id == rome));
    }
    let added = paris(Some(day(9))).await.expect("it comes between");
    let memory = store.get(&scope, at.clone(), rome).await.expect("it");
    assert_eq!(memory.valid_to, Some(day(4)));
    assert_eq!(memory.superseded_by, Some(added[0].id));
}

/// Labels are set, counted and removed together or not at all; the history says that and why.
pub async fn labels_change_with_a_reason(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let draft = Draft::event("the otter dived").with_label("seen", 1);
    let id = subject.put(&scope, &at, draft).await;
    let changes = vec![
        ("kind".to_owned(), Relabel::Set("mammal".into())),
        ("dives".to_owned(), Relabel::Count(2)),
        ("seen".to_owned(), Relabel::Remove),
    ];
    let relabel =
        |changes, reason: &str| store.relabel(&scope, at.clone(), id, changes, reason.to_owned());
    relabel(changes, "looked it up").await.expect("labeled");
    let hostile = vec![
        ("kind".to_owned(), Relabel::Remove),
        (String::new(), Relabel::Count(1)),
    ];
    let error = relabel(hostile, "").await.expect_err("no");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = relabel(Vec::new(), &"r".repeat(1_025))
        .await
        .expect_err("no");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let memory = store.get(&scope, at.clone(), id).await.expect("it");
    let labels: Vec<(&str, &Value)> = memory
        .metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    assert_eq!(
        labels,
        [("dives", &Value::from(2)), ("kind", &Value::from("mammal"))]
    );
    let query = Query::new(at.clone(), "otter");
    let wanted = Filter::new().label("kind", Test::Is("mammal".into()));
    let found = subject
        .found(&scope, query.clone().with_filter(wanted))
        .await;
    assert_eq!(found.len(), 1, "a filter sees the change");
    let gone = Filter::new().label("seen", Test::Is(1.into()));
    assert!(
        subject
            .found(&scope, query.with_filter(gone))
            .await
            .is_empty()
    );
    let history = store.history(&scope, at.clone(), id).await.expect("one");
    assert_eq!(history[1].verb, Verb::Labeled);
    assert_eq!(history[1].reason.as_deref(), Some("looked it up"));
    let nobody = MemoryId::from_bits(4);
    let error = store
        .relabel(&scope, at, nobody, set("a", 1), String::new())
        .await;
    assert_eq!(error.expect_err("no").kind(), ErrorKind::NotFound);
}

/// What is decided by a record's labels is written only while they are as they were read.
pub async fn a_successor_can_ask_for_unchanged_labels(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let draft = Draft::fact("the otter is asleep").with_label("seen", 1);
    let old = subject.put(&scope, &at, draft).await;
    let read = store.get(&scope, at.clone(), old).await.expect("it");
    store
        .relabel(&scope, at.clone(), old, set("seen", 2), String::new())
        .await
        .expect("labeled");
    subject.bench.advance(Duration::from_secs(60));
    let awake = |labels| {
        let draft = Draft::fact("the otter is awake").superseding(old);
        let beside = Draft::event("the otter stirs");
        store.add(&scope, at.clone(), vec![beside, draft.if_labeled(labels)])
    };
    let error = awake(read.metadata).await.expect_err("no");
    assert!(matches!(error, Error::Relabeled { id, .. } if id == old));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let now = store.get(&scope, at.clone(), old).await.expect("it");
    assert_eq!(now.valid_to, None, "nothing was written");
    let listed = store.list(&scope, at.clone(), Listing::new()).await;
    assert_eq!(listed.expect("a list").len(), 1, "nothing was written");
    let added = awake(now.metadata).await.expect("unchanged since");
    let ended = store.get(&scope, at.clone(), old).await.expect("it");
    assert_eq!(ended.superseded_by, Some(added[1].id));
}

/// A number that is raised never falls, whoever writes last.
pub async fn a_raised_label_never_falls(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let draft = Draft::fact("seen lately").with_label("at", "long ago");
    let id = subject.put(&scope, &at, draft).await;
    for (to, expected) in [(-5, -5), (7, 7), (3, 7), (i64::MIN, 7)] {
        let labels = vec![("at".to_owned(), Relabel::Raise(to))];
        let raised = store.relabel(&scope, at.clone(), id, labels, String::new());
        raised.await.expect("raised");
        let memory = store.get(&scope, at.clone(), id).await.expect("it");
        assert_eq!(memory.metadata.get("at"), Some(&Value::from(expected)));
    }
}

/// Counts added by several writers at once are all there.
pub async fn a_count_of_many_writers_is_their_sum(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let id = subject.put(&scope, &at, Draft::fact("used often")).await;
    let one = || {
        let labels = vec![("uses".to_owned(), Relabel::Count(1))];
        store.relabel(&scope, at.clone(), id, labels, String::new())
    };
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    let memory = store.get(&scope, at, id).await.expect("it");
    assert_eq!(memory.metadata.get("uses"), Some(&Value::from(3)));
}

/// What is under legal hold is not erased, by whatever selection and whatever it is derived from,
/// and nothing else of that call is; once the hold is lifted it is.
pub async fn a_held_memory_cannot_be_erased(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let event = subject.put(&scope, &at, Draft::event("the contract")).await;
    let draft = Draft::fact("the contract ends in May").derived_from(event);
    let held = subject.put(&scope, &at, draft).await;
    let relabel = |value: bool| {
        let labels = set(label::HOLD, value);
        store.relabel(&scope, at.clone(), held, labels, "case 7".to_owned())
    };
    relabel(true).await.expect("held");
    for what in [
        Selection::Ids(vec![held]),
        Selection::Ids(vec![event]),
        Selection::All,
    ] {
        let error = store
            .forget(&scope, at.clone(), what, "asked".to_owned())
            .await
            .expect_err("no");
        assert!(matches!(error, Error::Held { id, .. } if id == held));
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
    let found = subject
        .found(&scope, Query::new(at.clone(), "contract"))
        .await;
    assert_eq!(found.len(), 2);
    relabel(false).await.expect("lifted");
    let receipt = store
        .forget(&scope, at.clone(), Selection::All, "asked".to_owned())
        .await
        .expect("erased");
    assert_eq!(receipt.erased.len(), 2);
}

/// A quarantined or archived memory is neither found nor listed unless asked for, and is both once
/// released.
pub async fn quarantined_memories_are_left_out(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let draft = Draft::event("a strange parcel").with_label(label::QUARANTINE, "odd");
    let id = subject.put(&scope, &at, draft).await;
    let query = || Query::new(at.clone(), "parcel");
    let list = |listing| store.list(&scope, at.clone(), listing);
    assert!(subject.found(&scope, query()).await.is_empty());
    assert!(list(Listing::new()).await.expect("a page").is_empty());
    let found = subject.found(&scope, query().with_quarantined()).await;
    assert_eq!(found.len(), 1);
    let page = list(Listing::new().with_quarantined()).await;
    assert_eq!(page.expect("a page").len(), 1);
    let release = vec![(label::QUARANTINE.to_owned(), Relabel::Remove)];
    store
        .relabel(&scope, at.clone(), id, release, "checked".to_owned())
        .await
        .expect("released");
    assert_eq!(subject.found(&scope, query()).await.len(), 1);
    let archive = set(label::ARCHIVED, "mem");
    store
        .relabel(&scope, at.clone(), id, archive, "summarised".to_owned())
        .await
        .expect("archived");
    assert!(subject.found(&scope, query()).await.is_empty());
    let found = subject.found(&scope, query().with_quarantined()).await;
    assert_eq!(found.len(), 1);
}

/// Pages put together list every memory that passes once, in the order of the ids.
pub async fn pages_list_every_memory_once(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let mut ids = Vec::new();
    for n in 0..5_i64 {
        let draft = Draft::fact(format!("fact {n}")).with_label("n", n);
        ids.push(subject.put(&scope, &at, draft).await);
    }
    subject.put(&scope, &at, Draft::event("an event")).await;
    let gone = ids.remove(2);
    store
        .retire(&scope, at.clone(), gone, START, "over".to_owned())
        .await
        .expect("retired");
    let facts = || Listing::new().with_filter(Filter::new().kind(Kind::Fact));
    let list = |listing| store.list(&scope, at.clone(), listing);
    let (mut listed, mut listing) = (Vec::new(), facts().with_limit(3));
    loop {
        let page = list(listing.clone()).await.expect("a page");
        listed.extend(page.iter().map(|memory| memory.id));
        let Some(last) = page.last().filter(|_| page.len() == 3) else {
            break;
        };
        listing = listing.after(last.id);
    }
    ids.sort_unstable();
    assert_eq!(listed, ids);
    let all = list(facts().with_retired()).await.expect("a page");
    assert_eq!(all.len(), 5);
    for limit in [0, Listing::LIMIT_MAX + 1] {
        let error = list(Listing::new().with_limit(limit))
            .await
            .expect_err("no");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let elsewhere = Namespace::new("elsewhere").expect("a path");
    let page = store.list(&scope, elsewhere, Listing::new()).await;
    assert!(page.expect("a page").is_empty());
}

/// A slot lists what fills it and a subject what is about it, as labels change and memories go.
pub async fn a_slot_lists_what_fills_it(subject: Subject) {
    let (store, scope, at) = (&subject.store, somebody(), home());
    let slot = |name: &str| {
        let filter = Filter::new().label(label::SLOT, Test::Is(name.into()));
        store.list(&scope, at.clone(), Listing::new().with_filter(filter))
    };
    let put = |text: &str| {
        Draft::fact(text)
            .with_label(label::SLOT, "ana/home")
            .with_label(SUBJECT, "ana")
    };
    let of_ana = |filter: Filter| {
        let filter = filter.label(SUBJECT, Test::Is("ana".into()));
        store.list(&scope, at.clone(), Listing::new().with_filter(filter))
    };
    let rome = subject.put(&scope, &at, put("Rome")).await;
    let oslo = subject.put(&scope, &at, put("Oslo")).await;
    assert_eq!(slot("ana/home").await.expect("a page").len(), 2);
    store
        .relabel(
            &scope,
            at.clone(),
            rome,
            set(label::SLOT, "ana/birthplace"),
            String::new(),
        )
        .await
        .expect("moved");
    assert_eq!(slot("ana/home").await.expect("a page")[0].id, oslo);
    assert_eq!(slot("ana/birthplace").await.expect("a page")[0].id, rome);
    store
        .forget(
            &scope,
            at.clone(),
            Selection::Ids(vec![oslo]),
            String::new(),
        )
        .await
        .expect("erased");
    assert!(slot("ana/home").await.expect("a page").is_empty());
    let left = of_ana(Filter::new()).await.expect("a page");
    assert_eq!((left.len(), left[0].id), (1, rome));
    let events = of_ana(Filter::new().kind(Kind::Event)).await;
    assert!(
        events.expect("a page").is_empty(),
        "the rest of the filter holds"
    );
}
