//! Edits of a tree: only the directories on the way to an edited file are written.

use std::collections::BTreeMap;

use git2::{Oid, Repository, Tree};

use super::{DIRECTORY, EXECUTABLE, FILE, Slot, put, slot};
use crate::merge::error::{Error, Result};
use crate::merge::git::Edit;
use crate::merge::git::open::failed;
use crate::merge::object::RepoPath;

/// A tree of edits, one level per directory.
pub(in crate::merge::git) enum EditNode {
    Leaf(RepoPath, Edit),
    Directory(BTreeMap<Vec<u8>, Self>),
}

/// Arranges edits by directory.
pub(in crate::merge::git) fn arrange(
    edits: BTreeMap<RepoPath, Edit>,
) -> Result<BTreeMap<Vec<u8>, EditNode>> {
    let mut root = BTreeMap::new();
    for (path, edit) in edits {
        let mut level = &mut root;
        let bytes = path.as_bytes().to_vec();
        let mut parts = bytes.split(|b| *b == b'/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                if level.contains_key(part) {
                    return Err(Error::NotAFile { path });
                }
                level.insert(part.to_vec(), EditNode::Leaf(path, edit));
                break;
            }
            let node = level
                .entry(part.to_vec())
                .or_insert_with(|| EditNode::Directory(BTreeMap::new()));
            let EditNode::Directory(below) = node else {
                return Err(Error::NotAFile { path });
            };
            level = below;
        }
    }
    Ok(root)
}

/// Applies edits to a directory and returns its tree, or `None` if nothing is left in it.
pub(in crate::merge::git) fn edited(
    repo: &Repository,
    tree: Option<&Tree<'_>>,
    edits: &BTreeMap<Vec<u8>, EditNode>,
) -> Result<Option<Oid>> {
    let mut builder = repo.treebuilder(tree).map_err(failed("copy a tree"))?;
    for (name, node) in edits {
        let current = tree.and_then(|tree| slot(tree, name));
        let next = match node {
            EditNode::Leaf(path, edit) => edit_file(repo, current, path, edit)?,
            EditNode::Directory(below) => {
                let below_tree = match current {
                    None => None,
                    Some((id, DIRECTORY)) => {
                        Some(repo.find_tree(id).map_err(failed("read a tree"))?)
                    }
                    Some(_) => {
                        return Err(Error::NotAFile {
                            path: first_path(below)?,
                        });
                    }
                };
                edited(repo, below_tree.as_ref(), below)?.map(|id| (id, DIRECTORY))
            }
        };
        put(&mut builder, name, next)?;
    }
    if builder.is_empty() {
        return Ok(None);
    }
    builder.write().map(Some).map_err(failed("write a tree"))
}

fn edit_file(repo: &Repository, current: Slot, path: &RepoPath, edit: &Edit) -> Result<Slot> {
    let mode = match current {
        None => None,
        Some((_, mode @ (FILE | EXECUTABLE))) => Some(mode),
        Some(_) => return Err(Error::NotAFile { path: path.clone() }),
    };
    match edit {
        Edit::Put(bytes) => {
            let id = repo.blob(bytes).map_err(failed("write a file"))?;
            Ok(Some((id, mode.unwrap_or(FILE))))
        }
        Edit::Delete if mode.is_none() => Err(Error::NotFound {
            what: "file to delete",
            name: path.to_string(),
        }),
        Edit::Delete => Ok(None),
    }
}

fn first_path(edits: &BTreeMap<Vec<u8>, EditNode>) -> Result<RepoPath> {
    match edits.values().next() {
        Some(EditNode::Leaf(path, _)) => Ok(path.clone()),
        Some(EditNode::Directory(below)) => first_path(below),
        None => Err(Error::invalid("edits", "a directory without an edit")),
    }
}
