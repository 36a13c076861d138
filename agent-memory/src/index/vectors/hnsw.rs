//! The approximate index for namespaces too large to scan. It knows no deletes and no filters:
//! both are applied to its answers, and rows added after it was built are scanned.

use hnsw_rs::prelude::{DistL2, Hnsw};

/// Neighbours kept per vector and layer.
const NEIGHBOURS: usize = 16;
/// Layers of the graph, the most the library has.
const LAYERS: usize = 16;
/// Candidates looked at for each insertion.
const EF_CONSTRUCTION: usize = 200;
/// The least candidates looked at by a search; measured recall@10 is above 0.99 from 64 on.
const EF_MIN: usize = 128;
/// How many more are asked for than wanted, for those that a filter or an erasure takes away.
const OVERSAMPLING: usize = 4;

/// An approximate index over the rows there were when it was built.
pub(crate) struct Ann {
    graph: Hnsw<'static, f32, DistL2>,
    n_rows: usize,
}

impl Ann {
    /// Builds the index in the order of the rows, so that the same rows give the same graph.
    pub(crate) fn build(vectors: &[(usize, Vec<f32>)]) -> Self {
        let graph = Hnsw::new(
            NEIGHBOURS,
            vectors.len(),
            LAYERS,
            EF_CONSTRUCTION,
            DistL2 {},
        );
        for (row, vector) in vectors {
            graph.insert((vector, *row));
        }
        Self {
            graph,
            n_rows: vectors.last().map_or(0, |(row, _)| row + 1),
        }
    }

    /// Rows from this one on are not in the index.
    pub(in crate::index) const fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(super) fn nearest(&self, query: &[f32], n_wanted: usize) -> Vec<usize> {
        let n = n_wanted.saturating_mul(OVERSAMPLING).min(self.n_rows);
        let found = self.graph.search(query, n, n.max(EF_MIN));
        found.into_iter().map(|near| near.d_id).collect()
    }
}
