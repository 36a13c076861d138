//! How long ago each file changed, for telling stale notes from fresh ones.

use std::collections::BTreeMap;
use std::path::Path;

use agent_orch::merge::ObjectId;
use anyhow::{Context, Result};

/// How many commits are looked at. Files no commit among them touched are as old as the last one
/// looked at, at least.
const COMMITS_MAX: usize = 400;
const DAY_S: i64 = 86_400;

/// The age of files in days, counted from the commit the run started from, so that a resumed run
/// asks the same questions.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    days: BTreeMap<Vec<u8>, i64>,
    others: i64,
}

impl Ages {
    /// Reads the first-parent history of a commit.
    pub(crate) async fn read(repo: &Path, base: ObjectId) -> Result<Self> {
        let (path, base) = (repo.to_owned(), base.to_string());
        tokio::task::spawn_blocking(move || walk(&path, &base))
            .await
            .context("reading the history was stopped")?
            .context("cannot read the history")
    }

    /// Returns how many days ago a file changed.
    pub(crate) fn of(&self, path: &str) -> i64 {
        self.days
            .get(path.as_bytes())
            .copied()
            .unwrap_or(self.others)
    }
}

fn walk(path: &Path, base: &str) -> Result<Ages, git2::Error> {
    let repo = git2::Repository::open_bare(path)?;
    let mut next = Some(repo.find_commit(git2::Oid::from_str(base)?)?);
    let start = next.as_ref().map_or(0, |commit| commit.time().seconds());
    let mut ages = Ages::default();
    for _ in 0..COMMITS_MAX {
        let Some(commit) = next else { break };
        let age = start.saturating_sub(commit.time().seconds()).max(0) / DAY_S;
        ages.others = ages.others.max(age);
        // A shallow clone names parents it does not have.
        let parent = commit.parent(0).ok();
        let before = parent.as_ref().map(git2::Commit::tree).transpose()?;
        let diff = repo.diff_tree_to_tree(before.as_ref(), Some(&commit.tree()?), None)?;
        for delta in diff.deltas() {
            if let Some(path) = delta.new_file().path_bytes() {
                ages.days.entry(path.to_owned()).or_insert(age);
            }
        }
        next = parent;
    }
    Ok(ages)
}
