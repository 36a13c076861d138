//! A git repository without a work tree: what the fleet reads, proposes and lands on.

mod change;
mod clone;
mod land;
mod open;
mod read;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use git2::Oid;
use tokio::sync::{mpsc, oneshot};

pub use change::{Draft, Edit, Proposal};
pub use clone::CloneOptions;
pub use land::{Built, BuiltStep, LandItem};
pub use tree::Merged;

use super::error::{Error, Result};
use super::object::ObjectId;
use land::Line;
use read::entry_kind;

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
}

impl Inner {}

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
