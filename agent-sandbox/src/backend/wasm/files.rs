//! The host's view of a sandbox's files.

use std::sync::{Arc, Weak};

use agent_core::Timestamp;
use async_trait::async_trait;

use crate::backend::wasm::runtime::Inner;
use crate::error::{Error, FileProblem, Result};
use crate::files::{DirEntry, FileStat, FileType, Files};
use crate::mounts::Mounts;
use crate::vfs::{Directory, File, HostDir, Open, Opened};

/// The files of one sandbox. It does not keep them: they go with the sandbox.
#[derive(Debug)]
pub(super) struct WasmFiles {
    mounts: Weak<Mounts>,
    runtime: Arc<Inner>,
}

/// What a path names: its mount and the path inside.
type At = (Arc<dyn Directory>, String);

impl WasmFiles {
    pub(super) fn new(mounts: Option<&Arc<Mounts>>, runtime: Arc<Inner>) -> Self {
        Self {
            mounts: mounts.map_or_else(Weak::new, Arc::downgrade),
            runtime,
        }
    }

    /// Runs an operation: in place in memory, on a worker if the host's disk is involved.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &str,
        call: impl FnOnce(&dyn Directory, &str) -> Result<T, FileProblem> + Send + 'static,
    ) -> Result<T> {
        let mounts = self
            .mounts
            .upgrade()
            .ok_or_else(|| Error::closed("sandbox"))?;
        let failed = |problem| Error::file(operation, path, problem);
        let found: Option<At> = mounts.find(path);
        let (dir, inside) = found.ok_or_else(|| failed(FileProblem::NotFound))?;
        if dir.as_any().is::<HostDir>() {
            let done = self
                .runtime
                .workers
                .run(move || call(dir.as_ref(), &inside))
                .await?;
            return done.map_err(failed);
        }
        call(dir.as_ref(), &inside).map_err(failed)
    }

    fn now_ns(&self) -> u64 {
        self.runtime
            .env
            .clock
            .now()
            .as_unix_ms_u64()
            .saturating_mul(1_000_000)
    }
}

fn open_file(
    dir: &dyn Directory,
    path: &str,
    how: Open,
    now: u64,
) -> Result<Box<dyn File>, FileProblem> {
    match dir.open(
        path,
        Open {
            follow: true,
            ..how
        },
        now,
    )? {
        Opened::File(file) => Ok(file),
        Opened::Directory(_) => Err(FileProblem::IsDirectory),
    }
}

fn read_all(file: &dyn File, bytes_max: u64) -> Result<Vec<u8>, FileProblem> {
    let size = file.stat()?.size;
    if size > bytes_max {
        return Err(FileProblem::Quota);
    }
    let mut bytes = vec![0_u8; usize::try_from(size).map_err(|_too_large| FileProblem::Quota)?];
    let mut n_read = 0_usize;
    while let Some(rest) = bytes.get_mut(n_read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::try_from(n_read).unwrap_or(u64::MAX))? {
            0 => break,
            n => n_read = n_read.saturating_add(n),
        }
    }
    bytes.truncate(n_read);
    Ok(bytes)
}

#[async_trait]
impl Files for WasmFiles {
    async fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let how = Open {
            read: true,
            ..Open::default()
        };
        let read = move |dir: &dyn Directory, path: &str| {
            read_all(open_file(dir, path, how, 0)?.as_ref(), bytes_max)
        };
        self.run("read", path, read).await
    }

    async fn write(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let now = self.now_ns();
        let how = Open {
            create: true,
            write: true,
            ..Open::default()
        };
        let write = move |dir: &dyn Directory, path: &str| {
            open_file(dir, path, how, now)?.replace(bytes, now)
        };
        self.run("write", path, write).await
    }

    async fn list(&self, path: &str) -> Result<Vec<DirEntry>> {
        let list = |dir: &dyn Directory, path: &str| {
            let how = Open {
                follow: true,
                directory: true,
                read: true,
                ..Open::default()
            };
            match dir.open(path, how, 0)? {
                Opened::Directory(dir) => dir.entries(),
                Opened::File(_) => Err(FileProblem::NotDirectory),
            }
        };
        let entries = self.run("list", path, list).await?;
        Ok(entries
            .into_iter()
            .map(|entry| DirEntry::new(entry.name, entry.file_type))
            .collect())
    }

    async fn stat(&self, path: &str) -> Result<FileStat> {
        let stat = self
            .run("stat", path, |dir, path| dir.stat(path, false))
            .await?;
        let ms = i64::try_from(stat.modified / 1_000_000).unwrap_or(i64::MAX);
        Ok(FileStat::new(
            stat.file_type,
            stat.size,
            Timestamp::from_unix_ms(ms),
        ))
    }

    async fn create_dir(&self, path: &str) -> Result<()> {
        let now = self.now_ns();
        self.run("create", path, move |dir, path| dir.create_dir(path, now))
            .await
    }

    async fn remove(&self, path: &str) -> Result<()> {
        let now = self.now_ns();
        let remove = move |dir: &dyn Directory, path: &str| match dir.stat(path, false)?.file_type {
            FileType::Directory => dir.remove_dir(path, now),
            _ => dir.unlink_file(path, now),
        };
        self.run("remove", path, remove).await
    }
}
