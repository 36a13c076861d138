//! Counts of what the writer did.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many writes shared how many commits, since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Transactions committed; each waits for the disk once.
    pub commits: u64,
    /// Transactions undone as a whole.
    pub commits_undone: u64,
    /// Writes that were run, whatever they answered.
    pub writes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    commits_undone: AtomicU64,
    writes: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, n_jobs: usize, is_committed: bool) {
        let n_jobs = u64::try_from(n_jobs).unwrap_or(u64::MAX);
        self.writes.fetch_add(n_jobs, Ordering::Relaxed);
        let outcome = if is_committed {
            &self.commits
        } else {
            &self.commits_undone
        };
        outcome.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            commits_undone: self.commits_undone.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }
}
