//! Which memories of a namespace are listed, page by page.

use super::Filter;
use crate::as_of::AsOf;
use crate::error::{Error, Result};
use crate::memory::MemoryId;

/// Which memories of a namespace are listed: everything that passes, in the order of the ids.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listing {
    pub(crate) filter: Filter,
    pub(crate) after: Option<MemoryId>,
    pub(crate) limit: usize,
    pub(crate) is_with_retired: bool,
    pub(crate) is_with_quarantined: bool,
    pub(crate) as_of: AsOf,
}

impl Default for Listing {
    fn default() -> Self {
        Self::new()
    }
}

impl Listing {
    /// The most memories in one page.
    pub const LIMIT_MAX: usize = 1_000;

    /// Lists what holds at present and is not in quarantine, from the start: no filter, pages of
    /// 1,000.
    #[must_use]
    pub fn new() -> Self {
        Self {
            filter: Filter::new(),
            after: None,
            limit: Self::LIMIT_MAX,
            is_with_retired: false,
            is_with_quarantined: false,
            as_of: AsOf::now(),
        }
    }

    /// Sets the filter. Default: everything passes.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Starts behind this memory, the last of the page before. Default: at the start.
    #[must_use]
    pub const fn after(mut self, id: MemoryId) -> Self {
        self.after = Some(id);
        self
    }

    /// Sets the length of the page, 1 to [`Listing::LIMIT_MAX`]. Default: 1,000.
    #[must_use]
    pub const fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Lists as of a moment: what held then, by what was known then, shown as it was then.
    /// Default: the present.
    #[must_use]
    pub const fn with_as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = as_of;
        self
    }

    /// Lists records whose validity has ended or not begun, too. Default: only what holds at the
    /// moment asked about.
    #[must_use]
    pub const fn with_retired(mut self) -> Self {
        self.is_with_retired = true;
        self
    }

    /// Lists memories in quarantine, too. Default: they are left out.
    #[must_use]
    pub const fn with_quarantined(mut self) -> Self {
        self.is_with_quarantined = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=Self::LIMIT_MAX).contains(&self.limit) {
            return Err(Error::invalid("listing", "a limit of 1 to 1,000"));
        }
        self.filter.check()
    }
}
