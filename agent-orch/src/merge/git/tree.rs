//! Trees without a work tree: three-way merge, edits and differences.
//!
//! Merging descends only into directories both sides changed, so its cost follows the change, not
//! the repository. Whatever is not settled by "one side changed it" or a clean merge of a file's
//! text goes to libgit2's merge of the whole trees, which follows renames and names conflicts.

mod diff;
mod edit;

use std::collections::{BTreeMap, BTreeSet};

use git2::{
    Delta, DiffFindOptions, IndexEntry, IndexTime, MergeOptions, Oid, Repository, Tree, TreeBuilder,
};

use super::from_oid;
use super::open::failed;
use crate::merge::conflict::{Conflict, ConflictKind};
use crate::merge::error::{Error, Result};
use crate::merge::object::{ObjectId, RepoPath};

pub(super) use diff::{changed, objects_added};
pub(super) use edit::{arrange, edited};

/// How a three-way merge ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Merged {
    /// Both sides fit together.
    #[non_exhaustive]
    Clean {
        /// The merged tree.
        tree: ObjectId,
    },
    /// They do not.
    #[non_exhaustive]
    Conflicted {
        /// Every path in conflict, in order.
        conflicts: Vec<Conflict>,
    },
}

const DIRECTORY: i32 = 0o040_000;
const FILE: i32 = 0o100_644;
const EXECUTABLE: i32 = 0o100_755;

/// What a name stands for in a directory.
type Slot = Option<(Oid, i32)>;

/// Merges three trees.
pub(super) fn merge(
    repo: &Repository,
    base: &Tree<'_>,
    ours: &Tree<'_>,
    theirs: &Tree<'_>,
) -> Result<Merged> {
    if let Some(tree) = merge_directory(repo, base, ours, theirs, 0)? {
        return Ok(Merged::Clean {
            tree: from_oid(tree),
        });
    }
    merge_whole(repo, base, ours, theirs)
}

/// Merges one directory, or returns `None` if some path needs the whole trees to decide.
fn merge_directory(
    repo: &Repository,
    base: &Tree<'_>,
    ours: &Tree<'_>,
    theirs: &Tree<'_>,
    depth: usize,
) -> Result<Option<Oid>> {
    Error::limit("a tree's depth", RepoPath::PARTS_MAX, depth)?;
    let mut merged = repo
        .treebuilder(Some(ours))
        .map_err(failed("copy a tree"))?;
    for name in differing_names(base, theirs) {
        let (was, our, their) = (slot(base, &name), slot(ours, &name), slot(theirs, &name));
        let settled = if our == was {
            their
        } else if our == their && !removes_files(repo, was, our)? {
            our
        } else {
            let (Some(was), Some(our), Some(their)) = (was, our, their) else {
                return Ok(None);
            };
            match merge_slot(repo, was, our, their, depth)? {
                Some(settled) => settled,
                None => return Ok(None),
            }
        };
        if settled != our {
            put(&mut merged, &name, settled)?;
        }
    }
    merged.write().map(Some).map_err(failed("write a tree"))
}

/// Tells whether a file of the base is gone. If it is gone on both sides, one may have renamed it.
fn removes_files(repo: &Repository, was: Slot, is: Slot) -> Result<bool> {
    let (was, is) = match (was, is) {
        (Some((was, DIRECTORY)), Some((is, DIRECTORY))) => (was, is),
        (None, _) => return Ok(false),
        (Some((_, was)), is) => {
            return Ok(was == DIRECTORY || is.is_none_or(|(_, is)| is == DIRECTORY));
        }
    };
    let (was, is) = (repo.find_tree(was), repo.find_tree(is));
    let (was, is) = (
        was.map_err(failed("read a tree"))?,
        is.map_err(failed("read a tree"))?,
    );
    for name in differing_names(&was, &is) {
        if removes_files(repo, slot(&was, &name), slot(&is, &name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Merges what a name stands for where both sides changed it: two directories, or two files.
fn merge_slot(
    repo: &Repository,
    was: (Oid, i32),
    our: (Oid, i32),
    their: (Oid, i32),
    depth: usize,
) -> Result<Option<Slot>> {
    if [was.1, our.1, their.1] == [DIRECTORY; 3] {
        let [base, ours, theirs] = [was.0, our.0, their.0].map(|id| repo.find_tree(id));
        let read = failed("read a tree");
        let (base, ours, theirs) = match (base, ours, theirs) {
            (Ok(base), Ok(ours), Ok(theirs)) => (base, ours, theirs),
            (Err(e), _, _) | (_, Err(e), _) | (_, _, Err(e)) => return Err(read(e)),
        };
        let Some(id) = merge_directory(repo, &base, &ours, &theirs, depth.saturating_add(1))?
        else {
            return Ok(None);
        };
        let empty = repo
            .find_tree(id)
            .map_err(failed("read a tree"))?
            .is_empty();
        return Ok(Some((!empty).then_some((id, DIRECTORY))));
    }
    let regular = |mode: i32| mode == FILE || mode == EXECUTABLE;
    if !(regular(was.1) && regular(our.1) && regular(their.1)) {
        return Ok(None);
    }
    // Two values of a mode: if both sides differ from the base, they agree.
    let mode = if our.1 == was.1 { their.1 } else { our.1 };
    if our.0 == was.0 || our.0 == their.0 {
        return Ok(Some(Some((their.0, mode))));
    }
    if their.0 == was.0 {
        return Ok(Some(Some((our.0, mode))));
    }
    let [was, our, their] = [was.0, our.0, their.0].map(index_entry);
    let file = repo
        .merge_file_from_index(&was, &our, &their, None)
        .map_err(failed("merge a file"))?;
    if !file.is_automergeable() {
        return Ok(None);
    }
    let id = repo
        .blob(file.content())
        .map_err(failed("write a merged file"))?;
    Ok(Some(Some((id, mode))))
}

/// Merges whole trees with rename detection, and names the conflicts.
fn merge_whole(
    repo: &Repository,
    base: &Tree<'_>,
    ours: &Tree<'_>,
    theirs: &Tree<'_>,
) -> Result<Merged> {
    let mut options = MergeOptions::new();
    options.find_renames(true).skip_reuc(true);
    let mut index = repo
        .merge_trees(base, ours, theirs, Some(&options))
        .map_err(failed("merge trees"))?;
    let mut conflicts = deleted_and_renamed(repo, base, ours, theirs)?;
    if conflicts.is_empty() && !index.has_conflicts() {
        let tree = index
            .write_tree_to(repo)
            .map_err(failed("write a merged tree"))?;
        return Ok(Merged::Clean {
            tree: from_oid(tree),
        });
    }
    for conflict in index.conflicts().map_err(failed("list conflicts"))? {
        let conflict = conflict.map_err(failed("list conflicts"))?;
        let sides = [&conflict.ancestor, &conflict.our, &conflict.their];
        let kind = match sides.map(Option::is_some) {
            [true, true, true] => ConflictKind::Content,
            [false, true, true] => ConflictKind::BothAdded,
            [true, false, true] => ConflictKind::DeletedByUs,
            [true, true, false] => ConflictKind::DeletedByThem,
            _ => ConflictKind::Structure,
        };
        // A path no checkout can hold has no name here; the merge is in conflict all the same.
        let entry = sides.into_iter().flatten().next();
        if let Some(Ok(path)) = entry.map(|entry| RepoPath::new(entry.path.clone())) {
            conflicts.insert(path, kind);
        }
    }
    let conflicts = conflicts
        .into_iter()
        .map(|(path, kind)| Conflict { path, kind })
        .collect();
    Ok(Merged::Conflicted { conflicts })
}

/// Finds files that one side deleted and the other renamed. libgit2 keeps the renamed file, which
/// would undo the deletion in silence.
fn deleted_and_renamed(
    repo: &Repository,
    base: &Tree<'_>,
    ours: &Tree<'_>,
    theirs: &Tree<'_>,
) -> Result<BTreeMap<RepoPath, ConflictKind>> {
    let mut deleted = [BTreeSet::new(), BTreeSet::new()];
    for (side, deleted) in [ours, theirs].into_iter().zip(&mut deleted) {
        changed(repo, base, side, &mut |path| {
            if file_at(repo, side, &path)?.is_none() {
                deleted.insert(path);
            }
            Ok(())
        })?;
    }
    let [deleted, also_deleted] = deleted;
    let both: BTreeSet<Vec<u8>> = deleted.intersection(&also_deleted).cloned().collect();
    if both.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (ours, theirs) = (renamed(repo, base, ours)?, renamed(repo, base, theirs)?);
    let one_side = both
        .into_iter()
        .filter(|path| ours.contains(path) != theirs.contains(path));
    one_side
        .map(|path| Ok((RepoPath::new(path)?, ConflictKind::Structure)))
        .collect()
}

/// Returns what a path stands for in a tree.
fn file_at(repo: &Repository, tree: &Tree<'_>, path: &[u8]) -> Result<Slot> {
    let mut at = Some((tree.id(), DIRECTORY));
    for part in path.split(|b| *b == b'/') {
        at = match at {
            Some((id, DIRECTORY)) => {
                slot(&repo.find_tree(id).map_err(failed("read a tree"))?, part)
            }
            _ => None,
        };
    }
    Ok(at.filter(|(_, mode)| *mode != DIRECTORY))
}

/// Returns the paths a side renamed.
fn renamed(repo: &Repository, base: &Tree<'_>, side: &Tree<'_>) -> Result<BTreeSet<Vec<u8>>> {
    let mut diff = repo
        .diff_tree_to_tree(Some(base), Some(side), None)
        .map_err(failed("compare trees"))?;
    let mut options = DiffFindOptions::new();
    diff.find_similar(Some(options.renames(true)))
        .map_err(failed("find renames"))?;
    let renames = diff
        .deltas()
        .filter(|delta| delta.status() == Delta::Renamed);
    Ok(renames
        .filter_map(|delta| delta.old_file().path_bytes().map(<[u8]>::to_vec))
        .collect())
}

fn names<'a>(tree: &'a Tree<'_>) -> impl Iterator<Item = Vec<u8>> + 'a {
    tree.iter().map(|entry| entry.name_bytes().to_vec())
}

/// Returns the names whose slots differ, in order.
fn differing_names(base: &Tree<'_>, other: &Tree<'_>) -> BTreeSet<Vec<u8>> {
    let added_or_changed = other
        .iter()
        .filter(|e| slot(base, e.name_bytes()) != Some((e.id(), e.filemode())))
        .map(|e| e.name_bytes().to_vec());
    let removed = names(base).filter(|name| other.get_name_bytes(name).is_none());
    added_or_changed.chain(removed).collect()
}

fn slot(tree: &Tree<'_>, name: &[u8]) -> Slot {
    tree.get_name_bytes(name)
        .map(|entry| (entry.id(), entry.filemode()))
}

fn put(builder: &mut TreeBuilder<'_>, name: &[u8], slot: Slot) -> Result<()> {
    match slot {
        Some((id, mode)) => builder
            .insert(name.to_vec(), id, mode)
            .map(drop)
            .map_err(failed("build a tree")),
        None => {
            let present = builder
                .get(name.to_vec())
                .map_err(failed("build a tree"))?
                .is_some();
            if present {
                builder
                    .remove(name.to_vec())
                    .map_err(failed("build a tree"))
            } else {
                Ok(())
            }
        }
    }
}

/// Wraps a blob for libgit2's merge of one file, which looks at nothing but the id and the mode.
fn index_entry(id: Oid) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: b"file".to_vec(),
    }
}
