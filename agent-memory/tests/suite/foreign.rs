//! Memories of other systems, in the forms those write.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use agent_core::{Classify, ErrorKind, Principal, Scope};
use agent_memory::backend::InMemory;
use agent_memory::conformance::Bench;
use agent_memory::foreign::{Foreign, langgraph, letta, mem0, mem0_history};
use agent_memory::portable::{Item, Portable};
use agent_memory::{
    Error, Kind, Listing, Memory, MemoryStore, Namespace, Query, Result, Trust, Value, Verb,
};

/// Adds what was read, twice, and returns what is there by place.
async fn imported(read: &[Foreign]) -> Vec<(String, Memory)> {
    let bench = Bench::new();
    let store = InMemory::new(bench.env, Arc::clone(&bench.embedder));
    let scope = Scope::new(Principal::host());
    let root = Namespace::new("import").unwrap();
    let mut found = Vec::new();
    for round in 0..2 {
        for foreign in read {
            let at = foreign.place_below(&root).unwrap();
            let draft = foreign.draft.clone();
            let added = store.add(&scope, at.clone(), vec![draft]).await.unwrap();
            assert_eq!(added[0].is_new, round == 0, "twice adds nothing");
            if round == 0 {
                let memory = store.get(&scope, at.clone(), added[0].id).await.unwrap();
                found.push((at.as_str().to_owned(), memory));
            }
        }
    }
    found
}

fn text(value: &str) -> Value {
    Value::from(value)
}

#[tokio::test]
async fn what_mem0_returns_is_read() {
    let file = include_bytes!("../fixtures/mem0-get-all.json");
    let found = imported(&mem0(file).unwrap()).await;
    assert_eq!(found.len(), 2);
    let of = |text: &str| {
        found
            .iter()
            .find(|(_, memory)| memory.text == text)
            .unwrap()
    };
    let (place, seats) = of("Ana prefers window seats.");
    assert_eq!(place, "import/user:ana");
    assert_eq!(seats.kind, Kind::Fact);
    assert_eq!(seats.provenance.channel.as_deref(), Some("mem0"));
    assert_eq!(seats.metadata["mem0.category"], text("travel"));
    assert_eq!(seats.metadata["mem0.n"], Value::from(3));
    assert_eq!(seats.metadata["mem0.score"], text("0.5"));
    assert_eq!(seats.occurred_at.to_string(), "2026-11-25T15:36:18.721Z");
    let (place, moved) = of("I moved to Oslo.");
    assert_eq!(place, "import/user:ana/run:r1");
    assert_eq!(moved.metadata["mem0.role"], text("user"));
}

#[tokio::test]
async fn points_of_mem0s_collection_give_the_same_memories() {
    let plain = |found: Vec<(String, Memory)>| {
        let mut found: Vec<_> = found
            .into_iter()
            .map(|(place, memory)| (place, memory.text, memory.metadata, memory.occurred_at))
            .collect();
        found.sort();
        found
    };
    let points = mem0(include_bytes!("../fixtures/mem0-points.json")).unwrap();
    let results = mem0(include_bytes!("../fixtures/mem0-get-all.json")).unwrap();
    assert_eq!(points.len(), 2);
    assert_eq!(
        plain(imported(&points).await),
        plain(imported(&results).await)
    );
}

#[tokio::test]
async fn agent_files_are_read_without_their_instructions() {
    let found = imported(&letta(include_bytes!("../fixtures/letta.af")).unwrap()).await;
    let read: Vec<(&str, Kind, Trust)> = found
        .iter()
        .map(|(_, memory)| (memory.text.as_str(), memory.kind, memory.provenance.trust))
        .collect();
    let expected = [
        ("The user's name is Ana.", Kind::Fact, Trust::Normal),
        ("I am a friendly helper.", Kind::Fact, Trust::Normal),
        (
            "My name is Ana and I live in Oslo.",
            Kind::Event,
            Trust::Normal,
        ),
        ("Nice to meet you, Ana.", Kind::Event, Trust::Normal),
        ("{\"status\": \"OK\"}", Kind::Event, Trust::Untrusted),
    ];
    assert_eq!(read, expected);
    assert!(
        found
            .iter()
            .all(|(place, _)| place == "import/agent:agent-0")
    );
    assert_eq!(found[0].1.metadata["letta.block"], text("human"));
    assert_eq!(found[2].1.metadata["letta.role"], text("user"));
    assert_eq!(
        found[2].1.occurred_at.to_string(),
        "2025-03-01T08:00:01.000Z"
    );
    let found = imported(&letta(include_bytes!("../fixtures/letta-v1.af")).unwrap()).await;
    let texts: Vec<&str> = found
        .iter()
        .map(|(_, memory)| memory.text.as_str())
        .collect();
    assert_eq!(
        texts,
        ["The user's name is Ana.", "I live in Oslo.", "Noted."]
    );
}

#[tokio::test]
async fn items_of_a_store_are_read() {
    let found = imported(&langgraph(include_bytes!("../fixtures/langgraph.json")).unwrap()).await;
    let read: Vec<(&str, &str, Kind)> = found
        .iter()
        .map(|(place, memory)| (place.as_str(), memory.text.as_str(), memory.kind))
        .collect();
    let episode = "{\"observation\":\"asked about trees\",\"result\":\"a good analogy\"}";
    let expected = [
        ("import/memories/ana", "Ana prefers dark mode.", Kind::Fact),
        ("import/memories/ana", "Ana works at Acme.", Kind::Fact),
        ("import/memories/ana", episode, Kind::Event),
        (
            "import/1/memories",
            "{\"food_preference\":\"I like pizza\"}",
            Kind::Fact,
        ),
    ];
    assert_eq!(read, expected);
    assert_eq!(
        found[3].1.metadata["langgraph.food_preference"],
        text("I like pizza")
    );
}

#[test]
fn hostile_files_are_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    type Read = fn(&[u8]) -> Result<Vec<Foreign>>;
    let readers: [Read; 3] = [mem0, letta, langgraph];
    for read in readers {
        for bad in [
            "",
            "null",
            "1",
            "{",
            "{}",
            "[1]",
            "{\"results\": 1}",
            "\u{feff}[]",
            &deep,
        ] {
            let shown = bad.get(..bad.len().min(20)).unwrap();
            let error = read(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{shown}");
        }
        assert!(read(b"[{\"id\": \"\xff\"}]").is_err());
    }
    let with =
        |memory: &str| format!("[{{\"id\":\"a\",\"memory\":\"ok\",\"user_id\":\"u\"}},{memory}]");
    let long = "x".repeat(70_000);
    for bad in [
        "{\"id\":\"b\",\"memory\":\"no owner\"}".to_owned(),
        "{\"id\":\"b\",\"memory\":\"\",\"user_id\":\"u\"}".to_owned(),
        format!("{{\"id\":\"b\",\"memory\":\"{long}\",\"user_id\":\"u\"}}"),
    ] {
        let error = mem0(with(&bad).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let hold = "{\"id\":\"b\",\"memory\":\"x\",\"user_id\":\"u\",\"created_at\":\"never\",
        \"metadata\":{\"memory.hold\":true,\"n\\u0007\":1,\"deep\":{\"a\":[1]}}}";
    let read = mem0(with(hold).as_bytes()).unwrap();
    let debug = format!("{:?}", read[1].draft);
    assert!(
        debug.contains("\"mem0.memory.hold\""),
        "no label of this crate's: {debug}"
    );
    assert!(!debug.contains("n\\u{7}"));
}

#[test]
fn long_blocks_are_cut_at_line_ends() {
    let line = "a line of a long block\n";
    let value = line.repeat(10_000);
    let file = serde_json::json!({
        "agents": [{"id": "a", "block_ids": ["b"]}],
        "blocks": [{"id": "b", "label": "notes", "value": value}],
    });
    let read = letta(file.to_string().as_bytes()).unwrap();
    assert_eq!(read.len(), value.len().div_ceil(64 * 1_024));
}

fn history(file: &Path) -> Result<Vec<Item>> {
    let at = Namespace::new("import/ana").unwrap();
    // Bob's memory is not Ana's.
    let is_wanted = |id: &str| !id.ends_with("0003");
    mem0_history(file, &at, &Principal::host(), is_wanted)
}

/// The file was written by mem0ai 2.2.1's own `SQLiteManager`.
#[tokio::test]
async fn mem0s_history_becomes_ours_and_what_it_deleted_stays_away() {
    let file = Path::new("tests/fixtures/mem0-history.db");
    let items = history(file).unwrap();
    assert!(!format!("{items:?}").contains("diagnosis"), "deleted there");
    let bench = Bench::new();
    let store = InMemory::new(bench.env.clone(), Arc::clone(&bench.embedder));
    let scope = Scope::new(Principal::host());
    let at = Namespace::new("import/ana").unwrap();
    let taken = store.take(&scope, at.clone(), items.clone()).await.unwrap();
    assert_eq!((taken.n_new, taken.n_left_out), (4, 0));
    let again = store.take(&scope, at.clone(), items).await.unwrap();
    assert_eq!(
        (again.n_new, again.n_left_out),
        (0, 4),
        "twice adds nothing"
    );
    let all = Listing::new().with_retired();
    let mut all = store.list(&scope, at.clone(), all).await.unwrap();
    all.sort_by_key(|memory| memory.valid_from);
    let texts: Vec<&str> = all.iter().map(|memory| memory.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Ana lives in Rome.",
            "Ana lives in Oslo.",
            "Ana lives in Bergen."
        ]
    );
    let [rome, oslo, bergen] = &all[..] else {
        panic!()
    };
    assert_eq!(oslo.valid_from.to_string(), "2026-02-01T08:30:00.000Z");
    assert_eq!(rome.valid_to, Some(oslo.valid_from));
    assert_eq!(
        (rome.superseded_by, oslo.superseded_by),
        (Some(oslo.id), Some(bergen.id))
    );
    assert_eq!(oslo.metadata["mem0.actor_id"], text("ana"));
    let changes = store.history(&scope, at.clone(), rome.id).await.unwrap();
    let verbs: Vec<(Verb, Option<&str>)> = changes
        .iter()
        .map(|change| (change.verb, change.reason.as_deref()))
        .collect();
    assert_eq!(
        verbs,
        [
            (Verb::Added, Some("ADD in mem0")),
            (Verb::Superseded, Some("UPDATE in mem0"))
        ]
    );
    // The clock of the bench stands before what Mem0 noted.
    bench
        .clock
        .advance(std::time::Duration::from_secs(2 * 365 * 86_400));
    let hits = store
        .search(&scope, Query::new(at, "Where does Ana live?"))
        .await;
    assert_eq!(hits.unwrap()[0].memory.text, "Ana lives in Bergen.");
}

#[test]
fn hostile_histories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    let refused = |schema: &str| {
        let _ = std::fs::remove_file(&file);
        let made = rusqlite::Connection::open(&file).unwrap();
        made.execute_batch(schema).unwrap();
        drop(made);
        history(&file).unwrap_err()
    };
    let columns =
        "(memory_id, old_memory, new_memory, event, created_at, updated_at, actor_id, role)";
    let row = |values: &str| {
        refused(&format!(
            "CREATE TABLE history {columns};
             INSERT INTO history VALUES ('a', NULL, 'fine', 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL);
             INSERT INTO history VALUES ({values});"
        ))
    };
    for (n, values) in [
        "'b', NULL, 'no time', 'ADD', NULL, NULL, NULL, NULL",
        "'b', NULL, 'x', 'DROP', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
        "'b', NULL, NULL, 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
        "'b', NULL, ' ', 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
        "'b', NULL, hex(zeroblob(40000)), 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
    ]
    .into_iter()
    .enumerate()
    {
        let error = row(values);
        assert!(
            matches!(error, Error::Import { line: 2, .. }),
            "{n}: {error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for values in [
        "'b', NULL, x'ff', 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
        "'b', NULL, CAST(x'ff' AS TEXT), 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
        "'b', NULL, hex(zeroblob(2000000)), 'ADD', '2026-01-01T00:00:00Z', NULL, NULL, NULL",
    ] {
        assert_eq!(row(values).kind(), ErrorKind::Invalid);
    }
    for schema in [
        "",
        "CREATE TABLE history (id)",
        "CREATE VIEW history AS WITH RECURSIVE n(memory_id) AS (SELECT 1 UNION ALL SELECT memory_id + 1 FROM n)
         SELECT memory_id, '' old_memory, '' new_memory, 'ADD' event, '' created_at, '' updated_at,
                '' actor_id, '' role FROM n",
    ] {
        assert_eq!(refused(schema).kind(), ErrorKind::Invalid, "{schema}");
    }
    std::fs::write(&file, b"SQLite format 3\0 and then something else").unwrap();
    assert_eq!(history(&file).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(history(dir.path()).unwrap_err().kind(), ErrorKind::Invalid);
    let nowhere = dir.path().join("nowhere");
    assert_eq!(history(&nowhere).unwrap_err().kind(), ErrorKind::Invalid);
}

/// A memory whose addition is not in the file begins with the text that its first event replaced;
/// of a deleted one that was never seen nothing is left.
#[test]
fn a_history_without_its_beginning_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    let made = rusqlite::Connection::open(&file).unwrap();
    made.execute_batch(
        "CREATE TABLE history (memory_id, old_memory, new_memory, event, created_at, updated_at, actor_id, role);
         INSERT INTO history VALUES ('a', 'old', 'new', 'UPDATE', '2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z', NULL, NULL);
         INSERT INTO history VALUES ('a', 'new', NULL, 'NONE', NULL, NULL, NULL, NULL);
         INSERT INTO history VALUES ('b', 'gone', NULL, 'DELETE', NULL, '2026-01-02T00:00:00Z', NULL, NULL);",
    )
    .unwrap();
    drop(made);
    let items = history(&file).unwrap();
    let texts: Vec<&str> = items
        .iter()
        .map(|item| match item {
            Item::Memory(kept) => kept.memory.text.as_str(),
            _ => panic!("{item:?}"),
        })
        .collect();
    assert_eq!(texts, ["old", "new"]);
}
