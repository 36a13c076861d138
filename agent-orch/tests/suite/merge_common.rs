//! Repositories, changes and a check for the merge tests.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use agent_core::{AgentId, BoxError, TaskId, Timestamp};
use agent_orch::merge::git::{CloneOptions, Draft, Proposal, Repository};
use agent_orch::merge::{
    Candidate, Check, Limits, MergeQueue, ObjectId, QueueConfig, RepoPath, Submission, Verdict,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use tempfile::TempDir;

/// A clone of a small repository.
pub(crate) struct Fleet {
    pub(crate) dir: TempDir,
    pub(crate) repo: Repository,
    pub(crate) base: ObjectId,
}

pub(crate) fn path(text: &str) -> RepoPath {
    text.parse().unwrap()
}

pub(crate) fn task(n: u128) -> TaskId {
    TaskId::from_bits(n)
}

pub(crate) fn agent(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

/// Commits files on top of `HEAD` without the `git` program.
pub(crate) fn commit(repo: &git2::Repository, files: &[(&str, &str)]) -> git2::Oid {
    let parent = repo.head().ok().map(|head| head.peel_to_commit().unwrap());
    let mut updates = git2::build::TreeUpdateBuilder::new();
    for (path, text) in files {
        let blob = repo.blob(text.as_bytes()).unwrap();
        updates.upsert(*path, blob, git2::FileMode::Blob);
    }
    let tree = match &parent {
        Some(parent) => parent.tree().unwrap(),
        None => repo
            .find_tree(repo.treebuilder(None).unwrap().write().unwrap())
            .unwrap(),
    };
    let tree = repo
        .find_tree(updates.create_updated(repo, &tree).unwrap())
        .unwrap();
    let who = git2::Signature::new("author", "a@b.invalid", &git2::Time::new(1_000, 0)).unwrap();
    let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
    repo.commit(Some("HEAD"), &who, &who, "work", &tree, &parents)
        .unwrap()
}

pub(crate) fn source(dir: &Path, files: &[(&str, &str)]) -> git2::Repository {
    let repo = git2::Repository::init(dir).unwrap();
    commit(&repo, files);
    repo
}

pub(crate) async fn fleet(files: &[(&str, &str)]) -> Fleet {
    fleet_with(
        files,
        CloneOptions::default().with_survives_power_loss(false),
    )
    .await
}

pub(crate) async fn fleet_with(files: &[(&str, &str)], options: CloneOptions) -> Fleet {
    let dir = TempDir::new().unwrap();
    source(&dir.path().join("source"), files);
    let into = dir.path().join("clone.git");
    let cloned = Repository::clone_local(dir.path().join("source"), into, options).await;
    let (repo, base) = cloned.unwrap();
    Fleet { dir, repo, base }
}

/// Describes a change of task `n` by agent `n`; an empty text deletes the file.
pub(crate) fn draft(base: ObjectId, n: u128, edits: &[(&str, &str)]) -> Draft {
    let at = Timestamp::from_unix_ms(2_000_000);
    let draft = Draft::new(base, task(n), agent(n), at, format!("Change {n}"));
    edits.iter().fold(draft, |draft, (name, text)| match *text {
        "" => draft.with_delete(path(name)),
        text => draft.with_put(path(name), text),
    })
}

pub(crate) async fn propose(
    repo: &Repository,
    base: ObjectId,
    n: u128,
    edits: &[(&str, &str)],
) -> Proposal {
    let unsigned = |_bytes| async { Ok(None) };
    repo.propose(draft(base, n, edits), unsigned).await.unwrap()
}

pub(crate) fn submission(proposal: &Proposal) -> Submission {
    Submission::new(proposal.task, proposal.agent, proposal.head)
}

/// Fails every tree in which some file contains one of the words, all of them where a word is
/// `a+b`, and keeps what it saw.
#[derive(Debug)]
pub(crate) struct Forbid {
    pub(crate) repo: Repository,
    pub(crate) words: Vec<&'static str>,
    pub(crate) seen: Mutex<Vec<Candidate>>,
}

impl Forbid {
    pub(crate) fn new(repo: &Repository, words: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            repo: repo.clone(),
            words: words.to_vec(),
            seen: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn n_checks(&self) -> usize {
        self.seen.lock().len()
    }
}

#[async_trait]
impl Check for Forbid {
    async fn check(&self, candidate: &Candidate) -> Result<Verdict, BoxError> {
        self.seen.lock().push(candidate.clone());
        let mut text = String::new();
        for file in self.repo.files(candidate.tree).await? {
            let bytes = self.repo.read_blob(file.id, 1 << 20).await?;
            text.push_str(&String::from_utf8(bytes)?);
        }
        let bad = self
            .words
            .iter()
            .find(|words| words.split('+').all(|word| text.contains(word)));
        Ok(bad.map_or(Verdict::Passed, |word| {
            Verdict::failed(format!("found {word}"))
        }))
    }
}

pub(crate) async fn queue<C: Check>(fleet: &Fleet, check: &Arc<C>, limits: Limits) -> MergeQueue {
    let config = QueueConfig::new(fleet.base).with_limits(limits);
    let check = Arc::<C>::clone(check);
    MergeQueue::open(fleet.repo.clone(), config, check)
        .await
        .unwrap()
}

/// Returns the text files of a commit.
pub(crate) async fn texts(repo: &Repository, commit: ObjectId) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for file in repo.files(commit).await.unwrap() {
        let bytes = repo.read_blob(file.id, 1 << 20).await.unwrap();
        let name = String::from_utf8(file.path).unwrap();
        texts.insert(name, String::from_utf8(bytes).unwrap());
    }
    texts
}

/// Runs git, or returns `None` where it is not installed or too old to merge trees.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args([
            "-c",
            "merge.directoryRenames=false",
            "-c",
            "safe.directory=*",
        ])
        .args(arguments)
        .output()
        .ok()?;
    Some((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    ))
}

/// Says which test is skipped where git is absent.
pub(crate) fn git_is_absent(test: &str) -> bool {
    let present = git(Path::new("."), &["merge-tree", "-h"]).is_some();
    if !present {
        eprintln!("skipped {test}: no git");
    }
    !present
}
