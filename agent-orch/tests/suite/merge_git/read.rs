//! Reading: every name a tree can have, and those a checkout cannot.

use std::path::Path;

use agent_core::{Classify, ErrorKind};
use agent_orch::merge::git::{CloneOptions, Repository};
use agent_orch::merge::{EntryKind, RepoPath, is_lfs_pointer};
use tempfile::TempDir;

use crate::merge_common::{draft, path, propose, source};

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
