//! The dependency rule, and what the tree of dependencies may contain.
//!
//! A layer depends on `agent-core` and on no other layer; `agent-core` on no member; nothing
//! depends on `agent-orch` but `examples`.

#![expect(clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

const LAYERS: &[&str] = &[
    "agent-sandbox",
    "agent-identity",
    "agent-memory",
    "agent-tools",
    "agent-pay",
];
/// The most crates of everything with default features, the members among them.
const CRATES_MAX: usize = 300;
/// One TLS stack is enough, and it needs no C++ compiler and no system library.
const BANNED: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl",
    "openssl-sys",
    "native-tls",
];
/// At most one version each: a second HTTP stack costs a minute of every build.
const SINGLE: &[&str] = &[
    "reqwest", "hyper", "rustls", "tokio", "rusqlite", "wasmtime",
];

/// Which members each member depends on, by any kind of dependency.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(directory: &Path, arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("cargo can be run");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("cargo writes UTF-8")
}

fn items<'a>(value: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn name(package: &Value) -> Option<&str> {
    package.get("name").and_then(Value::as_str)
}

/// Reads the graph of the members of a workspace. The network is not needed.
fn graph(root: &Path) -> Graph {
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ];
    let metadata: Value =
        serde_json::from_str(&cargo(root, &arguments)).expect("cargo writes JSON");
    let members: BTreeSet<&str> = items(&metadata, "packages").filter_map(name).collect();
    items(&metadata, "packages")
        .map(|package| {
            let from = name(package).expect("a name");
            let needed = items(package, "dependencies")
                .filter_map(name)
                // A crate that depends on itself turns on its own features for its tests.
                .filter(|dependency| members.contains(dependency) && *dependency != from)
                .map(str::to_owned)
                .collect();
            (from.to_owned(), needed)
        })
        .collect()
}

/// Returns the dependencies between members that the rule forbids.
fn forbidden(graph: &Graph) -> Vec<String> {
    let is_allowed = |from: &str, to: &str| match from {
        "agent-core" => false,
        "agent-orch" => to == "agent-core" || LAYERS.contains(&to),
        "examples" => to != "examples",
        _ => to == "agent-core",
    };
    graph
        .iter()
        .flat_map(|(from, needed)| needed.iter().map(move |to| (from, to)))
        .filter(|(from, to)| !is_allowed(from, to))
        .map(|(from, to)| format!("{from} depends on {to}"))
        .collect()
}

/// Returns what is wrong with a list of crates, each a line `name v1.2.3`.
fn wrong(crates: &BTreeSet<&str>) -> Vec<String> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for line in crates {
        *versions
            .entry(line.split(' ').next().unwrap_or_default())
            .or_default() += 1;
    }
    let mut wrong = Vec::new();
    if crates.len() > CRATES_MAX {
        wrong.push(format!("{} crates, {CRATES_MAX} allowed", crates.len()));
    }
    let banned = BANNED.iter().filter(|name| versions.contains_key(**name));
    wrong.extend(banned.map(|name| format!("{name} is in the tree")));
    let double = SINGLE
        .iter()
        .filter(|name| versions.get(**name).is_some_and(|n| *n > 1));
    wrong.extend(double.map(|name| format!("{name} is in the tree more than once")));
    wrong
}

/// Returns the name and version that a line of `cargo tree` begins with.
fn package(line: &str) -> &str {
    let end = line
        .match_indices(' ')
        .nth(1)
        .map_or(line.len(), |(at, _)| at);
    line.get(..end).unwrap_or(line)
}

/// Writes a workspace of crates without code, with dependencies between them.
fn workspace(members: &[(&str, &[&str])]) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let names: Vec<String> = members
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let text = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n",
        names.join(", ")
    );
    fs::write(dir.path().join("Cargo.toml"), text).expect("a file");
    for (name, needed) in members {
        let home = dir.path().join(name);
        fs::create_dir_all(home.join("src")).expect("a directory");
        fs::write(home.join("src/lib.rs"), "").expect("a file");
        let needed: String = needed
            .iter()
            .map(|to| format!("{to} = {{ path = \"../{to}\" }}\n"))
            .collect();
        let text = format!("[package]\nname = \"{name}\"\n[dev-dependencies]\n{needed}");
        fs::write(home.join("Cargo.toml"), text).expect("a file");
    }
    dir
}

#[test]
fn a_layer_depends_on_the_core_alone() {
    let graph = graph(&root());
    for member in LAYERS
        .iter()
        .chain(&["agent-core", "agent-orch", "examples"])
    {
        assert!(graph.contains_key(*member), "{member} is not a member");
    }
    assert_eq!(forbidden(&graph), Vec::<String>::new());
}

#[test]
fn a_planted_dependency_is_found() {
    let planted = workspace(&[
        ("agent-core", &[]),
        ("agent-pay", &["agent-core", "agent-tools"]),
        ("agent-tools", &["agent-core"]),
    ]);
    assert_eq!(
        forbidden(&graph(planted.path())),
        ["agent-pay depends on agent-tools"]
    );
    let planted = workspace(&[("agent-core", &["agent-pay"]), ("agent-pay", &[])]);
    assert_eq!(
        forbidden(&graph(planted.path())),
        ["agent-core depends on agent-pay"]
    );
    let planted = workspace(&[("agent-orch", &[]), ("agent-pay", &["agent-orch"])]);
    assert_eq!(
        forbidden(&graph(planted.path())),
        ["agent-pay depends on agent-orch"]
    );
}

#[test]
fn the_default_build_is_light() {
    let arguments = [
        "tree",
        "--workspace",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--offline",
        "--format",
    ];
    let text = cargo(&root(), &[&arguments[..], &["{p}"]].concat());
    let crates: BTreeSet<&str> = text
        .lines()
        .map(package)
        .filter(|line| !line.is_empty())
        .collect();
    assert!(crates.len() > LAYERS.len(), "{text}");
    println!("{} crates with default features", crates.len());
    assert_eq!(wrong(&crates), Vec::<String>::new());
}

#[test]
fn a_heavy_tree_is_found() {
    let many: Vec<String> = (0..=CRATES_MAX).map(|n| format!("c{n} v1.0.0")).collect();
    assert_eq!(wrong(&many.iter().map(String::as_str).collect()).len(), 1);
    let crates = [
        "openssl v0.10.0",
        "hyper v0.14.0",
        "hyper v1.0.0",
        "rustls v0.23.0",
    ];
    let expected = [
        "openssl is in the tree",
        "hyper is in the tree more than once",
    ];
    assert_eq!(wrong(&crates.into_iter().collect()), expected);
    assert_eq!(package("agent-core v0.1.0 (/a b) (*)"), "agent-core v0.1.0");
}
