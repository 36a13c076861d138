//! What a sandbox may hold in files.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::FileProblem;
use crate::limits::Limits;
use crate::vfs::Result;

/// What a sandbox may hold in files, shared by its mounts.
#[derive(Debug)]
pub(crate) struct Quota {
    file_bytes_max: u64,
    storage_bytes_max: u64,
    files_max: u64,
    path_bytes_max: usize,
    bytes: AtomicU64,
    files: AtomicU64,
}

impl Quota {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            file_bytes_max: limits.file_bytes_max,
            storage_bytes_max: limits.storage_bytes_max,
            files_max: limits.files_max,
            path_bytes_max: limits.path_bytes_max,
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
        }
    }

    pub(crate) const fn path_bytes_max(&self) -> usize {
        self.path_bytes_max
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Refuses a file that would be larger than one may be.
    pub(crate) const fn check_size(&self, size: u64) -> Result<()> {
        if size > self.file_bytes_max {
            Err(FileProblem::Quota)
        } else {
            Ok(())
        }
    }

    pub(crate) fn take_bytes(&self, n: u64) -> Result<()> {
        take(&self.bytes, n, self.storage_bytes_max)
    }

    pub(crate) fn give_bytes(&self, n: u64) {
        give(&self.bytes, n);
    }

    pub(crate) fn take_file(&self) -> Result<()> {
        take(&self.files, 1, self.files_max)
    }

    pub(crate) fn give_file(&self) {
        give(&self.files, 1);
    }
}

fn take(counter: &AtomicU64, n: u64, max: u64) -> Result<()> {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(n).filter(|sum| *sum <= max)
        })
        .map(drop)
        .map_err(|_held| FileProblem::Quota)
}

fn give(counter: &AtomicU64, n: u64) {
    // The closure never declines, so the update cannot fail.
    let _held = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
        Some(held.saturating_sub(n))
    });
}
