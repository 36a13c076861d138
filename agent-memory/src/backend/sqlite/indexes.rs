//! The derived indexes of a store, by namespace.

use std::collections::HashMap;
use std::sync::Arc;

use agent_core::Embedder;
use agent_core::store::Tx;
use parking_lot::{Mutex, RwLock};

use super::catch_up;
use super::snapshot::Snapshots;
use crate::error::Result;
use crate::index::{Limits, Partition};

/// The derived indexes by namespace.
pub(super) struct Indexes {
    pub(super) snapshots: Snapshots,
    pub(super) limits: Limits,
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) space: i64,
    pub(super) former: Option<(Arc<dyn Embedder>, i64)>,
    pub(super) by_partition: Mutex<HashMap<i64, Arc<RwLock<Partition>>>>,
}

impl Indexes {
    fn fresh(&self) -> Partition {
        let former = self.former.as_ref().map(|(embedder, _)| embedder.as_ref());
        Partition::new(self.limits, self.embedder.as_ref(), former)
    }

    pub(super) fn cell(&self, partition: i64) -> Arc<RwLock<Partition>> {
        let mut cells = self.by_partition.lock();
        let cell = cells
            .entry(partition)
            .or_insert_with(|| Arc::new(RwLock::new(self.fresh())));
        Arc::clone(cell)
    }

    /// Runs `look` on the index as of the snapshot of `tx`, or a later one.
    pub(super) fn with<T>(
        &self,
        tx: &Tx<'_>,
        partition: i64,
        look: impl FnOnce(&Partition) -> Result<T>,
    ) -> Result<T> {
        let cell = self.cell(partition);
        {
            let index = cell.read();
            if catch_up::last_seq(tx, partition)? <= index.last_seq() {
                return look(&index);
            }
        }
        let mut index = cell.write();
        self.catch_up(tx, partition, &mut index)?;
        look(&index)
    }

    fn catch_up(&self, tx: &Tx<'_>, partition: i64, index: &mut Partition) -> Result<()> {
        let mut relations_since = index.last_seq();
        if index.is_stale() {
            // A file would bring the erased rows back.
            *index = self.fresh();
            relations_since = 0;
        } else if index.last_seq() == 0 {
            if !self.snapshots.load(tx, partition, index)? {
                *index = self.fresh();
            }
            // Relations are not in the file.
            relations_since = 0;
        }
        if catch_up::is_reset(tx, partition, index.last_seq())? {
            *index = self.fresh();
            relations_since = 0;
        }
        let spaces = [
            Some(self.space),
            self.former.as_ref().map(|(_, space)| *space),
        ];
        let applied = catch_up::apply(tx, partition, spaces, relations_since, index);
        if applied.is_err() {
            // A half-applied index would be a second truth.
            *index = self.fresh();
        }
        applied
    }
}
