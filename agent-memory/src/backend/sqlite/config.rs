//! How the backend searches.

use std::sync::Arc;

use agent_core::Embedder;

use crate::index::Limits;

/// How the backend searches.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    pub(super) limits: Limits,
    pub(super) former: Option<Arc<dyn Embedder>>,
}

impl Config {
    /// Chooses by size: words in main memory up to 4,000,000 memories of a namespace, all vectors
    /// and all matching words compared up to 50,000.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most memories of a namespace whose words are indexed in main memory; larger
    /// namespaces ask FTS5, which takes less memory and more time. Default: 4,000,000.
    #[must_use]
    pub const fn with_postings_max(mut self, n: usize) -> Self {
        self.limits.postings_max = n;
        self
    }

    /// Names the embedder the store was used with before. What it embedded is searched with it until
    /// [`Sqlite::embed_again`](super::Sqlite::embed_again) has embedded all of it by the present one, and a search
    /// fails if it does. Default: none; then what
    /// another embedder embedded is found by its words.
    #[must_use]
    pub fn with_former_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.former = Some(embedder);
        self
    }

    /// Sets the most memories of a namespace that are looked at one by one. In a larger one each
    /// signal names its best memories and only those are compared; of the vectors, some 1,800 that
    /// their binary codes name, more under a filter, and not many more than this. Default: 50,000, a scan
    /// of about 2 ms.
    #[must_use]
    pub const fn with_exact_max(mut self, n: usize) -> Self {
        self.limits.exact_max = n;
        self
    }
}
