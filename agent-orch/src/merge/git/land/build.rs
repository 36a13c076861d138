//! A chain of merge commits, built in memory and written as one pack.

use std::collections::BTreeSet;

use git2::{Commit, ErrorCode, OdbLookupFlags, Oid};

use super::line::Line;
use super::{Built, BuiltStep, LandItem};
use crate::merge::error::{Error, Result};
use crate::merge::git::change::{parse_message, signature_of, with_trailers};
use crate::merge::git::open::{self, failed};
use crate::merge::git::tree::{self, Merged};
use crate::merge::git::{Inner, from_oid, to_oid};
use crate::merge::object::ObjectId;

/// Up to this many landings are written as loose objects; a pack costs about as many syncs.
const LOOSE_LANDINGS_MAX: usize = 2;

/// Who commits merges.
const COMMITTER: &str = "merge-queue";

impl Inner {
    pub(super) fn build(
        &mut self,
        target: &str,
        tip: ObjectId,
        items: &[LandItem],
    ) -> Result<Built> {
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
pub(super) fn merge_base(
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
