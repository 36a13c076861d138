//! Path resolution in memory: one walk that every operation shares.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::FileProblem;
use crate::vfs::Result;
use crate::vfs::memory::{Kind, Node};

/// The most symbolic links on one path, as in Linux.
const LINKS_MAX: usize = 40;

/// The longest name of one entry, as in Linux.
const NAME_BYTES_MAX: usize = 255;

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Place {
    /// To a directory without naming it in another one: `.`, `a/..`.
    Directory(Arc<Node>),
    /// To a name in a directory, taken or free.
    Name {
        parent: Arc<Node>,
        name: String,
        node: Option<Arc<Node>>,
        /// The path ends in a slash, so it can name a directory only.
        must_be_directory: bool,
    },
}

/// Splits a path, keeping the order.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .map(str::to_owned)
}

/// Whether the last part of the path can name a directory only.
fn ends_as_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.") || path == "."
}

/// Checks the form of a path.
pub(super) fn check(path: &str, bytes_max: usize) -> Result<()> {
    if path.is_empty() {
        return Err(FileProblem::NotFound);
    }
    if path.len() > bytes_max {
        return Err(FileProblem::NameTooLong);
    }
    if path.contains('\0') {
        return Err(FileProblem::Invalid);
    }
    if path.starts_with('/') {
        return Err(FileProblem::Escape);
    }
    Ok(())
}

/// Walks from `start` along `path` and stops at its last name. A final symbolic link is followed
/// if `follow` or if the path ends in a slash.
pub(super) fn resolve(
    start: &Arc<Node>,
    path: &str,
    follow: bool,
    bytes_max: usize,
) -> Result<Place> {
    check(path, bytes_max)?;
    let mut left: VecDeque<String> = parts(path).collect();
    let mut must_be_directory = ends_as_directory(path);
    let mut above: Vec<Arc<Node>> = Vec::new();
    let mut here = Arc::clone(start);
    let mut n_links = 0_usize;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            here = above.pop().ok_or(FileProblem::Escape)?;
            continue;
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(FileProblem::NameTooLong);
        }
        let node = here.child(&name)?;
        let is_last = left.is_empty();
        if let Some(Kind::Symlink(target)) = node.as_deref().map(Node::kind)
            && (!is_last || follow || must_be_directory)
        {
            n_links = n_links.saturating_add(1);
            if n_links > LINKS_MAX {
                return Err(FileProblem::Loop);
            }
            check(target, bytes_max)?;
            must_be_directory |= is_last && ends_as_directory(target);
            for part in parts(target).rev() {
                left.push_front(part);
            }
            continue;
        }
        if is_last {
            return Ok(Place::Name {
                parent: here,
                name,
                node,
                must_be_directory,
            });
        }
        let node = node.ok_or(FileProblem::NotFound)?;
        if !matches!(node.kind(), Kind::Directory(_)) {
            return Err(FileProblem::NotDirectory);
        }
        above.push(std::mem::replace(&mut here, node));
    }
    Ok(Place::Directory(here))
}
