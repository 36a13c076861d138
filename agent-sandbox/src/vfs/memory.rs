//! Files in memory: a tree of counted nodes, so that an open file outlives its name.

mod file;
mod node;

use std::any::Any;
use std::sync::Arc;

use crate::error::FileProblem;
use crate::files::FileType;
use crate::tree::FileTree;
use crate::vfs::resolve::{self, Place};
use crate::vfs::{Directory, Entry, Open, Opened, Quota, Result, Stat, Times};

use file::MemoryFile;
use node::Volume;
pub(super) use node::{Kind, Node};

/// A directory in memory.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDir {
    volume: Arc<Volume>,
    quota: Arc<Quota>,
    node: Arc<Node>,
}

impl MemoryDir {
    /// Creates an empty writable directory.
    pub(crate) fn empty(quota: Arc<Quota>, now: u64) -> Self {
        let volume = Arc::new(Volume::new(false));
        let node = volume.directory(now);
        Self {
            volume,
            quota,
            node,
        }
    }

    /// The same files under another sandbox's limits.
    pub(crate) fn with_quota(&self, quota: Arc<Quota>) -> Self {
        Self {
            volume: Arc::clone(&self.volume),
            quota,
            node: Arc::clone(&self.node),
        }
    }

    /// Creates a directory with a tree's files, whose contents stay shared until written. Their
    /// times are the epoch, so that every run sees the same.
    pub(crate) fn of_tree(tree: &FileTree, read_only: bool, quota: Arc<Quota>) -> Self {
        let volume = Arc::new(Volume::new(read_only));
        let node = volume.directory(0);
        for (path, bytes) in tree.iter() {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let mut here = Arc::clone(&node);
            for part in above.split('/').filter(|part| !part.is_empty()) {
                here = here.child_directory(part, || volume.directory(0));
            }
            here.put(name, volume.shared_file(Arc::clone(bytes), 0));
        }
        Self {
            volume,
            quota,
            node,
        }
    }

    fn at(&self, node: Arc<Node>) -> Self {
        Self {
            volume: Arc::clone(&self.volume),
            quota: Arc::clone(&self.quota),
            node,
        }
    }

    fn resolve(&self, path: &str, follow: bool) -> Result<Place> {
        resolve::resolve(&self.node, path, follow, self.quota.path_bytes_max())
    }

    /// Finds what a path names.
    fn find(&self, path: &str, follow: bool) -> Result<Arc<Node>> {
        match self.resolve(path, follow)? {
            Place::Directory(node) => Ok(node),
            Place::Name {
                node,
                must_be_directory,
                ..
            } => {
                let node = node.ok_or(FileProblem::NotFound)?;
                if must_be_directory && node.file_type() != FileType::Directory {
                    return Err(FileProblem::NotDirectory);
                }
                Ok(node)
            }
        }
    }

    /// Finds the place of a name that is to be made; `directory` says whether one may end in a
    /// slash.
    fn find_free(&self, path: &str, directory: bool) -> Result<(Arc<Node>, String)> {
        match self.resolve(path, false)? {
            Place::Directory(_) | Place::Name { node: Some(_), .. } => Err(FileProblem::Exists),
            Place::Name {
                must_be_directory: true,
                ..
            } if !directory => Err(FileProblem::NotFound),
            Place::Name { parent, name, .. } => Ok((parent, name)),
        }
    }

    fn check_writable(&self) -> Result<()> {
        if self.volume.is_read_only() {
            Err(FileProblem::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Counts a node against the limits.
    fn counted(&self, node: Arc<Node>) -> Result<Arc<Node>> {
        node.count(&self.quota)?;
        Ok(node)
    }

    fn open_node(
        &self,
        node: Arc<Node>,
        how: Open,
        must_be_directory: bool,
        now: u64,
    ) -> Result<Opened> {
        match node.kind() {
            Kind::Directory(_) if how.write || how.truncate => Err(FileProblem::IsDirectory),
            Kind::Directory(_) => Ok(Opened::Directory(Arc::new(self.at(node)))),
            Kind::Symlink(_) => Err(FileProblem::Loop),
            Kind::File(_) if how.directory || must_be_directory => Err(FileProblem::NotDirectory),
            Kind::File(_) => {
                if how.write || how.truncate {
                    self.check_writable()?;
                }
                let file = MemoryFile::new(self.volume.device(), node, Arc::clone(&self.quota));
                if how.truncate {
                    crate::vfs::File::set_size(&file, 0, now)?;
                }
                Ok(Opened::File(Box::new(file)))
            }
        }
    }

    /// The directory `to` as one of this mount.
    fn same_volume<'a>(&self, to: &'a dyn Directory) -> Result<&'a Self> {
        let to = to
            .as_any()
            .downcast_ref::<Self>()
            .ok_or(FileProblem::Invalid)?;
        if Arc::ptr_eq(&to.volume, &self.volume) {
            Ok(to)
        } else {
            Err(FileProblem::Invalid)
        }
    }
}

impl Directory for MemoryDir {
    fn open(&self, path: &str, how: Open, now: u64) -> Result<Opened> {
        if !how.create {
            let _names = self.volume.names.read();
            return match self.resolve(path, how.follow)? {
                Place::Directory(node) => self.open_node(node, how, true, now),
                Place::Name {
                    node,
                    must_be_directory,
                    ..
                } => {
                    let node = node.ok_or(FileProblem::NotFound)?;
                    self.open_node(node, how, must_be_directory, now)
                }
            };
        }
        let _names = self.volume.names.write();
        match self.resolve(path, how.follow && !how.exclusive)? {
            Place::Directory(_) | Place::Name { node: Some(_), .. } if how.exclusive => {
                Err(FileProblem::Exists)
            }
            Place::Directory(node) => self.open_node(node, how, true, now),
            Place::Name {
                node: Some(node),
                must_be_directory,
                ..
            } => self.open_node(node, how, must_be_directory, now),
            Place::Name {
                must_be_directory: true,
                ..
            } => Err(FileProblem::IsDirectory),
            Place::Name { parent, name, .. } => {
                self.check_writable()?;
                let node = self.counted(self.volume.empty_file(now))?;
                parent.insert(&name, Arc::clone(&node), now)?;
                self.open_node(node, how, false, now)
            }
        }
    }

    fn stat(&self, path: &str, follow: bool) -> Result<Stat> {
        let _names = self.volume.names.read();
        Ok(self.find(path, follow)?.stat(self.volume.device()))
    }

    fn stat_self(&self) -> Result<Stat> {
        Ok(self.node.stat(self.volume.device()))
    }

    fn set_times(&self, path: &str, follow: bool, times: Times) -> Result<()> {
        self.check_writable()?;
        let _names = self.volume.names.read();
        self.find(path, follow)?.set_times(times);
        Ok(())
    }

    fn set_times_self(&self, times: Times) -> Result<()> {
        self.check_writable()?;
        self.node.set_times(times);
        Ok(())
    }

    fn create_dir(&self, path: &str, now: u64) -> Result<()> {
        let _names = self.volume.names.write();
        let (parent, name) = self.find_free(path, true)?;
        self.check_writable()?;
        let node = self.counted(self.volume.directory(now))?;
        parent.insert(&name, node, now)
    }

    fn remove_dir(&self, path: &str, now: u64) -> Result<()> {
        let _names = self.volume.names.write();
        let Place::Name {
            parent, name, node, ..
        } = self.resolve(path, false)?
        else {
            return Err(FileProblem::Invalid);
        };
        let node = node.ok_or(FileProblem::NotFound)?;
        self.check_writable()?;
        node.retire()?;
        parent.remove(&name, now)
    }

    fn unlink_file(&self, path: &str, now: u64) -> Result<()> {
        let _names = self.volume.names.write();
        let Place::Name {
            parent,
            name,
            node,
            must_be_directory,
        } = self.resolve(path, false)?
        else {
            return Err(FileProblem::IsDirectory);
        };
        let node = node.ok_or(FileProblem::NotFound)?;
        match node.file_type() {
            FileType::Directory => return Err(FileProblem::IsDirectory),
            _ if must_be_directory => return Err(FileProblem::NotDirectory),
            _ => {}
        }
        self.check_writable()?;
        node.unlinked(now);
        parent.remove(&name, now)
    }

    fn read_link(&self, path: &str) -> Result<String> {
        let _names = self.volume.names.read();
        match self.find(path, false)?.kind() {
            Kind::Symlink(target) => Ok(target.clone()),
            _ => Err(FileProblem::Invalid),
        }
    }

    fn symlink(&self, target: &str, path: &str, now: u64) -> Result<()> {
        resolve::check(target, self.quota.path_bytes_max())?;
        let _names = self.volume.names.write();
        let (parent, name) = self.find_free(path, false)?;
        self.check_writable()?;
        let node = self.counted(self.volume.symlink(target.to_owned(), now))?;
        parent.insert(&name, node, now)
    }

    fn rename(&self, from: &str, to: &dyn Directory, to_path: &str, now: u64) -> Result<()> {
        let to = self.same_volume(to)?;
        let _names = self.volume.names.write();
        let Place::Name {
            parent,
            name,
            node,
            must_be_directory,
        } = self.resolve(from, false)?
        else {
            return Err(FileProblem::Invalid);
        };
        let node = node.ok_or(FileProblem::NotFound)?;
        let is_directory = node.file_type() == FileType::Directory;
        if must_be_directory && !is_directory {
            return Err(FileProblem::NotDirectory);
        }
        let Place::Name {
            parent: to_parent,
            name: to_name,
            node: taken,
            must_be_directory,
        } = to.resolve(to_path, false)?
        else {
            return Err(FileProblem::Invalid);
        };
        self.check_writable()?;
        if must_be_directory && !is_directory {
            return Err(FileProblem::NotDirectory);
        }
        if taken
            .as_ref()
            .is_some_and(|taken| Arc::ptr_eq(taken, &node))
        {
            return Ok(());
        }
        if is_directory && node.is_above(&to_parent) {
            return Err(FileProblem::Invalid);
        }
        if let Some(taken) = &taken {
            match (is_directory, taken.file_type()) {
                (true, FileType::Directory) => taken.retire()?,
                (true, _) => return Err(FileProblem::NotDirectory),
                (false, FileType::Directory) => return Err(FileProblem::IsDirectory),
                (false, _) => taken.unlinked(now),
            }
        }
        parent.remove(&name, now)?;
        to_parent.insert(&to_name, node, now)
    }

    fn link(
        &self,
        from: &str,
        follow: bool,
        to: &dyn Directory,
        to_path: &str,
        now: u64,
    ) -> Result<()> {
        let to = self.same_volume(to)?;
        let _names = self.volume.names.write();
        let node = self.find(from, follow)?;
        if node.file_type() == FileType::Directory {
            return Err(FileProblem::Escape);
        }
        let (parent, name) = to.find_free(to_path, false)?;
        self.check_writable()?;
        node.linked(now)?;
        parent.insert(&name, node, now)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let _names = self.volume.names.read();
        self.node.entries()
    }

    fn is_read_only(&self) -> bool {
        self.volume.is_read_only()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
