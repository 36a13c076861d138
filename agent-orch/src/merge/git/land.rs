//! Landing: merge commits built in memory, written as one pack, and one compare-and-swap of the
//! target reference.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use agent_core::{AgentId, TaskId};
use git2::{Commit, ErrorCode, OdbLookupFlags, Oid, Reference};
use serde::{Deserialize, Serialize};

use super::change::{parse_message, signature_of, trailer_id, with_trailers};
use super::open::{self, failed};
use super::tree::{self, Merged};
use super::{Inner, Repository, from_oid, to_oid};
use crate::merge::conflict::Conflict;
use crate::merge::error::{Error, Result};
use crate::merge::object::{ObjectId, RepoPath};

/// Where targets may lie, so that no configuration mistake moves a person's branch.
const TARGET_PREFIX: &str = "refs/heads/agents/";

/// Where it is kept at which commit a target was when its queue started.
const START_PREFIX: &str = "refs/agents/start/";

/// Up to this many landings are written as loose objects; a pack costs about as many syncs.
const LOOSE_LANDINGS_MAX: usize = 2;

/// Who commits merges.
const COMMITTER: &str = "merge-queue";

/// The first-parent line of a target since its queue started.
pub(super) struct Line {
    tip: Oid,
    commits: HashSet<Oid>,
    landed: BTreeMap<TaskId, ObjectId>,
}

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

impl Inner {
    /// Returns the commit a reference is at.
    fn reference(&self, name: &str) -> Result<Option<Oid>> {
        match self.repo.find_reference(name) {
            Ok(reference) => Ok(reference.target()),
            Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
            Err(e) => Err(failed("read a reference")(e)),
        }
    }

    /// Returns the target's line, caught up with the reference, which others may have moved.
    fn line(&mut self, target: &str) -> Result<&Line> {
        let not_opened = || Error::NotFound {
            what: "target",
            name: target.to_owned(),
        };
        let tip = self.reference(target)?.ok_or_else(not_opened)?;
        let name = target.strip_prefix(TARGET_PREFIX).unwrap_or(target);
        let start = self
            .reference(&format!("{START_PREFIX}{name}"))?
            .ok_or_else(not_opened)?;
        let mut known = self.lines.remove(target);
        if known.as_ref().is_none_or(|line| line.tip != tip) {
            known = Some(self.follow(tip, start, known)?);
        }
        let line = known.ok_or_else(not_opened)?;
        Ok(self.lines.entry(target.to_owned()).or_insert(line))
    }

    /// Walks first parents from the tip to what is known, or to the start.
    fn follow(&self, tip: Oid, start: Oid, known: Option<Line>) -> Result<Line> {
        let mut fresh = Line {
            tip,
            commits: HashSet::from([start]),
            landed: BTreeMap::new(),
        };
        let mut at = tip;
        while at != start {
            if known.as_ref().is_some_and(|known| known.tip == at) {
                break;
            }
            let commit = self.commit(from_oid(at))?;
            fresh.commits.insert(at);
            if let (2, (_, trailers)) = (
                commit.parent_count(),
                parse_message(commit.message_raw_bytes()),
            ) {
                let task = trailers.iter().find(|(key, _)| key == "Task");
                if let Ok(task) = trailer_id(task.map(|(_, value)| value.as_str())) {
                    fresh.landed.insert(task, from_oid(at));
                }
            }
            match commit.parent_id(0) {
                Ok(parent) => at = parent,
                Err(_root) => break,
            }
        }
        if let Some(known) = known.filter(|known| known.tip == at) {
            fresh.commits.extend(known.commits);
            fresh.landed.extend(known.landed);
        }
        Ok(fresh)
    }

    fn build(&mut self, target: &str, tip: ObjectId, items: &[LandItem]) -> Result<Built> {
        self.line(target)?;
        let line = self.lines.get(target).ok_or(Error::Stopped)?;
        if items.len() <= LOOSE_LANDINGS_MAX {
            return build_on(&self.repo, line, tip, items);
        }
        // A second handle whose writes go to memory: the first one's stay loose objects.
        let batch = open::isolated(self.repo.path())?;
        let odb = batch.odb().map_err(failed("open the object database"))?;
        let _memory = odb
            .add_new_mempack_backend(1_000)
            .map_err(failed("buffer objects"))?;
        let built = build_on(&batch, line, tip, items)?;
        self.pack(&batch, tip, &built.steps)?;
        Ok(built)
    }

    /// Writes as one pack what a chain of merges added.
    fn pack(&self, batch: &git2::Repository, tip: ObjectId, steps: &[BuiltStep]) -> Result<()> {
        let read = |id: ObjectId| {
            batch
                .find_commit(to_oid(id))
                .and_then(|commit| commit.tree())
        };
        let mut before = read(tip).map_err(failed("read a tree"))?;
        let mut added = BTreeSet::new();
        for step in steps {
            let after = read(step.commit).map_err(failed("read a tree"))?;
            tree::objects_added(batch, Some(&before), &after, &mut added)?;
            added.insert(to_oid(step.commit));
            before = after;
        }
        let stored = self
            .repo
            .odb()
            .map_err(failed("open the object database"))?;
        added.retain(|id| !stored.exists_ext(*id, OdbLookupFlags::NO_REFRESH));
        if added.is_empty() {
            return Ok(());
        }
        let mut pack = batch.packbuilder().map_err(failed("start a pack"))?;
        pack.set_threads(1);
        for id in added {
            pack.insert_object(id, None)
                .map_err(failed("pack an object"))?;
        }
        let directory = self.repo.path().join("objects").join("pack");
        pack.write(&directory, 0).map_err(failed("write a pack"))
    }
}

/// Merges items one after the other on top of `tip`.
fn build_on(
    repo: &git2::Repository,
    line: &Line,
    tip: ObjectId,
    items: &[LandItem],
) -> Result<Built> {
    let mut built = Built {
        steps: Vec::new(),
        conflicted: Vec::new(),
    };
    let mut at = repo
        .find_commit(to_oid(tip))
        .map_err(open::missing("commit", tip))?;
    for item in items {
        let head = repo.find_commit(to_oid(item.head));
        let head = head.map_err(open::missing("commit", item.head))?;
        let Some(base) = merge_base(repo, line, at.id(), &head)? else {
            built.conflicted.push((item.task, Vec::new()));
            continue;
        };
        let base = repo.find_commit(base).and_then(|base| base.tree());
        let (base, ours, theirs) = match (base, at.tree(), head.tree()) {
            (Ok(base), Ok(ours), Ok(theirs)) => (base, ours, theirs),
            (Err(e), _, _) | (_, Err(e), _) | (_, _, Err(e)) => {
                return Err(failed("read a tree")(e));
            }
        };
        match tree::merge(repo, &base, &ours, &theirs)? {
            Merged::Conflicted { conflicts } => built.conflicted.push((item.task, conflicts)),
            Merged::Clean { tree } => {
                let merged = commit_merge(repo, item, &at, &head, tree)?;
                built.steps.push(BuiltStep {
                    task: item.task,
                    commit: from_oid(merged),
                    tree,
                });
                at = repo.find_commit(merged).map_err(failed("read a merge"))?;
            }
        }
    }
    Ok(built)
}

/// Returns the best common ancestor, without a walk in the usual case: one commit on top of the
/// target's line.
fn merge_base(
    repo: &git2::Repository,
    line: &Line,
    tip: Oid,
    head: &Commit<'_>,
) -> Result<Option<Oid>> {
    if let (1, Ok(parent)) = (head.parent_count(), head.parent_id(0))
        && line.commits.contains(&parent)
    {
        return Ok(Some(parent));
    }
    match repo.merge_base(tip, head.id()) {
        Ok(base) => Ok(Some(base)),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
        Err(e) => Err(failed("find a common ancestor")(e)),
    }
}

fn commit_merge(
    repo: &git2::Repository,
    item: &LandItem,
    tip: &Commit<'_>,
    head: &Commit<'_>,
    tree: ObjectId,
) -> Result<Oid> {
    let seconds = tip.time().seconds().max(head.time().seconds());
    let author = signature_of(&item.agent.to_string(), seconds)?;
    let committer = signature_of(COMMITTER, seconds)?;
    let (subject, _) = parse_message(head.message_raw_bytes());
    let trailers = [
        ("Agent".to_owned(), item.agent.to_string()),
        ("Task".to_owned(), item.task.to_string()),
        ("Change".to_owned(), item.head.to_string()),
    ];
    let message = with_trailers(&format!("Land {}: {subject}", item.task), &trailers);
    let tree = repo
        .find_tree(to_oid(tree))
        .map_err(failed("read a merged tree"))?;
    repo.commit(None, &author, &committer, &message, &tree, &[tip, head])
        .map_err(failed("write a merge"))
}
