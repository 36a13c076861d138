//! What makes large namespaces quick to open.

use std::sync::Arc;

use agent_core::Scope;

use super::{Sqlite, rows};
use crate::error::Result;
use crate::namespace::{Namespace, tenant};

impl Sqlite {
    /// Prepares a namespace for being opened fast, and returns whether there is anything to
    /// prepare. A host calls it now and then, after much was added, and after it has
    /// erased: erasing removes the file.
    ///
    /// The index is written to a file beside the store, `<store>-memory-index-<number>`, about 700
    /// bytes for each memory, from which the next process loads it. The file is a copy:
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
                indexes.snapshots.save(tx, partition, |write| {
                    indexes.with(tx, partition, |index| write(index))
                })
            })
            .await
    }
}
