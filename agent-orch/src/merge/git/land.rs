//! Landing: merge commits built in memory, written as one pack, and one compare-and-swap of the
//! target reference.

mod build;
mod line;

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{AgentId, TaskId};
use git2::{ErrorCode, Reference};
use serde::{Deserialize, Serialize};

use super::open::failed;
use super::{Inner, Repository, from_oid, to_oid};
use crate::merge::conflict::Conflict;
use crate::merge::error::{Error, Result};
use crate::merge::object::{ObjectId, RepoPath};
use build::merge_base;

pub(super) use line::Line;

/// Where targets may lie, so that no configuration mistake moves a person's branch.
const TARGET_PREFIX: &str = "refs/heads/agents/";

/// Where it is kept at which commit a target was when its queue started.
const START_PREFIX: &str = "refs/agents/start/";

/// One change to merge into a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LandItem {
    /// The task the change settles.
    pub task: TaskId,
    /// The agent that made it.
    pub agent: AgentId,
    /// The change's commit.
    pub head: ObjectId,
}

impl LandItem {
    /// Names a change to merge.
    #[must_use]
    pub const fn new(task: TaskId, agent: AgentId, head: ObjectId) -> Self {
        Self { task, agent, head }
    }
}

/// A merge commit that waits to land.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuiltStep {
    /// The task whose change it merges.
    pub task: TaskId,
    /// The merge commit: its first parent is the step before, its second the change.
    pub commit: ObjectId,
    /// The merged tree.
    pub tree: ObjectId,
}

/// A chain of merges on top of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// The merges, in the order they would land.
    pub steps: Vec<BuiltStep>,
    /// The changes left out, with what they conflict in; empty if they share no history.
    pub conflicted: Vec<(TaskId, Vec<Conflict>)>,
}

impl Repository {
    /// Makes `target` a place to land on, starting at `at`, unless it is one. Returns its tip.
    ///
    /// # Errors
    /// `Invalid` unless the target lies below `refs/heads/agents/`; `NotFound` for the commit.
    ///
    /// # Cancel safety
    /// Atomic and idempotent.
    pub async fn open_target(&self, target: &str, at: ObjectId) -> Result<ObjectId> {
        let target = target.to_owned();
        self.call(move |inner| {
            let name = target.strip_prefix(TARGET_PREFIX).filter(|name| {
                Reference::is_valid_name(&target)
                    && *name != "source"
                    && !name.starts_with("changes")
            });
            let Some(name) = name else {
                return Err(Error::invalid(
                    "target",
                    "it lies below `refs/heads/agents/`",
                ));
            };
            let at = inner.commit(at)?.id();
            // The start goes first: a target without one would not know what landed.
            let tip = inner.reference(&target)?.unwrap_or(at);
            let start = format!("{START_PREFIX}{name}");
            for (name, commit) in [(start, tip), (target.clone(), at)] {
                match inner.repo.reference(&name, commit, false, "agents: start") {
                    Err(e) if e.code() != ErrorCode::Exists => {
                        return Err(failed("create the target")(e));
                    }
                    _ => {}
                }
            }
            inner.line(&target).map(|line| from_oid(line.tip))
        })
        .await
    }

    /// Returns the commit a target is at.
    ///
    /// # Errors
    /// `NotFound` if it was not opened.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn tip(&self, target: &str) -> Result<ObjectId> {
        let target = target.to_owned();
        self.call(move |inner| inner.line(&target).map(|line| from_oid(line.tip)))
            .await
    }

    /// Returns the commit a task's change landed as, read from the target's history.
    ///
    /// # Errors
    /// `NotFound` if the target was not opened.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn landed(&self, target: &str, task: TaskId) -> Result<Option<ObjectId>> {
        let target = target.to_owned();
        self.call(move |inner| Ok(inner.line(&target)?.landed.get(&task).copied()))
            .await
    }

    /// Returns every task whose change landed since the target was opened, with the commit.
    ///
    /// # Errors
    /// `NotFound` if the target was not opened.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn all_landed(&self, target: &str) -> Result<BTreeMap<TaskId, ObjectId>> {
        let target = target.to_owned();
        self.call(move |inner| Ok(inner.line(&target)?.landed.clone()))
            .await
    }

    /// Merges changes one after the other on top of `tip` and leaves out those that conflict.
    ///
    /// One merge commit per change, authored by its agent. A merge's time is that of its later
    /// parent, so the same inputs make the same commits. No reference moves. Three merges and more
    /// are written as one pack file, so that a batch costs a few syncs and not a few per object;
    /// `git gc` on a clone that lives for weeks joins the packs.
    ///
    /// # Errors
    /// `NotFound` for a commit, `Corrupt`.
    ///
    /// # Cancel safety
    /// Cancel safe; commits that never land stay as unreferenced objects.
    pub async fn build(&self, target: &str, tip: ObjectId, items: Vec<LandItem>) -> Result<Built> {
        let target = target.to_owned();
        self.call(move |inner| inner.build(&target, tip, &items))
            .await
    }

    /// Moves `target` from `expected` to `commit`, whose tree must be the tested one.
    ///
    /// # Errors
    /// `Moved` if another landing won; `Untested` if the trees differ, before anything moves.
    ///
    /// # Cancel safety
    /// Atomic. After a crash the target is at one of the two commits, whole.
    pub async fn land(
        &self,
        target: &str,
        expected: ObjectId,
        commit: ObjectId,
        tested: ObjectId,
    ) -> Result<()> {
        let target = target.to_owned();
        self.call(move |inner| {
            let landing = from_oid(inner.commit(commit)?.tree_id());
            if landing != tested {
                return Err(Error::Untested { landing, tested });
            }
            let (new, old) = (to_oid(commit), to_oid(expected));
            match inner
                .repo
                .reference_matching(&target, new, true, old, "agents: land")
            {
                Ok(_) => {}
                Err(e) if matches!(e.code(), ErrorCode::Modified | ErrorCode::NotFound) => {
                    return Err(Error::Moved {
                        reference: target,
                        expected,
                    });
                }
                Err(e) => return Err(failed("move the target")(e)),
            }
            inner.line(&target).map(drop)
        })
        .await
    }

    /// Returns the paths a change touches, seen from where it left the target's history.
    ///
    /// # Errors
    /// `NotFound` for the target, the change, or a common ancestor; `Invalid` for a path no checkout
    /// can hold.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn touched(&self, target: &str, head: ObjectId) -> Result<BTreeSet<RepoPath>> {
        let target = target.to_owned();
        self.call(move |inner| {
            inner.line(&target)?;
            let inner = &*inner;
            let line = inner.lines.get(&target).ok_or(Error::Stopped)?;
            let commit = inner.commit(head)?;
            match merge_base(&inner.repo, line, line.tip, &commit)? {
                Some(base) => inner.changed_paths(from_oid(base), head),
                None => Err(Error::NotFound {
                    what: "common ancestor of",
                    name: head.to_string(),
                }),
            }
        })
        .await
    }
}

impl Inner {}
