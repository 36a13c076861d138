//! Random calls against a model of a few lines: what was added and not erased is there, is found
//! by a search for it, and nothing else is.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{IdempotencyKey, Principal, Scope};
use agent_memory::backend::sqlite::Config;
use agent_memory::backend::{InMemory, Sqlite};
use agent_memory::conformance::Bench;
use agent_memory::{
    Added, Draft, MemoryId, MemoryStore, MemoryStoreExt, Namespace, Query, Selection,
};
use proptest::prelude::*;
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Call {
    Add {
        place: usize,
        key: Option<u8>,
        text: u8,
    },
    Derive {
        place: usize,
        nth: usize,
        text: u8,
    },
    Forget {
        place: usize,
        nth: usize,
    },
    ForgetAll {
        place: usize,
    },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let place = 0..3_usize;
    let call = prop_oneof![
        5 => (place.clone(), proptest::option::of(0..4_u8), 0..6_u8)
            .prop_map(|(place, key, text)| Call::Add { place, key, text }),
        2 => (place.clone(), 0..20_usize, 0..6_u8)
            .prop_map(|(place, nth, text)| Call::Derive { place, nth, text }),
        2 => (place.clone(), 0..20_usize).prop_map(|(place, nth)| Call::Forget { place, nth }),
        1 => place.prop_map(|place| Call::ForgetAll { place }),
    ];
    proptest::collection::vec(call, 1..30)
}

/// Per place: memories in the order they were added, with text and source; and used keys.
#[derive(Default)]
struct Model {
    memories: Vec<(MemoryId, String, Option<MemoryId>)>,
    keys: BTreeMap<u8, (MemoryId, u8)>,
}

impl Model {
    fn nth(&self, nth: usize) -> Option<MemoryId> {
        self.memories.get(nth).map(|memory| memory.0)
    }

    fn check_added(&mut self, key: Option<u8>, text: u8, added: agent_memory::Result<Added>) {
        let Some((id, same)) = key.and_then(|key| self.keys.get(&key).copied()) else {
            let id = added.unwrap().id;
            self.memories.push((id, format!("word{text} spoken"), None));
            self.keys.extend(key.map(|key| (key, (id, text))));
            return;
        };
        if same == text && self.memories.iter().any(|memory| memory.0 == id) {
            let added = added.unwrap();
            assert_eq!((added.id, added.is_new), (id, false));
        } else {
            assert!(added.is_err());
        }
    }

    fn erase(&mut self, id: MemoryId) {
        self.memories.retain(|memory| memory.0 != id);
        while let Some(orphan) = self.memories.iter().find_map(|(derived, _, source)| {
            let source = (*source)?;
            let is_there = self.memories.iter().any(|memory| memory.0 == source);
            (!is_there).then_some(*derived)
        }) {
            self.memories.retain(|memory| memory.0 != orphan);
        }
    }
}

fn place(n: usize) -> (Scope, Namespace) {
    let tenant = ["one", "one", "two"][n];
    let namespace = ["a", "a/b", "a"][n];
    (
        Scope::new(Principal::host()).with_tenant(tenant),
        Namespace::new(namespace).unwrap(),
    )
}

async fn run(store: &dyn MemoryStore, calls: &[Call]) {
    let mut models = [Model::default(), Model::default(), Model::default()];
    for call in calls {
        let (Call::Add { place: n, .. }
        | Call::Derive { place: n, .. }
        | Call::Forget { place: n, .. }
        | Call::ForgetAll { place: n }) = *call;
        let (scope, at) = place(n);
        let model = &mut models[n];
        match *call {
            Call::Add { key, text, .. } => {
                let mut draft = Draft::event(format!("word{text} spoken"));
                if let Some(key) = key {
                    draft = draft.with_key(IdempotencyKey::new(format!("key{key}")).unwrap());
                }
                let added = store.add_one(&scope, at, draft).await;
                model.check_added(key, text, added);
            }
            Call::Derive { nth, text, .. } => {
                let Some(source) = model.nth(nth) else {
                    continue;
                };
                let text = format!("word{text} derived");
                let draft = Draft::fact(text.clone()).derived_from(source);
                let id = store.add_one(&scope, at, draft).await.unwrap().id;
                model.memories.push((id, text, Some(source)));
            }
            Call::Forget { nth, .. } => {
                let Some(id) = model.nth(nth) else { continue };
                let reason = String::new();
                store.forget_one(&scope, at, id, reason).await.unwrap();
                model.erase(id);
            }
            Call::ForgetAll { .. } => {
                let (what, reason) = (Selection::All, String::new());
                let receipt = store.forget(&scope, at, what, reason).await.unwrap();
                assert_eq!(receipt.erased.len(), model.memories.len());
                model.memories.clear();
            }
        }
    }
    for (n, model) in models.iter().enumerate() {
        compare(store, place(n), model).await;
    }
}

async fn compare(store: &dyn MemoryStore, (scope, at): (Scope, Namespace), model: &Model) {
    for (id, text, source) in &model.memories {
        let memory = store.get(&scope, at.clone(), *id).await.unwrap();
        assert_eq!(&memory.text, text);
        assert_eq!(memory.provenance.sources.first(), source.as_ref());
    }
    for word in 0..6 {
        let word = format!("word{word}");
        let query = Query::new(at.clone(), word.clone()).with_limit(1_000);
        let hits = store.search(&scope, query).await.unwrap();
        let mut found: Vec<MemoryId> = hits
            .iter()
            .filter(|hit| hit.explanation.keyword > 0.0)
            .map(|hit| hit.memory.id)
            .collect();
        found.sort();
        let mut expected: Vec<MemoryId> = model
            .memories
            .iter()
            .filter(|memory| memory.1.starts_with(&format!("{word} ")))
            .map(|memory| memory.0)
            .collect();
        expected.sort();
        assert_eq!(found, expected);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_agrees_with_the_model(calls in calls()) {
        let bench = Bench::new();
        let store = InMemory::new(bench.env, bench.embedder);
        runtime().block_on(run(&store, &calls));
    }

    #[test]
    fn sqlite_agrees_with_the_model(calls in calls()) {
        runtime().block_on(async {
            let dir = TempDir::new().unwrap();
            let bench = Bench::new();
            let config = StoreConfig::new(dir.path().join("store.db"));
            let config = config.with_durability(Durability::Nothing);
            let db = Db::open(config, &bench.env).await.unwrap();
            let store = Sqlite::open(db, bench.env, Arc::clone(&bench.embedder), Config::new())
                .await
                .unwrap();
            run(&store, &calls).await;
        });
    }
}
