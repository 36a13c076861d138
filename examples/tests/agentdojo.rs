//! The replay of tool traces as a user meets it: crashed at every call, killed, fed nonsense.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const CALLS: [(&str, bool); 6] = [
    ("get_balance", false),
    ("send_money", true),
    ("send_email", true),
    ("create_file", true),
    ("send_email", true),
    ("update_address", true),
];

/// Writes a file of made-up traces: `n_tasks` tasks of one to six calls.
fn traces(dir: &Path, n_tasks: usize) -> std::path::PathBuf {
    let line = |n: usize| {
        let calls: Vec<Value> = CALLS
            .iter()
            .take(1 + n % CALLS.len())
            .map(|(name, write)| {
                let args = json!({ "to": n });
                json!({ "fn": name, "args": args, "result": "fine", "err": null, "write": write })
            })
            .collect();
        let suite = if n.is_multiple_of(2) {
            "bank"
        } else {
            "office"
        };
        json!({ "suite": suite, "task": format!("task_{n}"), "calls": calls }).to_string() + "\n"
    };
    let path = dir.join("traces.jsonl");
    std::fs::write(&path, (0..n_tasks).map(line).collect::<String>()).unwrap();
    path
}

fn agentdojo(file: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_agentdojo"))
        .arg(file)
        .args(more)
        .output()
        .unwrap()
}

fn figures(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crashes_at_every_call_change_nothing() {
    let dir = TempDir::new().unwrap();
    let file = traces(dir.path(), 12);
    let found = figures(&agentdojo(&file, &["--json"]));
    // Twelve tasks: two each of one to six calls, and one look each.
    assert_eq!(found["calls"], 42);
    assert_eq!(found["writes"], 30);
    assert_eq!(found["crashes"], 3 * (42 + 12));
    // Two crashes of each of twelve mails leave it open whether it was sent.
    assert_eq!(found["questions"], 2 * 12);
    assert_eq!(found["equal"], true);
}

#[test]
fn kills_at_random_moments_change_nothing() {
    let dir = TempDir::new().unwrap();
    let file = traces(dir.path(), 6);
    let calm = figures(&agentdojo(&file, &["--json"]));
    let killed = figures(&agentdojo(&file, &["--json", "--kill", "--seed", "7"]));
    assert!(killed["kills"].as_u64().unwrap() > 0, "{killed}");
    assert_eq!(killed["state"], calm["state"]);
}

#[test]
fn a_bad_file_is_named_with_its_line() {
    let dir = TempDir::new().unwrap();
    let missing = agentdojo(&dir.path().join("missing"), &[]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        !missing.status.success() && said.contains("missing"),
        "{said}"
    );
    let bad = dir.path().join("bad.jsonl");
    let good = std::fs::read_to_string(traces(dir.path(), 1)).unwrap();
    for text in [format!("{good}nonsense\n"), format!("{good}{good}")] {
        std::fs::write(&bad, text).unwrap();
        let refused = agentdojo(&bad, &[]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("bad.jsonl:2"), "{said}");
    }
}
