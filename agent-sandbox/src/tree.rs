//! Files that many sandboxes share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
#[cfg(feature = "wasm")]
use std::sync::OnceLock;

use crate::error::{Error, Result};
#[cfg(feature = "wasm")]
use crate::vfs::{MemoryDir, Quota};

/// Read-only files that many sandboxes share without copying. Cheap to clone.
///
/// Built once, by [`FileTree::builder`]; directories come from the paths.
#[derive(Clone)]
pub struct FileTree(Arc<Inner>);

struct Inner {
    files: BTreeMap<String, Arc<[u8]>>,
    #[cfg(feature = "wasm")]
    /// The directories, made when the tree is first mounted and shared by all its mounts.
    mounted: OnceLock<MemoryDir>,
}

impl FileTree {
    /// The most files of one tree: a standard library or a source checkout fits.
    pub const FILES_MAX: usize = 65_536;

    /// The longest path of a file, in bytes.
    pub const PATH_BYTES_MAX: usize = 4_096;

    /// Starts an empty tree.
    pub fn builder() -> FileTreeBuilder {
        FileTreeBuilder {
            files: BTreeMap::new(),
        }
    }

    /// Returns the number of files.
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.0.files.len()
    }

    /// Returns a file's contents.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Arc<[u8]>> {
        self.0.files.get(path)
    }

    #[cfg(feature = "wasm")]
    /// The tree as a read-only directory under a sandbox's limits.
    pub(crate) fn mount(&self, quota: Arc<Quota>) -> MemoryDir {
        self.0
            .mounted
            .get_or_init(|| MemoryDir::of_tree(self, true, Arc::clone(&quota)))
            .with_quota(quota)
    }

    #[cfg(feature = "wasm")]
    /// A writable directory that starts with the tree's files.
    pub(crate) fn copy(&self, quota: Arc<Quota>) -> MemoryDir {
        MemoryDir::of_tree(self, false, quota)
    }

    /// Iterates over the files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        self.0
            .files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes))
    }
}

impl fmt::Debug for FileTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTree")
            .field("n_files", &self.0.files.len())
            .finish_non_exhaustive()
    }
}

/// Collects the files of a [`FileTree`].
#[derive(Debug)]
#[must_use]
pub struct FileTreeBuilder {
    files: BTreeMap<String, Arc<[u8]>>,
}

impl FileTreeBuilder {
    /// Adds a file at a path relative to the tree's root, `lib/main.py`. A file given twice keeps
    /// the later contents.
    pub fn file(mut self, path: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }

    /// Finishes the tree.
    ///
    /// # Errors
    /// `Invalid` if a path is empty, absolute, too long, has `.`, `..`, an empty part or a NUL, if
    /// a file is also a directory of another one, or if there are too many files.
    pub fn build(self) -> Result<FileTree> {
        if self.files.len() > FileTree::FILES_MAX {
            return Err(Error::invalid(
                "tree",
                format!("more than {} files", FileTree::FILES_MAX),
            ));
        }
        for path in self.files.keys() {
            check_path(path)?;
            let mut parents = path
                .char_indices()
                .filter(|(_, c)| *c == '/')
                .map(|(at, _)| at);
            if parents.any(|at| {
                path.get(..at)
                    .is_some_and(|dir| self.files.contains_key(dir))
            }) {
                let reason = format!("a directory of `{path}` is also a file");
                return Err(Error::invalid("tree", reason));
            }
        }
        Ok(FileTree(Arc::new(Inner {
            files: self.files,
            #[cfg(feature = "wasm")]
            mounted: OnceLock::new(),
        })))
    }
}

fn check_path(path: &str) -> Result<()> {
    let parts_ok = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !parts_ok || path.contains('\0') || path.len() > FileTree::PATH_BYTES_MAX {
        let shown: String = path.chars().take(100).collect();
        return Err(Error::invalid(
            "tree",
            format!("`{}` is not a relative path", shown.escape_debug()),
        ));
    }
    Ok(())
}
