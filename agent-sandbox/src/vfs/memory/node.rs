//! The nodes of a tree in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use crate::error::FileProblem;
use crate::files::FileType;
use crate::vfs::{Entry, Quota, Result, Stat, Times};

/// The most names of one file: far above use, far below overflow.
const LINKS_MAX: u64 = 65_536;

/// What the nodes of one mount share.
#[derive(Debug)]
pub(super) struct Volume {
    /// Held while names are looked up or changed, so that each operation sees one state.
    pub(super) names: RwLock<()>,
    device: u64,
    read_only: bool,
    next_inode: AtomicU64,
}

impl Volume {
    pub(super) fn new(read_only: bool) -> Self {
        // Numbers tell mounts apart inside one process; nothing is stored under them.
        static NEXT_DEVICE: AtomicU64 = AtomicU64::new(1);
        let device = NEXT_DEVICE.fetch_add(1, Ordering::Relaxed);
        Self {
            names: RwLock::new(()),
            device,
            read_only,
            next_inode: AtomicU64::new(1),
        }
    }

    pub(super) const fn device(&self) -> u64 {
        self.device
    }

    pub(super) const fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn node(&self, kind: Kind, now: u64) -> Arc<Node> {
        let inode = self.next_inode.fetch_add(1, Ordering::Relaxed);
        let info = Info {
            links: 1,
            accessed: now,
            modified: now,
            changed: now,
        };
        Arc::new(Node {
            inode,
            kind,
            info: Mutex::new(info),
            counted: OnceLock::new(),
        })
    }

    pub(super) fn directory(&self, now: u64) -> Arc<Node> {
        self.node(Kind::Directory(RwLock::default()), now)
    }

    pub(super) fn empty_file(&self, now: u64) -> Arc<Node> {
        self.node(Kind::File(RwLock::new(Content::Shared(Arc::from([])))), now)
    }

    pub(super) fn shared_file(&self, bytes: Arc<[u8]>, now: u64) -> Arc<Node> {
        self.node(Kind::File(RwLock::new(Content::Shared(bytes))), now)
    }

    pub(super) fn symlink(&self, target: String, now: u64) -> Arc<Node> {
        self.node(Kind::Symlink(target), now)
    }
}

/// The bytes of a file.
#[derive(Debug)]
pub(in crate::vfs) enum Content {
    /// Shared with a tree or other sandboxes, and not counted against a limit.
    Shared(Arc<[u8]>),
    /// Written here; the length is counted against the limit.
    Own { bytes: Vec<u8>, quota: Arc<Quota> },
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own { bytes, .. } => bytes,
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if let Self::Own { bytes, quota } = self {
            quota.give_bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
    }
}

/// The entries of a directory.
#[derive(Debug, Default)]
pub(in crate::vfs) struct Names {
    entries: BTreeMap<String, Arc<Node>>,
    /// The directory above, to find out whether a move would make a ring.
    above: Weak<Node>,
    /// The directory was removed; an open handle cannot fill it again.
    retired: bool,
}

/// What a node is.
#[derive(Debug)]
pub(in crate::vfs) enum Kind {
    File(RwLock<Content>),
    Directory(RwLock<Names>),
    Symlink(String),
}

#[derive(Debug)]
struct Info {
    links: u64,
    accessed: u64,
    modified: u64,
    changed: u64,
}

/// A file, directory or symbolic link.
#[derive(Debug)]
pub(in crate::vfs) struct Node {
    inode: u64,
    kind: Kind,
    info: Mutex<Info>,
    /// The limit this node counts against, if any.
    counted: OnceLock<Arc<Quota>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(quota) = self.counted.get() {
            quota.give_file();
        }
        // Dropped one after another: a chain of directories would overflow the stack otherwise.
        let mut below = self.take_children();
        while let Some(node) = below.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                below.append(&mut node.take_children());
            }
        }
    }
}

impl Node {
    pub(in crate::vfs) const fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) const fn file_type(&self) -> FileType {
        match self.kind {
            Kind::File(_) => FileType::File,
            Kind::Directory(_) => FileType::Directory,
            Kind::Symlink(_) => FileType::Symlink,
        }
    }

    fn take_children(&mut self) -> Vec<Arc<Self>> {
        match &mut self.kind {
            Kind::Directory(names) => std::mem::take(&mut names.get_mut().entries)
                .into_values()
                .collect(),
            Kind::File(_) | Kind::Symlink(_) => Vec::new(),
        }
    }

    fn names(&self) -> Result<&RwLock<Names>> {
        match &self.kind {
            Kind::Directory(names) => Ok(names),
            Kind::File(_) | Kind::Symlink(_) => Err(FileProblem::NotDirectory),
        }
    }

    /// Counts the node against a limit for as long as it lives.
    pub(super) fn count(&self, quota: &Arc<Quota>) -> Result<()> {
        quota.take_file()?;
        if self.counted.set(Arc::clone(quota)).is_err() {
            quota.give_file();
        }
        Ok(())
    }

    /// Returns the node under a name.
    pub(in crate::vfs) fn child(&self, name: &str) -> Result<Option<Arc<Self>>> {
        Ok(self.names()?.read().entries.get(name).cloned())
    }

    /// Puts a node under a name that is free or whose node was dealt with.
    pub(super) fn insert(self: &Arc<Self>, name: &str, node: Arc<Self>, now: u64) -> Result<()> {
        if self.names()?.read().retired {
            return Err(FileProblem::NotFound);
        }
        self.put(name, node);
        self.touch(now);
        Ok(())
    }

    /// Puts a node under a name while a tree is built; nothing happens on a file.
    pub(super) fn put(self: &Arc<Self>, name: &str, node: Arc<Self>) {
        if let Kind::Directory(names) = &self.kind {
            if let Kind::Directory(child) = &node.kind {
                child.write().above = Arc::downgrade(self);
            }
            names.write().entries.insert(name.to_owned(), node);
        }
    }

    /// Returns the node under a name, made first if there is none.
    pub(super) fn child_directory(
        self: &Arc<Self>,
        name: &str,
        make: impl FnOnce() -> Arc<Self>,
    ) -> Arc<Self> {
        if let Ok(Some(child)) = self.child(name) {
            return child;
        }
        let child = make();
        self.put(name, Arc::clone(&child));
        child
    }

    pub(super) fn remove(&self, name: &str, now: u64) -> Result<()> {
        let removed = self.names()?.write().entries.remove(name);
        drop(removed);
        self.touch(now);
        Ok(())
    }

    /// Marks an empty directory as removed.
    pub(super) fn retire(&self) -> Result<()> {
        let mut names = self.names()?.write();
        if !names.entries.is_empty() {
            return Err(FileProblem::NotEmpty);
        }
        names.retired = true;
        drop(names);
        self.info.lock().links = 0;
        Ok(())
    }

    /// Whether this directory is `other` or above it.
    pub(super) fn is_above(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut here = Some(Arc::clone(other));
        while let Some(node) = here {
            if Arc::ptr_eq(&node, self) {
                return true;
            }
            here = node
                .names()
                .ok()
                .and_then(|names| names.read().above.upgrade());
        }
        false
    }

    pub(super) fn linked(&self, now: u64) -> Result<()> {
        let mut info = self.info.lock();
        if info.links >= LINKS_MAX {
            return Err(FileProblem::Quota);
        }
        info.links = info.links.saturating_add(1);
        info.changed = now;
        Ok(())
    }

    pub(super) fn unlinked(&self, now: u64) {
        let mut info = self.info.lock();
        info.links = info.links.saturating_sub(1);
        info.changed = now;
    }

    /// Notes that the contents changed.
    pub(super) fn touch(&self, now: u64) {
        let mut info = self.info.lock();
        info.modified = now;
        info.changed = now;
    }

    pub(super) fn set_times(&self, times: Times) {
        let mut info = self.info.lock();
        info.accessed = times.accessed.unwrap_or(info.accessed);
        info.modified = times.modified.unwrap_or(info.modified);
        info.changed = times.now;
    }

    pub(super) fn stat(&self, device: u64) -> Stat {
        let size = match &self.kind {
            Kind::File(content) => content.read().bytes().len(),
            Kind::Directory(_) => 0,
            Kind::Symlink(target) => target.len(),
        };
        let info = self.info.lock();
        Stat {
            device,
            inode: self.inode,
            file_type: self.file_type(),
            links: info.links,
            size: u64::try_from(size).unwrap_or(u64::MAX),
            accessed: info.accessed,
            modified: info.modified,
            changed: info.changed,
        }
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        let names = self.names()?.read();
        let entry = |(name, node): (&String, &Arc<Self>)| Entry {
            name: name.clone(),
            inode: node.inode,
            file_type: node.file_type(),
        };
        Ok(names.entries.iter().map(entry).collect())
    }
}
