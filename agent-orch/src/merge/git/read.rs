//! Reading: commits, trees, files and what changed between them.

use std::collections::BTreeSet;

use git2::{ObjectType, Tree};

use super::open::failed;
use super::tree::Merged;
use super::{Inner, Repository, from_oid, open, to_oid, tree};
use crate::merge::error::{Error, Result};
use crate::merge::object::{Entry, EntryKind, ObjectId, RepoPath};

impl Repository {
    /// Returns the commit a revision names: `HEAD`, a branch, a full reference, a hash.
    ///
    /// # Errors
    /// `NotFound`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn resolve(&self, revision: &str) -> Result<ObjectId> {
        let revision = revision.to_owned();
        self.call(move |inner| open::resolve(&inner.repo, &revision).map(from_oid))
            .await
    }

    /// Returns the tree of a commit.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn tree_of(&self, commit: ObjectId) -> Result<ObjectId> {
        self.call(move |inner| Ok(from_oid(inner.commit(commit)?.tree_id())))
            .await
    }

    /// Lists the tracked files of a commit or tree, in git's order.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `TooLarge` past [`Repository::FILES_MAX`] files.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn files(&self, commit_or_tree: ObjectId) -> Result<Vec<Entry>> {
        self.call(move |inner| {
            let tree = inner.tree(commit_or_tree)?;
            let mut files = Vec::new();
            inner.list(&tree, &mut Vec::new(), 0, &mut files)?;
            Ok(files)
        })
        .await
    }

    /// Reads a blob of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge` before the content is read, `Corrupt`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read_blob(&self, blob: ObjectId, bytes_max: usize) -> Result<Vec<u8>> {
        self.call(move |inner| inner.read_blob(blob, bytes_max))
            .await
    }

    /// Reads a file of a commit or tree, or `None` if it has none at that path.
    ///
    /// # Errors
    /// `NotFound` for the commit, `NotAFile` if the path names something else, `TooLarge`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read_file(
        &self,
        commit_or_tree: ObjectId,
        path: RepoPath,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>> {
        self.call(move |inner| {
            let mut tree = inner.tree(commit_or_tree)?;
            let mut parts = path.as_bytes().split(|b| *b == b'/').peekable();
            while let Some(part) = parts.next() {
                let Some(entry) = tree.get_name_bytes(part).map(|e| (e.id(), e.filemode())) else {
                    return Ok(None);
                };
                match (parts.peek().is_some(), entry_kind(entry.1)) {
                    (true, None) => tree = inner.tree(from_oid(entry.0))?,
                    (false, Some(EntryKind::File | EntryKind::Executable)) => {
                        return inner.read_blob(from_oid(entry.0), bytes_max).map(Some);
                    }
                    _ => return Err(Error::NotAFile { path }),
                }
            }
            Ok(None)
        })
        .await
    }

    /// Returns the paths that differ between two commits or trees, of at most
    /// [`Repository::FILES_MAX`]. A path no checkout can hold is an error, not left out.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Invalid` for such a path.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn changed_paths(
        &self,
        base: ObjectId,
        head: ObjectId,
    ) -> Result<BTreeSet<RepoPath>> {
        self.call(move |inner| inner.changed_paths(base, head))
            .await
    }

    /// Merges the trees of `ours` and `theirs`, whose common ancestor is `base`, without a work
    /// tree. Renames are followed. `.gitattributes` are not: every file merges as text.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`. A conflict is a value, not an error.
    ///
    /// # Cancel safety
    /// Cancel safe; the trees written stay as unreferenced objects.
    pub async fn merge(&self, base: ObjectId, ours: ObjectId, theirs: ObjectId) -> Result<Merged> {
        self.call(move |inner| {
            let (base, ours, theirs) = (inner.tree(base)?, inner.tree(ours)?, inner.tree(theirs)?);
            tree::merge(&inner.repo, &base, &ours, &theirs)
        })
        .await
    }
}

impl Inner {
    pub(super) fn commit(&self, id: ObjectId) -> Result<git2::Commit<'_>> {
        self.repo
            .find_commit(to_oid(id))
            .map_err(open::missing("commit", id))
    }

    /// Finds a tree, or the tree of a commit.
    pub(super) fn tree(&self, commit_or_tree: ObjectId) -> Result<Tree<'_>> {
        let object = self.repo.find_object(to_oid(commit_or_tree), None);
        let object = object.map_err(open::missing("commit or tree", commit_or_tree))?;
        object
            .peel_to_tree()
            .map_err(open::missing("tree of", commit_or_tree))
    }

    fn read_blob(&self, blob: ObjectId, bytes_max: usize) -> Result<Vec<u8>> {
        let odb = self
            .repo
            .odb()
            .map_err(failed("open the object database"))?;
        let (size, kind) = odb
            .read_header(to_oid(blob))
            .map_err(open::missing("blob", blob))?;
        if kind != ObjectType::Blob {
            return Err(Error::NotFound {
                what: "blob",
                name: blob.to_string(),
            });
        }
        Error::limit("a file's bytes", bytes_max, size)?;
        let object = odb
            .read(to_oid(blob))
            .map_err(open::missing("blob", blob))?;
        Ok(object.data().to_vec())
    }

    fn list(
        &self,
        tree: &Tree<'_>,
        prefix: &mut Vec<u8>,
        depth: usize,
        files: &mut Vec<Entry>,
    ) -> Result<()> {
        Error::limit("a tree's depth", RepoPath::PARTS_MAX, depth)?;
        let odb = self
            .repo
            .odb()
            .map_err(failed("open the object database"))?;
        for entry in tree {
            let length = prefix.len();
            prefix.extend_from_slice(entry.name_bytes());
            let id = from_oid(entry.id());
            match entry_kind(entry.filemode()) {
                None => {
                    prefix.push(b'/');
                    self.list(&self.tree(id)?, prefix, depth.saturating_add(1), files)?;
                }
                Some(kind) => {
                    let size = match kind {
                        EntryKind::Gitlink => 0,
                        _ => {
                            odb.read_header(entry.id())
                                .map_err(open::missing("blob", id))?
                                .0
                        }
                    };
                    let size = u64::try_from(size).unwrap_or(u64::MAX);
                    files.push(Entry {
                        path: prefix.clone(),
                        kind,
                        id,
                        size,
                    });
                    Error::limit("a listing's files", Repository::FILES_MAX, files.len())?;
                }
            }
            prefix.truncate(length);
        }
        Ok(())
    }

    pub(super) fn changed_paths(
        &self,
        base: ObjectId,
        head: ObjectId,
    ) -> Result<BTreeSet<RepoPath>> {
        let (base, head) = (self.tree(base)?, self.tree(head)?);
        let mut paths = BTreeSet::new();
        tree::changed(&self.repo, &base, &head, &mut |path| {
            paths.insert(RepoPath::new(path)?);
            Error::limit("a change's paths", Repository::FILES_MAX, paths.len())
        })?;
        Ok(paths)
    }
}

/// Returns what a mode means; `None` is a directory.
pub(super) fn entry_kind(mode: i32) -> Option<EntryKind> {
    match mode & 0o170_000 {
        0o040_000 => None,
        0o120_000 => Some(EntryKind::Symlink),
        0o160_000 => Some(EntryKind::Gitlink),
        _ if mode & 0o100 != 0 => Some(EntryKind::Executable),
        _ => Some(EntryKind::File),
    }
}
