//! What is prepared outside of a lock for namespaces too large to scan, and taken over then.

use super::Partition;
use super::vectors::Vectors;
use super::vectors::clusters::Clusters;
#[cfg(feature = "hnsw")]
use super::vectors::hnsw::Ann;

impl Partition {
    /// A copy of the vectors, if they are too many to scan and not grouped yet but for a tenth.
    pub(crate) fn ungrouped(&self) -> Option<Ungrouped> {
        let n_rows = self.rows.len();
        let clusters = self.vectors.clusters.as_ref();
        let n_grouped = clusters.map_or(0, |clusters| clusters.row_of_slot.len());
        let is_due = n_rows > self.limits.exact_max && n_rows - n_grouped > n_grouped / 10;
        is_due.then(|| Ungrouped {
            last: self.rows.last().map(|row| row.seq),
            vectors: self.vectors.copy(),
        })
    }

    /// Takes over the groups, unless the rows have been numbered anew since.
    pub(crate) fn group(&mut self, groups: Groups) {
        let last = groups.clusters.row_of_slot.len().checked_sub(1);
        let last = last.and_then(|last| self.rows.get(last));
        if last.map(|row| row.seq) == groups.last {
            self.vectors.group(groups.clusters);
        }
    }

    /// Whether all of it can be saved: vectors of a former embedder are not.
    pub(crate) const fn can_be_saved(&self) -> bool {
        self.former.is_none()
    }

    /// A copy of the vectors for building an approximate index without holding a lock.
    #[cfg(feature = "hnsw")]
    pub(crate) fn vectors_for_ann(&self) -> Unindexed {
        let vectors = self.vectors.unquantized();
        let last = vectors.last().and_then(|(row, _)| self.rows.get(*row));
        Unindexed {
            last_seq: last.map(|row| row.seq),
            vectors,
        }
    }

    /// Takes an index over those vectors, unless the rows have been numbered anew since.
    #[cfg(feature = "hnsw")]
    pub(crate) fn set_ann(&mut self, ann: Ann, last_seq: Option<i64>) -> bool {
        // Rows are in the order of `seq`: the same last row at the same place means that none
        // before it was swept out.
        let last = self.rows.get(ann.n_rows().saturating_sub(1));
        let is_current = last.map(|row| row.seq) == last_seq;
        if is_current {
            self.vectors.set_ann(ann);
        }
        is_current
    }
}

/// Vectors by row, and the number of the last of them.
#[cfg(feature = "hnsw")]
pub(crate) struct Unindexed {
    pub(crate) vectors: Vec<(usize, Vec<f32>)>,
    pub(crate) last_seq: Option<i64>,
}

/// Vectors to be grouped, and the number of the last of them.
pub(crate) struct Ungrouped {
    vectors: Vectors,
    last: Option<i64>,
}

impl Ungrouped {
    /// Works out the groups, on all cores: about a minute for a million.
    pub(crate) fn group(&self) -> Option<Groups> {
        Some(Groups {
            clusters: Clusters::of(&self.vectors)?,
            last: self.last,
        })
    }
}

/// Groups of vectors, and the number of the last of them.
pub(crate) struct Groups {
    clusters: Clusters,
    last: Option<i64>,
}
