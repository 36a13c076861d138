//! The laws of [`Portable`]: an old store, what is built on its bench, and an empty new one.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify, ErrorKind, IdempotencyKey};

use super::{Bench, home, somebody};
use crate::portable::jsonl::{Export, Import};
use crate::portable::{Item, Portable, Taken};
use crate::{
    AsOf, Draft, Error, Kind, MemoryId, MemoryStoreExt, Namespace, Node, Query, Relabel, Relation,
    Trust, Walk,
};

fn other() -> Namespace {
    Namespace::new("fleet/other").expect("a valid path")
}

fn keyed(text: &str) -> Draft {
    let key = IdempotencyKey::new("key-1").expect("a key");
    Draft::event(text).with_key(key).in_thread("t").via("mail")
}

/// Something of everything, in two namespaces. Returns an event, a fact derived from it and one
/// that is erased.
async fn fill(store: &Arc<dyn Portable>, bench: &Bench) -> [MemoryId; 3] {
    let (scope, at) = (somebody(), home());
    let add = |draft| store.add_one(&scope, at.clone(), draft);
    let event = add(keyed("Ana: I moved to Oslo \u{1f3d4}, \"quoted\"\n").with_label("n", 3_i64));
    let event = event.await.expect("added").id;
    let old = add(Draft::fact("Ana lives in Bergen").because("heard"))
        .await
        .expect("added")
        .id;
    let gone = add(Draft::event("a slip of the tongue").because("by mistake"));
    let gone = gone.await.expect("added").id;
    bench.advance(Duration::from_secs(60));
    let draft = Draft::fact("Ana lives in Oslo")
        .derived_from(event)
        .superseding(old)
        .with_trust(Trust::Verified)
        .with_label("flag", true)
        .because("she moved");
    let fact = add(draft).await.expect("added").id;
    let seat = add(Draft::new(Kind::Preference, "window seats"))
        .await
        .expect("added")
        .id;
    let relate = |relations| store.relate(&scope, at.clone(), relations);
    let lives = || Relation::new(Node::entity("Ana"), "lives in", Node::entity("Oslo"));
    let mentions = Relation::new(event, "mentions", Node::entity("Ana")).with_weight(0.3);
    relate(vec![mentions, lives()]).await.expect("related");
    bench.advance(Duration::from_secs(60));
    relate(vec![lives().with_weight(0.7)])
        .await
        .expect("replaced");
    for weight in [0.2, 0.9, 0.2, 0.9] {
        relate(vec![lives().with_weight(weight)])
            .await
            .expect("replaced");
    }
    let now = bench.env.clock.now();
    store
        .retire(&scope, at.clone(), seat, now, "no more".to_owned())
        .await
        .expect("retired");
    let labels = vec![("n".to_owned(), Relabel::Count(1))];
    store
        .relabel(&scope, at.clone(), event, labels, "seen".to_owned())
        .await
        .expect("labeled");
    store
        .forget_one(&scope, at, gone, "asked to".to_owned())
        .await
        .expect("erased");
    let drafts = (0..600)
        .map(|n| Draft::event(format!("note {n} of the log")))
        .collect();
    store.add(&scope, other(), drafts).await.expect("added");
    [event, fact, gone]
}

async fn export(store: &Arc<dyn Portable>) -> String {
    let scope = somebody();
    let namespaces = store.namespaces(&scope).await.expect("namespaces");
    let mut export = Export::new(&**store, &scope, namespaces);
    let mut text = String::new();
    while let Some(lines) = export.next().await.expect("lines") {
        text.push_str(&lines);
    }
    text
}

async fn import(store: &Arc<dyn Portable>, text: &str) -> crate::Result<Taken> {
    let scope = somebody();
    let mut import = Import::new(&**store, &scope);
    for piece in text.as_bytes().chunks(1_000) {
        import.push(piece).await?;
    }
    import.finish().await
}

async fn answers(store: &Arc<dyn Portable>, bench: &Bench) -> Vec<String> {
    let mut answers = Vec::new();
    let early = bench.env.clock.now();
    for text in ["where Ana lives", "note 17", "window seats", "Oslo"] {
        for as_of in [AsOf::now().valid_at(early), AsOf::moment(super::START)] {
            let query = Query::new(home(), text).also_in(other()).with_as_of(as_of);
            let hits = store.search(&somebody(), query).await.expect("a search");
            answers.extend(hits.iter().map(|hit| format!("{hit:?}")));
        }
    }
    let walk = Walk::from(Node::entity("Ana")).with_as_of(AsOf::moment(early));
    let paths = store.paths(&somebody(), home(), walk).await.expect("paths");
    answers.push(format!("{paths:?}"));
    answers
}

/// A copy gives the same export to the last byte and the same answers, keys hold in it, and taking
/// it again adds nothing.
pub async fn a_copy_is_the_same(old: Arc<dyn Portable>, new: Arc<dyn Portable>, bench: Bench) {
    let [event, _, gone] = fill(&old, &bench).await;
    let text = export(&old).await;
    let n_items = text.lines().count() - 2;
    let taken = import(&new, &text).await.expect("taken");
    assert_eq!((taken.n_new, taken.n_left_out), (n_items, 0));
    assert_eq!(export(&new).await, text);
    assert_eq!(answers(&new, &bench).await, answers(&old, &bench).await);
    for id in [event, gone] {
        let history = |store: Arc<dyn Portable>| async move {
            store
                .history(&somebody(), home(), id)
                .await
                .expect("a history")
        };
        let (old, new) = (
            history(Arc::clone(&old)).await,
            history(Arc::clone(&new)).await,
        );
        assert_eq!(new, old);
    }
    let taken = import(&new, &text).await.expect("taken");
    assert_eq!((taken.n_new, taken.n_left_out), (0, n_items));
    assert_eq!(export(&new).await, text);
    let draft = keyed("Ana: I moved to Oslo \u{1f3d4}, \"quoted\"\n").with_label("n", 3_i64);
    let again = new
        .add_one(&somebody(), home(), draft)
        .await
        .expect("known");
    assert_eq!((again.id, again.is_new), (event, false));
    let reused = new
        .add_one(&somebody(), home(), keyed("something else"))
        .await;
    assert!(matches!(reused, Err(Error::KeyReused { .. })));
    let mut theirs = somebody();
    theirs.tenant = "others".into();
    assert!(new.namespaces(&theirs).await.expect("none").is_empty());
}

/// Vectors that are left out are embedded again.
pub async fn a_copy_without_vectors_answers_the_same(
    old: Arc<dyn Portable>,
    new: Arc<dyn Portable>,
    bench: Bench,
) {
    fill(&old, &bench).await;
    let scope = somebody();
    let mut export = Export::new(&*old, &scope, vec![home(), other()]).without_vectors();
    let mut import = Import::new(&*new, &scope);
    while let Some(lines) = export.next().await.expect("lines") {
        assert!(!lines.contains("\"vector\""));
        import.push(lines.as_bytes()).await.expect("taken");
    }
    import.finish().await.expect("whole");
    assert_eq!(answers(&new, &bench).await, answers(&old, &bench).await);
}

/// What was erased in the store that takes does not come back, nor what was derived from it.
pub async fn taking_does_not_undo_an_erasure(
    old: Arc<dyn Portable>,
    new: Arc<dyn Portable>,
    bench: Bench,
) {
    let [event, fact, _] = fill(&old, &bench).await;
    let text = export(&old).await;
    import(&new, &text).await.expect("taken");
    let scope = somebody();
    new.forget_one(&scope, home(), event, "asked to".to_owned())
        .await
        .expect("erased");
    let erased = export(&new).await;
    let taken = import(&new, &text).await.expect("left out");
    assert_eq!(taken.n_new, 0);
    assert_eq!(export(&new).await, erased);
    assert!(!erased.contains("moved to Oslo"));
    for id in [event, fact] {
        let error = new.get(&scope, home(), id).await.expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

/// Items are taken all or none; what is refused says why.
pub async fn items_are_taken_whole_or_not_at_all(
    old: Arc<dyn Portable>,
    new: Arc<dyn Portable>,
    bench: Bench,
) {
    fill(&old, &bench).await;
    let (scope, at) = (somebody(), home());
    let part = old.give(&scope, at.clone(), None).await.expect("a part");
    let items = part.items;
    let derived = |item: &Item| match item {
        Item::Memory(kept) => !kept.memory.provenance.sources.is_empty(),
        Item::Erased(_) | Item::Relation(_) => false,
    };
    let mut backwards = items.clone();
    let place = backwards.iter().position(derived).expect("one");
    let item = backwards.remove(place);
    backwards.insert(0, item);
    let mut unfit = items.clone();
    if let Some(Item::Memory(kept)) = unfit.last_mut() {
        kept.memory.recorded_at = kept.memory.recorded_at.after(Duration::from_secs(1));
    }
    let mut unclean = items.clone();
    if let Some(Item::Memory(kept)) = unclean.last_mut()
        && let Some(vector) = &mut kept.vector
    {
        vector.scale = f32::NAN;
    }
    for (bad, kind) in [
        (backwards, ErrorKind::NotFound),
        (unfit, ErrorKind::Invalid),
        (unclean, ErrorKind::Invalid),
        (
            vec![items[0].clone(); Item::BATCH_MAX + 1],
            ErrorKind::Invalid,
        ),
    ] {
        let error = new.take(&scope, at.clone(), bad).await.expect_err("no");
        assert_eq!(error.kind(), kind);
        let given = new.give(&scope, at.clone(), None).await.expect("a part");
        assert!(given.items.is_empty(), "nothing was taken");
    }
    let error = new
        .take(&scope, other(), items.clone())
        .await
        .expect_err("no");
    assert_eq!(error.kind(), ErrorKind::Invalid, "of another namespace");
    new.take(&scope, at, items).await.expect("all");
}
