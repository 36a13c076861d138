//! Differences between trees: paths that changed, objects that were added.

use std::collections::BTreeSet;

use git2::{ObjectType, Oid, Repository, Tree};

use super::{DIRECTORY, Slot, names, slot};
use crate::merge::error::{Error, Result};
use crate::merge::git::open::failed;
use crate::merge::object::RepoPath;

/// Calls `visit` with the path of every file that differs between two trees.
pub(in crate::merge::git) fn changed(
    repo: &Repository,
    base: &Tree<'_>,
    head: &Tree<'_>,
    visit: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    changed_below(repo, Some(base), Some(head), &mut Vec::new(), visit)
}

fn changed_below(
    repo: &Repository,
    base: Option<&Tree<'_>>,
    head: Option<&Tree<'_>>,
    prefix: &mut Vec<u8>,
    visit: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    let parts = prefix.iter().filter(|b| **b == b'/').count();
    Error::limit("a tree's depth", RepoPath::PARTS_MAX, parts)?;
    let names: BTreeSet<Vec<u8>> = [base, head].into_iter().flatten().flat_map(names).collect();
    for name in names {
        let was = base.and_then(|tree| slot(tree, &name));
        let is = head.and_then(|tree| slot(tree, &name));
        if was == is {
            continue;
        }
        let length = prefix.len();
        prefix.extend_from_slice(&name);
        let file = |slot: Slot| slot.is_some_and(|(_, mode)| mode != DIRECTORY);
        if file(was) || file(is) {
            visit(prefix.clone())?;
        }
        let directory = |slot: Slot| match slot {
            Some((id, DIRECTORY)) => repo.find_tree(id).map(Some).map_err(failed("read a tree")),
            _ => Ok(None),
        };
        let (was, is) = (directory(was)?, directory(is)?);
        if was.is_some() || is.is_some() {
            prefix.push(b'/');
            changed_below(repo, was.as_ref(), is.as_ref(), prefix, visit)?;
        }
        prefix.truncate(length);
    }
    Ok(())
}

/// Collects the trees and files of `head` that `base` does not have at the same place.
pub(in crate::merge::git) fn objects_added(
    repo: &Repository,
    base: Option<&Tree<'_>>,
    head: &Tree<'_>,
    added: &mut BTreeSet<Oid>,
) -> Result<()> {
    if base.is_some_and(|base| base.id() == head.id()) || !added.insert(head.id()) {
        return Ok(());
    }
    for entry in head {
        let was = base.and_then(|tree| slot(tree, entry.name_bytes()));
        if was == Some((entry.id(), entry.filemode())) {
            continue;
        }
        match entry.kind() {
            Some(ObjectType::Tree) => {
                let is = repo.find_tree(entry.id()).map_err(failed("read a tree"))?;
                let was = match was {
                    Some((id, DIRECTORY)) => {
                        Some(repo.find_tree(id).map_err(failed("read a tree"))?)
                    }
                    _ => None,
                };
                objects_added(repo, was.as_ref(), &is, added)?;
            }
            Some(ObjectType::Blob) => drop(added.insert(entry.id())),
            _ => {}
        }
    }
    Ok(())
}
