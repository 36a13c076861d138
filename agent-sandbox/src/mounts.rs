//! The files of one sandbox: its mounts and what they may hold together.

use std::sync::Arc;

use crate::error::{Error, FileProblem, Result};
use crate::spec::{Mount, Spec};
use crate::vfs::{Directory, HostDir, MemoryDir, Quota};

/// The most mounts of one sandbox.
const MOUNTS_MAX: usize = 32;

/// The mounts of one sandbox, in the order of its spec.
#[derive(Debug)]
pub(crate) struct Mounts {
    list: Vec<(String, Arc<dyn Directory>)>,
    quota: Arc<Quota>,
}

impl Mounts {
    /// Opens what the spec mounts.
    ///
    /// # Errors
    /// `Invalid` if a mount's path is not absolute, or taken; `File` if a directory of the host
    /// cannot be opened.
    pub(crate) fn open(spec: &Spec, now: u64) -> Result<Self> {
        let quota = Arc::new(Quota::new(&spec.limits));
        if spec.mounts.len() > MOUNTS_MAX {
            return Err(Error::invalid("mounts", format!("more than {MOUNTS_MAX}")));
        }
        let mut list: Vec<(String, Arc<dyn Directory>)> = Vec::new();
        for (path, mount) in &spec.mounts {
            let path = normalized(path)?;
            if list.iter().any(|(taken, _)| *taken == path) {
                return Err(Error::invalid(
                    "mounts",
                    format!("`{path}` is mounted twice"),
                ));
            }
            let quota = Arc::clone(&quota);
            let dir: Arc<dyn Directory> = match mount {
                Mount::Memory => Arc::new(MemoryDir::empty(quota, now)),
                Mount::Shared(tree) => Arc::new(tree.mount(quota)),
                Mount::Copy(tree) => Arc::new(tree.copy(quota)),
                Mount::HostDirectory { path: host, access } => {
                    let opened = HostDir::open_ambient(host, *access, quota);
                    Arc::new(opened.map_err(|error| {
                        let problem = FileProblem::from_host(&error);
                        Error::file("mount", host.display().to_string(), problem)
                    })?)
                }
            };
            list.push((path, dir));
        }
        Ok(Self { list, quota })
    }

    pub(crate) fn list(&self) -> &[(String, Arc<dyn Directory>)] {
        &self.list
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Finds the mount a path belongs to, and the path inside it.
    pub(crate) fn find(&self, path: &str) -> Option<(Arc<dyn Directory>, String)> {
        let inside = |mount: &str| {
            let rest = if mount == "/" {
                path
            } else {
                path.strip_prefix(mount)?
            };
            match rest.strip_prefix('/') {
                Some("") => Some("."),
                Some(rest) => Some(rest),
                None if rest.is_empty() => Some("."),
                None => None,
            }
        };
        let found = self
            .list
            .iter()
            .filter_map(|(mount, dir)| Some((mount, dir, inside(mount)?)));
        let (_, dir, rest) = found.max_by_key(|(mount, _, _)| mount.len())?;
        Some((Arc::clone(dir), rest.to_owned()))
    }
}

/// Checks a mount's path and takes a slash off its end.
fn normalized(path: &str) -> Result<String> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if path == "/" {
        return Ok(path.to_owned());
    }
    let parts = trimmed
        .strip_prefix('/')
        .into_iter()
        .flat_map(|rest| rest.split('/'));
    let mut n_parts = 0_usize;
    for part in parts {
        n_parts = n_parts.saturating_add(1);
        if matches!(part, "" | "." | "..") || part.contains('\0') {
            n_parts = 0;
            break;
        }
    }
    if n_parts == 0 || trimmed.len() > 1_024 {
        let shown: String = path.chars().take(100).collect();
        let reason = format!("`{}` is not an absolute path", shown.escape_debug());
        return Err(Error::invalid("mounts", reason));
    }
    Ok(trimmed.to_owned())
}
