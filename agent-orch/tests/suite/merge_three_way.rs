//! Three-way merges of trees, with the `git` program as the oracle.

#![cfg(feature = "git")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use crate::merge_common::{Fleet, fleet, git, git_is_absent, propose, texts};
use agent_orch::merge::ConflictKind;
use agent_orch::merge::git::{Merged, Repository};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const LINES: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n";

/// Merges what two agents did to the same files; an empty text deletes.
async fn merged(
    files: &[(&str, &str)],
    ours: &[(&str, &str)],
    theirs: &[(&str, &str)],
) -> (Merged, Repository, tempfile::TempDir) {
    let fleet = fleet(files).await;
    let ours = propose(&fleet.repo, fleet.base, 1, ours).await;
    let theirs = propose(&fleet.repo, fleet.base, 2, theirs).await;
    let merged = fleet
        .repo
        .merge(fleet.base, ours.head, theirs.head)
        .await
        .unwrap();
    (merged, fleet.repo, fleet.dir)
}

async fn kinds(
    files: &[(&str, &str)],
    ours: &[(&str, &str)],
    theirs: &[(&str, &str)],
) -> Vec<(String, ConflictKind)> {
    match merged(files, ours, theirs).await.0 {
        Merged::Conflicted { conflicts, .. } => conflicts
            .into_iter()
            .map(|c| (c.path.to_string(), c.kind))
            .collect(),
        clean => panic!("merged: {clean:?}"),
    }
}

async fn clean(
    files: &[(&str, &str)],
    ours: &[(&str, &str)],
    theirs: &[(&str, &str)],
) -> std::collections::BTreeMap<String, String> {
    let (merged, repo, _dir) = merged(files, ours, theirs).await;
    let Merged::Clean { tree, .. } = merged else {
        panic!("conflict: {merged:?}")
    };
    texts(&repo, tree).await
}

#[tokio::test]
async fn changes_to_different_lines_of_one_file_merge() {
    let ours = LINES.replace("one", "ONE");
    let theirs = LINES.replace("ten", "TEN");
    let files = clean(&[("a/f", LINES)], &[("a/f", &ours)], &[("a/f", &theirs)]).await;
    assert_eq!(
        files["a/f"],
        LINES.replace("one", "ONE").replace("ten", "TEN")
    );
}

#[tokio::test]
async fn changes_to_the_same_line_conflict_in_that_file_alone() {
    let base = [("f", LINES), ("g", LINES)];
    let found = kinds(
        &base,
        &[
            ("f", &LINES.replace("five", "5")),
            ("g", &LINES.replace("one", "1")),
        ],
        &[
            ("f", &LINES.replace("five", "V")),
            ("g", &LINES.replace("ten", "10")),
        ],
    )
    .await;
    assert_eq!(found, [("f".to_owned(), ConflictKind::Content)]);
}

#[tokio::test]
async fn conflicts_are_named_by_kind() {
    let base = [("f", LINES), ("keep", "x\n")];
    let edited = LINES.replace("one", "1");
    let found = kinds(&base, &[("new", "a\n")], &[("new", "b\n")]).await;
    assert_eq!(found, [("new".to_owned(), ConflictKind::BothAdded)]);
    let found = kinds(&base, &[("f", "")], &[("f", &edited)]).await;
    assert_eq!(found, [("f".to_owned(), ConflictKind::DeletedByUs)]);
    let found = kinds(&base, &[("f", &edited)], &[("f", "")]).await;
    assert_eq!(found, [("f".to_owned(), ConflictKind::DeletedByThem)]);
    let found = kinds(&base, &[("d", "a file\n")], &[("d/f", "in a directory\n")]).await;
    assert!(
        found.iter().any(|(path, _)| path.starts_with('d')),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_change_follows_a_file_the_other_side_renamed() {
    let files = clean(
        &[("old", LINES), ("keep", "x\n")],
        &[("old", ""), ("dir/new", LINES)],
        &[("old", &LINES.replace("one", "1"))],
    )
    .await;
    assert_eq!(files["dir/new"], LINES.replace("one", "1"));
    assert!(!files.contains_key("old"));
}

#[tokio::test]
async fn two_renames_of_one_file_conflict() {
    let base = [("old", LINES), ("keep", "x\n")];
    let found = kinds(
        &base,
        &[("old", ""), ("a", LINES)],
        &[("old", ""), ("b", LINES)],
    )
    .await;
    assert!(!found.is_empty());
    // Nor is a deletion undone by a rename, wherever the file lies.
    for (file, keep) in [("old", "keep"), ("d/old", "d/keep")] {
        let base = [(file, LINES), (keep, "x\n")];
        let found = kinds(&base, &[(file, "")], &[(file, ""), ("b", LINES)]).await;
        assert!(
            found.contains(&(file.to_owned(), ConflictKind::Structure)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn the_same_change_on_both_sides_merges() {
    let edit = [("f", "changed\n"), ("gone", ""), ("new", "n\n")];
    let files = clean(&[("f", LINES), ("gone", "x\n"), ("k", "k\n")], &edit, &edit).await;
    assert_eq!(files.len(), 3);
    assert_eq!(files["f"], "changed\n");
}

#[tokio::test]
async fn a_directory_both_sides_empty_disappears() {
    let base = [("d/e/a", "1\n"), ("d/e/b", "2\n"), ("k", "k\n")];
    let files = clean(&base, &[("d/e/a", "")], &[("d/e/b", "")]).await;
    assert_eq!(files.keys().collect::<Vec<_>>(), ["k"]);
}

#[derive(Clone, Debug)]
enum Op {
    Line(usize, usize, u8),
    Insert(usize, usize, u8),
    Drop(usize, usize),
    Delete(usize),
    Rename(usize, usize),
    Add(usize, u8),
}

const NAMES: [&str; 6] = ["a", "b/c", "b/d", "e/f/g", "e/f/h", "e/i"];
const ADDED: [&str; 4] = ["a/x", "b/new", "e/f/new", "z"];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..6_usize, 0..12_usize, any::<u8>()).prop_map(|(f, l, v)| Op::Line(f, l, v)),
        3 => (0..6_usize, 0..12_usize, any::<u8>()).prop_map(|(f, l, v)| Op::Insert(f, l, v)),
        2 => (0..6_usize, 0..12_usize).prop_map(|(f, l)| Op::Drop(f, l)),
        1 => (0..6_usize).prop_map(Op::Delete),
        1 => (0..6_usize, 0..4_usize).prop_map(|(f, n)| Op::Rename(f, n)),
        1 => (0..4_usize, any::<u8>()).prop_map(|(n, v)| Op::Add(n, v)),
    ]
}

type Files = std::collections::BTreeMap<String, String>;

fn base_files() -> Files {
    let text = |name: &str| {
        (0..12)
            .map(|i| format!("{name} line {i}\n"))
            .collect::<String>()
    };
    NAMES
        .iter()
        .map(|name| ((*name).to_owned(), text(name)))
        .collect()
}

fn apply(files: &mut Files, op: &Op) {
    let edit = |files: &mut Files, f: usize, change: &dyn Fn(&mut Vec<String>)| {
        if let Some(text) = files.get_mut(NAMES[f]) {
            let mut lines: Vec<String> = text.lines().map(|l| format!("{l}\n")).collect();
            change(&mut lines);
            *text = lines.concat();
        }
    };
    match *op {
        Op::Line(f, l, v) => edit(files, f, &|lines| {
            if let Some(line) = lines.get_mut(l) {
                *line = format!("changed {l} {v}\n");
            }
        }),
        Op::Insert(f, l, v) => {
            edit(files, f, &|lines| {
                lines.insert(l.min(lines.len()), format!("new {l} {v}\n"));
            });
        }
        Op::Drop(f, l) => edit(files, f, &|lines| {
            if l < lines.len() {
                lines.remove(l);
            }
        }),
        Op::Delete(f) => drop(files.remove(NAMES[f])),
        Op::Rename(f, n) => {
            if let Some(text) = files.remove(NAMES[f]) {
                add(files, ADDED[n], text);
            }
        }
        Op::Add(n, v) => add(files, ADDED[n], format!("added {v}\n")),
    }
}

/// Adds a file unless a file stands where it needs a directory.
fn add(files: &mut Files, name: &str, text: String) {
    if !(name == "a/x" && files.contains_key("a")) {
        files.insert(name.to_owned(), text);
    }
}

/// Proposes the difference between two sets of files, or returns `None` if there is none.
async fn propose_files(
    repo: &Repository,
    base: agent_orch::merge::ObjectId,
    n: u128,
    (old, new): (&Files, &Files),
) -> Option<agent_orch::merge::git::Proposal> {
    let mut edits: Vec<(&str, &str)> = Vec::new();
    for (name, text) in new
        .iter()
        .filter(|(name, text)| old.get(*name) != Some(text))
    {
        edits.push((name, text));
    }
    edits.extend(
        old.keys()
            .filter(|name| !new.contains_key(*name))
            .map(|n| (n.as_str(), "")),
    );
    // A file that gives way to a directory is one edit too many for a draft.
    let clash = edits.iter().any(|(name, _)| *name == "a/x") && old.contains_key("a");
    if edits.is_empty()
        || clash
        || edits
            .iter()
            .any(|(name, t)| new.contains_key(*name) && t.is_empty())
    {
        return None;
    }
    Some(propose(repo, base, n, &edits).await)
}

/// Whatever two agents do, the merged tree is the one git makes, and what git cannot merge is a
/// conflict here.
#[test]
fn merged_trees_are_those_of_git() {
    if git_is_absent("merged_trees_are_those_of_git") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let base = base_files();
    let list: Vec<(&str, &str)> = base.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let fleet = runtime.block_on(fleet(&list));
    let ops = || prop::collection::vec(op(), 1..6);
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(24)
    });
    let agree = runner.run(&(ops(), ops()), |(ours, theirs)| {
        let outcome = runtime.block_on(both_merge(&fleet, &ours, &theirs));
        let Some((merges, expected, found)) = outcome else {
            return Ok(());
        };
        match found {
            Merged::Clean { tree, .. } => {
                prop_assert_eq!((merges, expected), (true, tree.to_string()));
            }
            found => prop_assert!(!merges, "git merges: {:?}", found),
        }
        Ok(())
    });
    agree.unwrap();
}

/// Merges with git and with ours. Returns whether git merges, its tree, and what ours says; `None`
/// if a side changes nothing.
async fn both_merge(fleet: &Fleet, ours: &[Op], theirs: &[Op]) -> Option<(bool, String, Merged)> {
    let base = base_files();
    let mut heads = Vec::new();
    for (n, ops) in [(1, ours), (2, theirs)] {
        let mut files = base.clone();
        ops.iter().for_each(|op| apply(&mut files, op));
        let proposal = propose_files(&fleet.repo, fleet.base, n, (&base, &files)).await?;
        heads.push(proposal.head);
    }
    let [one, two] = heads[..] else { return None };
    let found = fleet.repo.merge(fleet.base, one, two).await.unwrap();
    let (one, two) = (one.to_string(), two.to_string());
    let (merges, text) = git(
        fleet.repo.path(),
        &["merge-tree", "--write-tree", &one, &two],
    )?;
    Some((
        merges,
        text.lines().next().unwrap_or_default().to_owned(),
        found,
    ))
}
