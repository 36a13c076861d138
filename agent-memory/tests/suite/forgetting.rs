//! Forgetting by policy: what the dry run says is what goes.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify, ErrorKind, Principal, Scope};
use agent_memory::backend::InMemory;
use agent_memory::conformance::Bench;
use agent_memory::forgetting::{Cause, Forgetter, Policy, Protection, labels};
use agent_memory::{
    Draft, Error, Kind, Listing, MemoryId, MemoryStore, MemoryStoreExt, Namespace, Query, Relabel,
    Selection, label,
};

const DAY: Duration = Duration::from_secs(86_400);

struct Desk {
    bench: Bench,
    store: Arc<InMemory>,
    scope: Scope,
    at: Namespace,
}

impl Desk {
    fn new() -> Self {
        let bench = Bench::new();
        let store = InMemory::new(bench.env.clone(), Arc::clone(&bench.embedder));
        Self {
            store: Arc::new(store),
            bench,
            scope: Scope::new(Principal::host()),
            at: Namespace::new("desk").unwrap(),
        }
    }

    async fn add(&self, draft: Draft) -> MemoryId {
        let added = self
            .store
            .add_one(&self.scope, self.at.clone(), draft)
            .await;
        // Ids of one millisecond are in no order.
        self.bench.advance(Duration::from_secs(1));
        added.unwrap().id
    }

    async fn label(&self, id: MemoryId, name: &str) {
        let labels = vec![(name.to_owned(), Relabel::Set(true.into()))];
        let at = self.at.clone();
        self.store
            .relabel(&self.scope, at, id, labels, "why".to_owned())
            .await
            .unwrap();
    }

    async fn ids(&self) -> Vec<MemoryId> {
        let listing = Listing::new().with_retired().with_quarantined();
        let all = self.store.list(&self.scope, self.at.clone(), listing).await;
        all.unwrap().into_iter().map(|memory| memory.id).collect()
    }

    fn by(&self, policy: Policy) -> Forgetter<Arc<InMemory>> {
        Forgetter::new(Arc::clone(&self.store), self.bench.env.clone(), policy).unwrap()
    }
}

#[tokio::test]
async fn an_empty_policy_forgets_nothing() {
    let desk = Desk::new();
    desk.add(Draft::event("long ago")).await;
    desk.bench.advance(DAY * 10_000);
    let forgetter = desk.by(Policy::new());
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    assert!(plan.doomed.is_empty() && plan.consolidations.is_empty());
}

#[tokio::test]
async fn applying_does_what_the_dry_run_says_and_the_dry_run_nothing() {
    let desk = Desk::new();
    let old = desk.add(Draft::event("an old event")).await;
    let fact = desk.add(Draft::fact("from it").derived_from(old)).await;
    desk.bench.advance(DAY * 20);
    let young = desk.add(Draft::event("a young event")).await;
    desk.bench.advance(DAY * 20);
    let forgetter = desk.by(Policy::new().with_ttl(Kind::Event, DAY * 30));
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    assert_eq!(plan, forgetter.plan(&desk.scope, &desk.at).await.unwrap());
    let said: Vec<(MemoryId, Cause)> = plan.doomed.iter().map(|d| (d.id, d.cause)).collect();
    assert_eq!(
        said,
        [(old, Cause::Expired), (fact, Cause::DerivedFrom(old))]
    );
    assert_eq!(desk.ids().await.len(), 3);
    let report = forgetter.apply(&desk.scope, &plan).await.unwrap();
    assert_eq!(report.erased, [old, fact]);
    assert_eq!(desk.ids().await, [young]);
    let again = forgetter.apply(&desk.scope, &plan).await.unwrap();
    assert!(again.erased.is_empty(), "repeating it is harmless");
}

#[tokio::test]
async fn use_keeps_a_memory_and_recall_alone_does_not() {
    let desk = Desk::new();
    let used = desk.add(Draft::fact("the heron nests by the lake")).await;
    let found = desk.add(Draft::fact("the heron nests by the sea")).await;
    let vital = Draft::fact("the heron is rare").with_label(labels::IMPORTANCE, 100);
    let vital = desk.add(vital).await;
    let policy = Policy::new().with_half_life(Kind::Fact, DAY * 10);
    let forgetter = desk.by(policy.with_strength_min(0.06));
    desk.bench.advance(DAY * 5);
    forgetter.used(&desk.scope, &desk.at, used).await.unwrap();
    for _ in 0..50 {
        let query = Query::new(desk.at.clone(), "heron");
        desk.store.search(&desk.scope, query).await.unwrap();
    }
    desk.bench.advance(DAY * 38);
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    let going: Vec<MemoryId> = plan.doomed.iter().map(|doomed| doomed.id).collect();
    assert_eq!(going, [found]);
    assert!(matches!(plan.doomed[0].cause, Cause::Faded(s) if s < 0.06 && s > 0.04));
    assert!(!going.contains(&vital));
}

#[tokio::test]
async fn the_weakest_go_when_there_are_too_many() {
    let desk = Desk::new();
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(desk.add(Draft::fact(format!("fact {n}"))).await);
        desk.bench.advance(DAY);
    }
    let policy = Policy::new().with_half_life(Kind::Fact, DAY * 1_000);
    let forgetter = desk.by(policy.with_capacity(4));
    forgetter.used(&desk.scope, &desk.at, ids[0]).await.unwrap();
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    let going: Vec<MemoryId> = plan.doomed.iter().map(|doomed| doomed.id).collect();
    assert_eq!(going, ids[1..3]);
    forgetter.apply(&desk.scope, &plan).await.unwrap();
    assert_eq!(desk.ids().await.len(), 4);
}

#[tokio::test]
async fn holds_pins_and_what_they_rest_on_stay() {
    let desk = Desk::new();
    let pinned = desk.add(Draft::event("pinned")).await;
    let held = desk.add(Draft::event("held")).await;
    let source = desk.add(Draft::event("a source")).await;
    let derived = desk.add(Draft::procedure("pinned too", source)).await;
    let other = desk.add(Draft::event("goes")).await;
    desk.label(pinned, label::PIN).await;
    desk.label(held, label::HOLD).await;
    desk.label(derived, label::PIN).await;
    desk.bench.advance(DAY * 40);
    let forgetter = desk.by(Policy::new().with_ttl(Kind::Event, DAY * 30));
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    let spared: Vec<(MemoryId, Protection)> = plan.spared.iter().map(|s| (s.id, s.by)).collect();
    let wanted = [
        (pinned, Protection::Pinned),
        (held, Protection::Held),
        (source, Protection::Supports(derived)),
    ];
    assert_eq!(spared, wanted);
    assert_eq!(
        forgetter.apply(&desk.scope, &plan).await.unwrap().erased,
        [other]
    );
    let what = Selection::Ids(vec![held]);
    let error = desk
        .store
        .forget(&desk.scope, desk.at.clone(), what, String::new())
        .await;
    assert!(matches!(error, Err(Error::Held { id, .. }) if id == held));
}

#[tokio::test]
async fn a_plan_that_is_out_of_date_erases_nothing() {
    let desk = Desk::new();
    let ids = [
        desk.add(Draft::event("one")).await,
        desk.add(Draft::event("two")).await,
    ];
    desk.bench.advance(DAY * 40);
    let forgetter = desk.by(Policy::new().with_ttl(Kind::Event, DAY * 30));
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    forgetter.used(&desk.scope, &desk.at, ids[1]).await.unwrap();
    let error = forgetter.apply(&desk.scope, &plan).await.unwrap_err();
    assert!(matches!(error, Error::StalePlan { id, .. } if id == ids[1]));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    desk.label(ids[0], label::HOLD).await;
    let error = forgetter.apply(&desk.scope, &plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(desk.ids().await.len(), 2);
}

#[tokio::test]
async fn a_faded_event_stays_while_a_fact_rests_on_it() {
    let desk = Desk::new();
    let source = desk.add(Draft::event("I live in Rome")).await;
    let fact = desk
        .add(Draft::fact("she lives in Rome").derived_from(source))
        .await;
    desk.bench.advance(DAY * 400);
    let forgetter = desk.by(Policy::new().with_half_life(Kind::Event, DAY));
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    assert!(plan.doomed.is_empty());
    assert_eq!(plan.spared[0].by, Protection::Supports(fact));
}

#[tokio::test]
async fn old_episodes_become_a_summary_that_links_back() {
    let desk = Desk::new();
    let mut episodes = Vec::new();
    for day in ["Monday", "Tuesday", "Wednesday"] {
        let text = format!("On {day} the garden was watered. Some small talk followed.");
        episodes.push(desk.add(Draft::event(text).in_thread("garden")).await);
    }
    desk.bench.advance(DAY * 40);
    let late = desk
        .add(Draft::event("The garden blooms.").in_thread("garden"))
        .await;
    let forgetter = desk.by(Policy::new().with_consolidation(DAY * 30));
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    assert_eq!(plan.consolidations[0].episodes, episodes);
    assert!(plan.consolidations[0].text.contains("garden was watered"));
    let report = forgetter.apply(&desk.scope, &plan).await.unwrap();
    let summary = report.summaries[0];
    let query = Query::new(desk.at.clone(), "garden");
    let hits = desk.store.search(&desk.scope, query).await.unwrap();
    let mut found: Vec<MemoryId> = hits.iter().map(|hit| hit.memory.id).collect();
    found.sort_unstable();
    assert_eq!(found, [late, summary]);
    let memory = desk
        .store
        .get(&desk.scope, desk.at.clone(), summary)
        .await
        .unwrap();
    assert_eq!(memory.provenance.sources, episodes);
    let again = forgetter.apply(&desk.scope, &plan).await.unwrap();
    assert_eq!(again.summaries, [summary], "repeating it adds nothing");
    let plan = forgetter.plan(&desk.scope, &desk.at).await.unwrap();
    assert!(plan.consolidations.is_empty());
    let what = Selection::Ids(vec![episodes[0]]);
    desk.store
        .forget(&desk.scope, desk.at.clone(), what, String::new())
        .await
        .unwrap();
    let gone = desk.store.get(&desk.scope, desk.at.clone(), summary).await;
    assert!(gone.is_err(), "an erased episode takes its summary with it");
}

/// Shorthand for a procedure derived from an event.
trait Procedure {
    fn procedure(text: &str, source: MemoryId) -> Draft;
}

impl Procedure for Draft {
    fn procedure(text: &str, source: MemoryId) -> Draft {
        Self::new(Kind::Procedure, text).derived_from(source)
    }
}
