//! Opening and cloning: what is refused, and what a clone has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent_core::{Classify, ErrorKind};
use agent_orch::merge::Error;
use agent_orch::merge::git::{CloneOptions, Repository};
use tempfile::TempDir;

use crate::merge_common::{commit, fleet_with, git, git_is_absent, path, propose, source, texts};

/// Removes a loose object behind git's back.
fn remove_object(repo: &git2::Repository, id: &str) {
    let (directory, file) = id.split_at(2);
    fs::remove_file(repo.path().join("objects").join(directory).join(file)).unwrap();
}

pub(super) async fn code(path: &Path) -> &'static str {
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
