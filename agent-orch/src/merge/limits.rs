//! The numbers a plan goes by.

/// The numbers a plan goes by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    pub(super) window_min: usize,
    pub(super) window_max: usize,
    pub(super) split_ways: usize,
    pub(super) checks_max: usize,
    pub(super) failures_max: u32,
    pub(super) author_rounds_max: u32,
    pub(super) resolver_rounds_max: u32,
}

impl Default for Limits {
    /// Batches of 4 to 64 changes, split in 4, one check at a time, rejected at the second failure;
    /// a conflict goes to the author twice, to the resolver once, then to a person.
    fn default() -> Self {
        Self {
            window_min: 4,
            window_max: 64,
            split_ways: 4,
            checks_max: 1,
            failures_max: 2,
            author_rounds_max: 2,
            resolver_rounds_max: 1,
        }
    }
}

impl Limits {
    /// Sets the smallest and largest batch, at least 1. Default: 4 and 64. The batch doubles when one
    /// lands whole and halves when a change is rejected; flaky checks that pass alone leave it.
    #[must_use]
    pub fn with_window(mut self, min: usize, max: usize) -> Self {
        self.window_min = min.max(1);
        self.window_max = max.max(self.window_min);
        self
    }

    /// Sets into how many parts a failed batch is split, at least 2. Default: 4.
    #[must_use]
    pub fn with_split_ways(mut self, ways: usize) -> Self {
        self.split_ways = ways.max(2);
        self
    }

    /// Sets how many checks may run at once, at least 1. Default: 1. With more, batches are tested
    /// on top of batches that have not landed.
    #[must_use]
    pub fn with_checks_max(mut self, checks: usize) -> Self {
        self.checks_max = checks.max(1);
        self
    }

    /// Sets at which failed check a change is rejected, at least 1. Default: 2, so that a change is
    /// never rejected by what another change in its batch did.
    #[must_use]
    pub fn with_failures_max(mut self, failures: u32) -> Self {
        self.failures_max = failures.max(1);
        self
    }

    /// Sets how often a conflict goes back to its author, and then to the resolver, before a person
    /// is asked. Default: 2 and 1.
    #[must_use]
    pub fn with_resolution(mut self, author: u32, resolver: u32) -> Self {
        self.author_rounds_max = author;
        self.resolver_rounds_max = resolver;
        self
    }
}
