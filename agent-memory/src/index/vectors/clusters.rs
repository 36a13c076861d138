//! The approximate index for namespaces too large to scan: vectors lie in memory group by group,
//! and a search scans the groups nearest to the question. It needs no more than the vectors
//! themselves, deletes cost nothing, and it is as quick to load as they are.

#[cfg(feature = "sqlite")]
mod build;

use super::Quantized;

/// Groups of vectors by their nearest centre.
#[derive(Default)]
pub(in crate::index) struct Clusters {
    /// The centres' vectors, one after another.
    pub(in crate::index) bytes: Vec<i8>,
    pub(in crate::index) scales: Vec<f32>,
    /// Where each group begins among the slots, and where the last ends.
    pub(in crate::index) starts: Vec<u32>,
    /// Where the vector of a row lies; rows from the length of this on were added later.
    pub(in crate::index) slot_of_row: Vec<u32>,
    pub(in crate::index) row_of_slot: Vec<u32>,
}

impl Clusters {
    /// The groups by their likeness to the query, the most alike first, as ranges of slots.
    pub(super) fn by_likeness(&self, query: &Quantized) -> Vec<std::ops::Range<usize>> {
        let centres = self.bytes.chunks_exact(query.bytes.len().max(1));
        let mut found: Vec<(f32, std::ops::Range<usize>)> = centres
            .zip(&self.scales)
            .zip(self.starts.windows(2))
            .filter_map(|((bytes, scale), ends)| match ends {
                [start, end] => Some((
                    query.likeness(bytes, *scale),
                    *start as usize..*end as usize,
                )),
                _ => None,
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(_, slots)| slots).collect()
    }
}
