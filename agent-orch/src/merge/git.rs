//! A git repository without a work tree: what the fleet reads, proposes and lands on.

mod change;
mod clone;
mod land;
mod open;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use git2::{ObjectType, Oid, Tree};
use tokio::sync::{mpsc, oneshot};

pub use change::{Draft, Edit, Proposal};
pub use clone::CloneOptions;
pub use land::{Built, BuiltStep, LandItem};
pub use tree::Merged;

use super::error::{Error, Result};
use super::object::{Entry, EntryKind, ObjectId, RepoPath};
use land::Line;
use open::failed;

/// A repository on its own named thread.
///
/// Calls are queued and run in order; a caller that goes away loses the answer, not the effect.
/// Cheap to clone; the thread ends when the last clone is dropped and the queue is empty.
///
/// Every write puts objects before references, so a process killed at any moment leaves each
/// reference on a complete commit. [`CloneOptions`] says what a power loss may do.
#[derive(Clone)]
pub struct Repository {
    jobs: mpsc::Sender<Job>,
    path: PathBuf,
}

type Job = Box<dyn FnOnce(&mut Inner) + Send>;

/// What the repository's thread owns.
struct Inner {
    repo: git2::Repository,
    /// First-parent lines by target reference, kept up to date with the reference.
    lines: BTreeMap<String, Line>,
    /// Locked while this process works on the clone; absent for a repository of somebody else.
    _lock: Option<std::fs::File>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Calls that may wait for the thread. Twice a fleet of fifty; more callers wait in line.
    pub const QUEUE_MAX: usize = 100;

    /// The most files one listing returns: the Linux kernel has 90,000.
    pub const FILES_MAX: usize = 1_000_000;

    /// Opens somebody's repository: a work tree, a linked work tree or a bare repository.
    ///
    /// Nothing is locked. The fleet works on a clone; see [`Repository::clone_local`].
    ///
    /// # Errors
    /// `NotARepository`, `Empty`, `NotOwned`, `Unsupported`, `Corrupt`.
    ///
    /// # Cancel safety
    /// Cancel safe: opening has no effect.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let given = path.clone();
        Self::start(path, move || {
            let repo = open::foreign(&given)?;
            Ok(Inner {
                repo,
                lines: BTreeMap::new(),
                _lock: None,
            })
        })
        .await
    }

    /// Opens a clone made by [`Repository::clone_local`], for this process alone.
    ///
    /// Lock files which a killed process left beside the fleet's references are removed.
    ///
    /// # Errors
    /// `InUse` if another process has it open, `NotARepository`, `Corrupt`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_clone(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let given = path.clone();
        Self::start(path, move || open::own(&given)).await
    }

    /// Clones a local repository into the directory `into`, bare, without the network, and returns
    /// the clone and the commit the revision names.
    ///
    /// The source may be a work tree (its uncommitted changes are not seen), a linked work tree, a
    /// bare repository, shallow, or one with alternates. Submodules stay what they are: entries that
    /// name a commit elsewhere. LFS pointers are files like any other. Object files are hard-linked
    /// where the file system can, which survives any `git gc` of the source; else copied. Every
    /// object of the commit's tree is checked to exist. A clone cut short by a crash is recognized
    /// and made again; a complete one at `into` is opened.
    ///
    /// # Errors
    /// Those of [`Repository::open`]; `Corrupt` if an object is missing; `NotFound` for the revision;
    /// `Invalid` if `into` holds something else.
    ///
    /// # Cancel safety
    /// The clone is completed even if the caller goes away.
    pub async fn clone_local(
        source: impl Into<PathBuf>,
        into: impl Into<PathBuf>,
        options: CloneOptions,
    ) -> Result<(Self, ObjectId)> {
        let (source, into) = (source.into(), into.into());
        let given = into.clone();
        let clone = Self::start(into, move || {
            clone::make(&source, &given, &options)?;
            open::own(&given)
        })
        .await?;
        let base = clone.resolve(clone::SOURCE_REF).await?;
        Ok((clone, base))
    }

    /// Starts the thread and waits until `open` has run on it.
    async fn start(
        path: PathBuf,
        open: impl FnOnce() -> Result<Inner> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(Self::QUEUE_MAX);
        let (ready, opened) = oneshot::channel();
        let run = move || {
            let mut inner = match open() {
                Ok(inner) => inner,
                // A caller that went away needs no answer.
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok(())));
            while let Some(job) = queue.blocking_recv() {
                job(&mut inner);
            }
        };
        let spawned = thread::Builder::new()
            .name("agent-git".to_owned())
            .spawn(run);
        spawned.map_err(|e| Error::Backend {
            operation: "start its thread",
            kind: agent_core::ErrorKind::Exhausted,
            source: e.into(),
        })?;
        opened.await.map_err(|_closed| Error::Stopped)??;
        Ok(Self { jobs, path })
    }

    /// Runs `work` on the repository's thread.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |inner| drop(reply.send(work(inner))));
        self.jobs
            .send(job)
            .await
            .map_err(|_closed| Error::Stopped)?;
        answer.await.map_err(|_dropped| Error::Stopped)?
    }

    /// Returns the path the repository was opened at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

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
    fn commit(&self, id: ObjectId) -> Result<git2::Commit<'_>> {
        self.repo
            .find_commit(to_oid(id))
            .map_err(open::missing("commit", id))
    }

    /// Finds a tree, or the tree of a commit.
    fn tree(&self, commit_or_tree: ObjectId) -> Result<Tree<'_>> {
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

    fn changed_paths(&self, base: ObjectId, head: ObjectId) -> Result<BTreeSet<RepoPath>> {
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
fn entry_kind(mode: i32) -> Option<EntryKind> {
    match mode & 0o170_000 {
        0o040_000 => None,
        0o120_000 => Some(EntryKind::Symlink),
        0o160_000 => Some(EntryKind::Gitlink),
        _ if mode & 0o100 != 0 => Some(EntryKind::Executable),
        _ => Some(EntryKind::File),
    }
}

fn to_oid(id: ObjectId) -> Oid {
    // Twenty bytes are what a SHA-1 name has; libgit2 refuses nothing else here.
    Oid::from_bytes(id.as_bytes()).unwrap_or(Oid::ZERO_SHA1)
}

fn from_oid(id: Oid) -> ObjectId {
    let mut bytes = [0_u8; 20];
    for (to, from) in bytes.iter_mut().zip(id.as_bytes()) {
        *to = *from;
    }
    ObjectId::from_bytes(bytes)
}
