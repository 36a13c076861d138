//! The settings of the backend.

use std::sync::Arc;
use std::time::Duration;

use agent_core::Embedder;

use crate::index::Limits;

/// How the backend waits and searches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    pub(super) lock_ms_max: u64,
    pub(super) limits: Limits,
    pub(super) former: Option<Arc<dyn Embedder>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lock_ms_max: 10_000,
            // The words have no index in the database: they are always indexed here.
            limits: Limits {
                postings_max: usize::MAX,
                ..Limits::default()
            },
            former: None,
        }
    }
}

impl Config {
    /// Waits up to ten seconds for other writers of a namespace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a writer waits for its turn in a namespace before it is refused as
    /// `Unavailable`; at least a millisecond. Default: 10 s.
    #[must_use]
    pub fn with_lock_timeout(mut self, limit: Duration) -> Self {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        // The server takes 31 bits, and zero for no limit.
        self.lock_ms_max = ms.clamp(1, i32::MAX.unsigned_abs().into());
        self
    }

    /// Names the embedder the database was used with before. What it embedded is searched with it
    /// until [`Postgres::embed_again`](super::Postgres::embed_again) has embedded all of it by the
    /// present one, and a search fails if it does. Default: none; then what another embedder
    /// embedded is found by its words.
    #[must_use]
    pub fn with_former_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.former = Some(embedder);
        self
    }

    /// Sets the most memories of a namespace that are looked at one by one. In a larger one each
    /// signal names its best memories and only those are compared; the vectors are named by the
    /// approximate index that [`Postgres::optimize`](super::Postgres::optimize) has built, or by
    /// their binary codes. Default: 50,000, a scan of about 2 ms.
    #[must_use]
    pub const fn with_exact_max(mut self, n: usize) -> Self {
        self.limits.exact_max = n;
        self
    }
}
