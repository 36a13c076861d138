//! What makes large namespaces quick to search and to open.

use std::sync::Arc;

use agent_core::Scope;

use super::{Sqlite, rows};
use crate::error::Result;
use crate::namespace::{Namespace, tenant};

impl Sqlite {
    /// Prepares a namespace for being searched and opened fast, and returns whether there is
    /// anything to prepare. A host calls it now and then, after much was added, and after it has
    /// erased: erasing removes the file.
    ///
    /// In a namespace larger than [`Config::with_exact_max`](super::Config::with_exact_max) the
    /// vectors are grouped by likeness, which takes all cores about a minute for a million;
    /// searches go on meanwhile. Until then, and for what is added later, they are scanned.
    /// Then the index is written to a file beside the store, `<store>-memory-index-<number>`,
    /// about 600 bytes for each memory, from which the next process loads it. The file is a copy:
    /// damaged, outdated or lost, the index is built from the tables. It is not written while the
    /// store has vectors of a former embedder. Searches that must catch up wait while it is
    /// written, and so does erasing. Of several processes on one file only those that erase should
    /// optimize: a file another process is just writing may hold what was erased until the next
    /// erasure or [`Sqlite::scrub`].
    ///
    /// # Errors
    /// `Invalid` for a bad tenant; `Unavailable` if the file cannot be written; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe: the work may be done all the same.
    pub async fn optimize(&self, scope: &Scope, at: Namespace) -> Result<bool> {
        let tenant = tenant(scope)?;
        let indexes = Arc::clone(&self.indexes);
        self.db
            .read(move |tx| {
                let Some(partition) = rows::find_partition(tx, &tenant, &at)? else {
                    return Ok(false);
                };
                let source = indexes.with(tx, partition, |index| Ok(index.ungrouped()))?;
                if let Some(groups) = source.and_then(|source| source.group()) {
                    indexes.cell(partition).write().group(groups);
                }
                indexes.snapshots.save(tx, partition, |write| {
                    indexes.with(tx, partition, |index| write(index))
                })
            })
            .await
    }

    /// Builds a graph (HNSW) over the vectors of a namespace larger than
    /// [`Config::with_exact_max`](super::Config::with_exact_max), which finds more of the nearest
    /// than groups do, and returns whether there is one. It takes about a second per thousand
    /// memories, five times the memory of the vectors, and is in main memory alone. Searches go on.
    ///
    /// # Errors
    /// `Invalid` for a bad tenant; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe: the graph may be built all the same.
    #[cfg(feature = "hnsw")]
    pub async fn build_graph(&self, scope: &Scope, at: Namespace) -> Result<bool> {
        let tenant = tenant(scope)?;
        let indexes = Arc::clone(&self.indexes);
        self.db
            .read(move |tx| {
                let Some(partition) = rows::find_partition(tx, &tenant, &at)? else {
                    return Ok(false);
                };
                let source = indexes.with(tx, partition, |index| Ok(index.vectors_for_ann()))?;
                if source.vectors.len() <= indexes.limits.exact_max {
                    return Ok(false);
                }
                let ann = crate::index::Ann::build(&source.vectors);
                let cell = indexes.cell(partition);
                let is_taken = cell.write().set_ann(ann, source.last_seq);
                Ok(is_taken)
            })
            .await
    }
}
