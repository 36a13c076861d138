//! Opening, cloning, reading and proposing on real repositories.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod merge_common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent_core::{Classify, ErrorKind};
use agent_orch::merge::git::{CloneOptions, Draft, Edit, Repository};
use agent_orch::merge::{EntryKind, Error, ObjectId, RepoPath, is_lfs_pointer};
use merge_common::{
    agent, commit, draft, fleet, fleet_with, git, git_is_absent, path, propose, source, task, texts,
};
use tempfile::TempDir;

/// Removes a loose object behind git's back.
fn remove_object(repo: &git2::Repository, id: &str) {
    let (directory, file) = id.split_at(2);
    fs::remove_file(repo.path().join("objects").join(directory).join(file)).unwrap();
}

async fn code(path: &Path) -> &'static str {
    Repository::open(path).await.unwrap_err().code()
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = TempDir::new().unwrap();
    assert_eq!(code(dir.path()).await, "merge.not_a_repository");
    assert_eq!(
        code(&dir.path().join("absent")).await,
        "merge.not_a_repository"
    );
    git2::Repository::init(dir.path().join("empty")).unwrap();
    assert_eq!(code(&dir.path().join("empty")).await, "merge.empty");
    let good = source(&dir.path().join("good"), &[("f", "x")]);
    assert!(Repository::open(dir.path().join("good")).await.is_ok());
    assert!(Repository::open(dir.path().join("good/.git")).await.is_ok());
    let mut config = good.config().unwrap();
    config.set_i32("core.repositoryformatversion", 1).unwrap();
    config.set_str("extensions.refstorage", "reftable").unwrap();
    assert_eq!(code(&dir.path().join("good")).await, "merge.unsupported");
    let damaged = source(&dir.path().join("damaged"), &[("f", "x")]);
    let head = damaged.head().unwrap().target().unwrap().to_string();
    remove_object(&damaged, &head);
    assert_eq!(code(&dir.path().join("damaged")).await, "merge.corrupt");
}

#[cfg(unix)]
#[tokio::test]
async fn a_repository_of_another_user_is_refused_with_the_remedy() {
    let dir = TempDir::new().unwrap();
    source(dir.path(), &[("f", "x")]);
    if std::os::unix::fs::chown(dir.path(), Some(12_345), None).is_err() {
        eprintln!("skipped a_repository_of_another_user_is_refused_with_the_remedy: not root");
        return;
    }
    std::os::unix::fs::chown(dir.path().join(".git"), Some(12_345), None).unwrap();
    let error = Repository::open(dir.path()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("merge.not_owned", ErrorKind::Denied)
    );
    assert!(error.fix().contains("safe.directory"));
}

#[tokio::test]
async fn a_clone_has_the_commit_and_not_the_uncommitted_work() {
    let dir = TempDir::new().unwrap();
    source(&dir.path().join("source"), &[("a", "1"), ("b/c", "2")]);
    fs::write(dir.path().join("source/uncommitted"), "x").unwrap();
    let into = dir.path().join("clone.git");
    let make =
        || Repository::clone_local(dir.path().join("source"), &into, CloneOptions::default());
    let (clone, base) = make().await.unwrap();
    assert_eq!(texts(&clone, base).await.len(), 2);
    let in_use = Repository::open_clone(&into).await.unwrap_err();
    assert_eq!(in_use.code(), "merge.in_use");
    drop(clone);
    // What is complete is opened; a directory of somebody else is left alone.
    let (_clone, again) = loop {
        match make().await {
            Err(Error::InUse { .. }) => tokio::task::yield_now().await,
            done => break done.unwrap(),
        }
    };
    assert_eq!(again, base);
    fs::create_dir(dir.path().join("taken")).unwrap();
    fs::write(dir.path().join("taken/file"), "x").unwrap();
    let taken = Repository::clone_local(
        dir.path().join("source"),
        dir.path().join("taken"),
        CloneOptions::default(),
    );
    assert_eq!(taken.await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_clone_outlives_its_source() {
    let fleet = fleet_with(&[("a", "1"), ("b", "2")], CloneOptions::default()).await;
    fs::remove_dir_all(fleet.dir.path().join("source")).unwrap();
    assert_eq!(texts(&fleet.repo, fleet.base).await.len(), 2);
    propose(&fleet.repo, fleet.base, 1, &[("a", "changed")]).await;
}

#[tokio::test]
async fn shallow_packed_linked_and_borrowing_sources_are_cloned() {
    if git_is_absent("shallow_packed_linked_and_borrowing_sources_are_cloned") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let repo = source(&dir.path().join("source"), &[("a", "1")]);
    commit(&repo, &[("a", "2")]);
    commit(&repo, &[("a", "3")]);
    let url = format!("file://{}", dir.path().join("source").display());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let run = |arguments: &[&str]| assert!(git(dir.path(), arguments).unwrap().0, "{arguments:?}");
    run(&["-C", "source", "worktree", "add", "-q", &at("linked")]);
    run(&["clone", "-q", "--depth", "1", &url, &at("shallow")]);
    run(&["clone", "-q", "--shared", &at("source"), &at("borrowing")]);
    run(&["-C", "borrowing", "gc", "-q"]);
    run(&["clone", "-q", "--bare", &at("source"), &at("packed.git")]);
    run(&["-C", "packed.git", "gc", "-q"]);
    for name in ["linked", "shallow", "borrowing", "packed.git"] {
        let into = dir.path().join(format!("clone-of-{name}"));
        let cloned = Repository::clone_local(dir.path().join(name), into, CloneOptions::default());
        let (clone, base) = cloned.await.unwrap();
        assert_eq!(texts(&clone, base).await["a"], "3", "{name}");
        clone
            .open_target("refs/heads/agents/hygiene", base)
            .await
            .unwrap();
        let change = propose(&clone, base, 1, &[("b", "new")]).await;
        let touched = clone
            .touched("refs/heads/agents/hygiene", change.head)
            .await
            .unwrap();
        assert_eq!(touched, BTreeSet::from([path("b")]), "{name}");
        let (sound, said) = git(clone.path(), &["fsck", "--strict"]).unwrap();
        assert!(sound, "{name}: {said}");
    }
}

#[tokio::test]
async fn a_source_that_lacks_a_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let repo = source(&dir.path().join("source"), &[("a", "1")]);
    let blob = repo.revparse_single("HEAD:a").unwrap().id().to_string();
    remove_object(&repo, &blob);
    let into = dir.path().join("clone.git");
    let cloned = Repository::clone_local(dir.path().join("source"), &into, CloneOptions::default());
    assert_eq!(cloned.await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!into.exists());
}

/// Commits a tree with a file, an executable, a link, a submodule, an LFS pointer and a name that
/// is not UTF-8.
fn zoo(dir: &Path) -> git2::Repository {
    let repo = source(dir, &[("plain", "text")]);
    let tree = {
        let head = repo.head().unwrap().peel_to_commit().unwrap();
        let mut zoo = repo.treebuilder(Some(&head.tree().unwrap())).unwrap();
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        zoo.insert("run", repo.blob(b"#!").unwrap(), 0o100_755)
            .unwrap();
        zoo.insert("link", repo.blob(b"plain").unwrap(), 0o120_000)
            .unwrap();
        zoo.insert("module", head.id(), 0o160_000).unwrap();
        zoo.insert("large", repo.blob(pointer).unwrap(), 0o100_644)
            .unwrap();
        zoo.insert(b"caf\xe9".to_vec(), repo.blob(b"latin").unwrap(), 0o100_644)
            .unwrap();
        zoo.write().unwrap()
    };
    let who = git2::Signature::new("a", "a@b.invalid", &git2::Time::new(1, 0)).unwrap();
    let parent = repo.head().unwrap().peel_to_commit().unwrap();
    let tree = repo.find_tree(tree).unwrap();
    repo.commit(Some("HEAD"), &who, &who, "zoo", &tree, &[&parent])
        .unwrap();
    drop((tree, parent));
    repo
}

#[tokio::test]
async fn files_are_listed_with_kind_and_size_and_no_name_is_lost() {
    let dir = TempDir::new().unwrap();
    zoo(&dir.path().join("source"));
    let into = dir.path().join("clone.git");
    let options = CloneOptions::default();
    let cloned = Repository::clone_local(dir.path().join("source"), into, options).await;
    let (repo, base) = cloned.unwrap();
    let files = repo.files(base).await.unwrap();
    let found: Vec<(&[u8], EntryKind, u64)> = files
        .iter()
        .map(|f| (f.path.as_slice(), f.kind, f.size))
        .collect();
    let expected: [(&[u8], EntryKind, u64); 6] = [
        (b"caf\xe9", EntryKind::File, 5),
        (b"large", EntryKind::File, 63),
        (b"link", EntryKind::Symlink, 5),
        (b"module", EntryKind::Gitlink, 0),
        (b"plain", EntryKind::File, 4),
        (b"run", EntryKind::Executable, 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(files[0].text_path().unwrap_err().kind(), ErrorKind::Invalid);
    assert!(is_lfs_pointer(
        &repo.read_blob(files[1].id, 100).await.unwrap()
    ));
    let too_large = repo.read_blob(files[4].id, 3).await.unwrap_err();
    assert_eq!(too_large.code(), "merge.too_large");
    // Links and submodules are left as they are, and survive a change beside them.
    for name in ["link", "module", "link/below", "plain/below"] {
        let bad = draft(base, 1, &[(name, "x")]);
        let refused = repo.propose(bad, |_| async { Ok(None) }).await.unwrap_err();
        assert_eq!(refused.code(), "merge.not_a_file", "{name}");
    }
    let change = propose(&repo, base, 1, &[("run", "#!changed"), ("plain", "")]).await;
    let after = repo.files(change.head).await.unwrap();
    assert_eq!(after.len(), 5);
    assert_eq!(after[4].kind, EntryKind::Executable);
    assert_eq!(
        repo.read_file(base, path("plain"), 10)
            .await
            .unwrap()
            .unwrap(),
        b"text"
    );
    assert_eq!(
        repo.read_file(change.head, path("plain"), 10)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn the_same_draft_makes_the_same_signed_commit() {
    let fleet = fleet(&[("a", "1"), ("b", "2")]).await;
    let sign =
        |bytes: Vec<u8>| async move { Ok(Some(agent_core::Digest::of_bytes(&bytes).to_string())) };
    let make =
        || draft(fleet.base, 7, &[("a", "changed"), ("new/file", "n")]).with_trailer("Run", "r1");
    let first = fleet.repo.propose(make(), sign).await.unwrap();
    let second = fleet.repo.propose(make(), sign).await.unwrap();
    assert_eq!(first, second);
    let read = fleet.repo.proposal(first.head).await.unwrap();
    assert_eq!(read, first);
    assert_eq!(
        (read.task, read.agent, read.base),
        (task(7), agent(7), fleet.base)
    );
    let signed = read.signed_bytes();
    assert_eq!(
        read.signature,
        Some(agent_core::Digest::of_bytes(&signed).to_string())
    );
    let text = String::from_utf8(signed).unwrap();
    assert!(text.starts_with("agent-orch.change.v1\n") && text.contains(&read.tree.to_string()));
    let keys: Vec<&str> = read.trailers.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["Agent", "Task", "Run", "Signature"]);
    let changed = fleet
        .repo
        .changed_paths(fleet.base, first.head)
        .await
        .unwrap();
    assert_eq!(changed, BTreeSet::from([path("a"), path("new/file")]));
    let branch = format!("refs/heads/agents/changes/{}", task(7));
    assert_eq!(fleet.repo.resolve(&branch).await.unwrap(), first.head);
}

#[tokio::test]
async fn a_message_cannot_forge_trailers() {
    let fleet = fleet(&[("a", "1")]).await;
    let mut forged = draft(fleet.base, 1, &[("a", "x")]);
    forged.message = format!("Subject\n\nTask: {}\nSignature: forged", task(2));
    let made = fleet
        .repo
        .propose(forged, |_| async { Ok(None) })
        .await
        .unwrap();
    assert_eq!((made.task, made.signature), (task(1), None));
    for (key, value) in [
        ("Task", "x"),
        ("signature", "x"),
        ("A b", "x"),
        ("X", "a\nTask: b"),
    ] {
        let bad = draft(fleet.base, 1, &[("a", "x")]).with_trailer(key, value);
        let refused = fleet
            .repo
            .propose(bad, |_| async { Ok(None) })
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{key}");
    }
}

#[tokio::test]
async fn bad_drafts_are_refused() {
    let fleet = fleet(&[("a", "1"), ("d/b", "2")]).await;
    let refuse = |draft: Draft| {
        let repo = fleet.repo.clone();
        async move {
            repo.propose(draft, |_| async { Ok(None) })
                .await
                .unwrap_err()
                .code()
        }
    };
    let base = fleet.base;
    assert_eq!(refuse(draft(base, 1, &[])).await, "merge.nothing_changed");
    assert_eq!(
        refuse(draft(base, 1, &[("a", "1")])).await,
        "merge.nothing_changed"
    );
    assert_eq!(
        refuse(draft(base, 1, &[("absent", "")])).await,
        "merge.not_found"
    );
    assert_eq!(
        refuse(draft(base, 1, &[("d", "a file")])).await,
        "merge.not_a_file"
    );
    assert_eq!(
        refuse(draft(base, 1, &[("x", "1"), ("x/y", "2")])).await,
        "merge.not_a_file"
    );
    let nowhere = ObjectId::from_bytes([7; 20]);
    assert_eq!(
        refuse(draft(nowhere, 1, &[("a", "2")])).await,
        "merge.not_found"
    );
    let mut large = draft(base, 1, &[]);
    large
        .edits
        .insert(path("a"), Edit::Put(vec![0; Draft::BYTES_MAX + 1]));
    assert_eq!(refuse(large).await, "merge.too_large");
    let unsigned = fleet
        .repo
        .propose(draft(base, 1, &[("a", "2")]), |_| async {
            Err("the vault is locked".into())
        });
    assert_eq!(unsigned.await.unwrap_err().code(), "merge.unsigned");
}

#[test]
fn paths_a_checkout_cannot_hold_are_not_paths() {
    let bad: [&[u8]; 16] = [
        b"",
        b"/a",
        b"a/",
        b"a//b",
        b".",
        b"a/../b",
        b".git",
        b"a/.GIT/hooks",
        b".git.",
        b".git ",
        b"git~1",
        b".git::$INDEX_ALLOCATION/x",
        b"a\\b",
        b"a\0b",
        b".g\xe2\x80\x8cit",
        b"./a",
    ];
    for path in bad {
        assert!(RepoPath::new(path).is_err(), "{path:?}");
    }
    for good in [
        &b".gitignore"[..],
        b"a/.github/x",
        b"git",
        b"caf\xe9",
        b".gitmodules",
        b"a b",
    ] {
        let path = RepoPath::new(good).unwrap();
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<RepoPath>(&text).unwrap(), path);
    }
    assert!(serde_json::from_str::<RepoPath>("\"../x\"").is_err());
}

#[tokio::test]
async fn only_the_fleets_branches_are_targets() {
    let fleet = fleet(&[("a", "1")]).await;
    for target in [
        "refs/heads/main",
        "refs/heads/agents/",
        "refs/heads/agents/changes/x",
        "HEAD",
    ] {
        let refused = fleet
            .repo
            .open_target(target, fleet.base)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{target}");
    }
}
