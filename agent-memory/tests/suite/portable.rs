//! Export and import, between backends and from hostile hands.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config as StoreConfig, Db, Durability};
use agent_core::{Classify, ErrorKind, Principal, Scope};
use agent_memory::backend::sqlite::Config;
use agent_memory::backend::{InMemory, Sqlite};
use agent_memory::conformance::Bench;
use agent_memory::portable::Portable;
use agent_memory::portable::jsonl::{Import, LINE_BYTES_MAX};
use agent_memory::{Error, Namespace};
use tempfile::TempDir;

async fn in_memory(bench: Bench) -> (Arc<dyn Portable>, ()) {
    (Arc::new(InMemory::new(bench.env, bench.embedder)), ())
}

async fn sqlite(bench: Bench) -> (Arc<dyn Portable>, TempDir) {
    let dir = TempDir::new().unwrap();
    let store = StoreConfig::new(dir.path().join("store.db"));
    let db = Db::open(store.with_durability(Durability::Nothing), &bench.env)
        .await
        .unwrap();
    let store = Sqlite::open(db, bench.env, bench.embedder, Config::new())
        .await
        .unwrap();
    (Arc::new(store), dir)
}

mod between_main_memories {
    agent_memory::portable_conformance!(super::in_memory, super::in_memory);
}

mod between_files {
    agent_memory::portable_conformance!(super::sqlite, super::sqlite);
}

mod from_main_memory_to_a_file {
    agent_memory::portable_conformance!(super::in_memory, super::sqlite);
}

mod from_a_file_to_main_memory {
    agent_memory::portable_conformance!(super::sqlite, super::in_memory);
}

const HEADER: &str =
    r#"{"type":"header","format":"agent-memory","version":1,"space":"s","dimensions":3}"#;

fn memory(
    id: &str,
    change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>),
) -> String {
    let mut line = serde_json::json!({
        "type": "memory", "namespace": "home", "id": id, "kind": "fact", "text": "a text",
        "occurred_ms": 1, "recorded_ms": 2, "valid_from_ms": 1, "actor": "host", "trust": "normal",
        "changes": [{"verb": "added", "at_ms": 2, "actor": "host"}],
    });
    change(line.as_object_mut().unwrap());
    line.to_string()
}

fn id(n: u128) -> String {
    agent_memory::MemoryId::from_bits(n).to_string()
}

async fn refused(lines: &[String]) -> (u64, ErrorKind) {
    let bench = Bench::new();
    let store = InMemory::new(bench.env, bench.embedder);
    let scope = Scope::new(Principal::host());
    let mut import = Import::new(&store, &scope).only_into(vec![Namespace::new("home").unwrap()]);
    let mut result = Ok(());
    for line in lines {
        result = import.push(format!("{line}\n").as_bytes()).await;
        if result.is_err() {
            break;
        }
    }
    let error = match result {
        Err(error) => error,
        Ok(()) => import.finish().await.unwrap_err(),
    };
    let kind = error.kind();
    let Error::Import { line, .. } = error else {
        panic!("an error of an import: {error}");
    };
    let spaces = store.namespaces(&scope).await.unwrap();
    assert!(spaces.is_empty(), "a batch that fails leaves nothing");
    (line, kind)
}

#[tokio::test]
async fn hostile_lines_are_refused_by_number() {
    let good = || memory(&id(1), |_| {});
    let with = |member: &'static str, value: serde_json::Value| {
        memory(&id(2), |line| {
            line.insert(member.to_owned(), value);
        })
    };
    let vector = |bytes: &str, scale: f64| {
        with(
            "vector",
            serde_json::json!({"space": "s", "scale": scale, "bytes": bytes}),
        )
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bad = [
        "{".to_owned(),
        String::new(),
        "null".to_owned(),
        "\u{0}".to_owned(),
        deep.clone(),
        format!(r#"{{"type":"memory","metadata":{deep}}}"#),
        HEADER.to_owned(),
        r#"{"type":"unheard of"}"#.to_owned(),
        r#"{"type":"end","lines":7}"#.to_owned(),
        good().replace("\"a text\"", "\"\\ud800\""),
        good().get(..40).unwrap().to_owned(),
        with("unknown", 1.into()),
        with("namespace", "../home".into()),
        with("namespace", "elsewhere".into()),
        with("namespace", "".into()),
        with("id", "mem_1".into()),
        with("kind", "rumour".into()),
        with("trust", "absolute".into()),
        with("actor", "".into()),
        with("text", "\u{200b}".into()),
        with("text", "x".repeat(70_000).into()),
        with("thread", "\u{7}".into()),
        with("metadata", serde_json::json!({"a": 1.5})),
        with("metadata", serde_json::json!({"a": {"b": 1}})),
        with("occurred_ms", 1e30.into()),
        with("valid_to_ms", 0.into()),
        with("valid_to_ms", 5.into()),
        with("recorded_ms", 3.into()),
        with("superseded_by", id(1).into()),
        with("changes", serde_json::json!([])),
        with(
            "changes",
            serde_json::json!([{"verb": "erased", "at_ms": 2, "actor": "host"}]),
        ),
        with("sources", serde_json::json!([id(2)])),
        with("sources", "x".into()),
        vector("", 1.0),
        vector("0", 1.0),
        vector("zz", 1.0),
        vector("80", 1.0),
        vector("00", 0.0),
        vector("00", -1.0),
        vector("00", 1e300),
        vector("00", 1.0).replace("\"scale\":1.0", "\"scale\":NaN"),
    ];
    for line in bad {
        let lines = [HEADER.to_owned(), good(), line.clone()];
        let shown = line.get(..line.len().min(120)).unwrap_or_default();
        assert_eq!(refused(&lines).await, (3, ErrorKind::Invalid), "{shown}");
    }
}

#[tokio::test]
async fn an_import_needs_its_header_and_its_end() {
    let good = memory(&id(1), |_| {});
    let end = |n: u64| format!(r#"{{"type":"end","lines":{n}}}"#);
    let newer = HEADER.replace("\"version\":1", "\"version\":2");
    let foreign = HEADER.replace("agent-memory", "another");
    let cases: [(Vec<String>, u64); 6] = [
        (vec![], 1),
        (vec![good.clone()], 1),
        (vec![newer], 1),
        (vec![foreign], 1),
        (vec![HEADER.to_owned(), good.clone()], 2),
        (vec![HEADER.to_owned(), good.clone(), end(3)], 3),
    ];
    for (lines, line) in cases {
        assert_eq!(
            refused(&lines).await,
            (line, ErrorKind::Invalid),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn an_endless_line_is_refused_at_the_limit() {
    let bench = Bench::new();
    let store = InMemory::new(bench.env, bench.embedder);
    let scope = Scope::new(Principal::host());
    let mut import = Import::new(&store, &scope);
    import.push(format!("{HEADER}\n").as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1_024 * 1_024];
    let mut n_taken = 0;
    let error = loop {
        match import.push(&piece).await {
            Ok(()) => n_taken += piece.len(),
            Err(error) => break error,
        }
    };
    assert!(n_taken <= LINE_BYTES_MAX);
    assert!(matches!(error, Error::Import { line: 2, .. }));
}

/// An id is one of a whole file: a copy into another namespace of it is refused.
#[tokio::test]
async fn a_file_has_one_space_of_ids() {
    let (store, _dir) = sqlite(Bench::new()).await;
    let scope = Scope::new(Principal::host());
    let import = |namespace: &'static str| {
        let line = memory(&id(1), |line| {
            line.insert("namespace".to_owned(), namespace.into());
        });
        let text = format!("{HEADER}\n{line}\n{{\"type\":\"end\",\"lines\":2}}\n");
        let (store, scope) = (Arc::clone(&store), scope.clone());
        async move {
            let mut import = Import::new(&*store, &scope);
            import.push(text.as_bytes()).await?;
            import.finish().await
        }
    };
    assert_eq!(import("home").await.unwrap().n_new, 1);
    let error = import("elsewhere").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(import("home").await.unwrap().n_left_out, 1);
}
