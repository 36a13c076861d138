//! The present embedder's vectors and the former one's, side by side.

use super::fuse::Plan;
use super::vectors::Vectors;
use super::{Partition, Quantized};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::memory::MemoryId;

impl Partition {
    /// Gives a row a vector of the present embedder in place of a former one.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn embed_again(&mut self, id: MemoryId, vector: Option<&Quantized>) {
        let Some(n) = self.by_id.get(&id) else {
            return;
        };
        self.vectors.set(*n, vector);
        if let Some(former) = &mut self.former {
            former.erase(*n);
        }
    }

    /// Lets the vectors of the former embedder go if none is left.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn drop_empty_former(&mut self) {
        if self.former.as_ref().is_some_and(Vectors::is_empty) {
            self.former = None;
        }
    }

    /// The question in each space with the vectors there.
    pub(super) fn spaces<'p>(
        &'p self,
        plan: &'p Plan<'_>,
    ) -> impl Iterator<Item = (&'p Quantized, &'p Vectors)> {
        let present = plan.vector.map(|query| (query, &self.vectors));
        let former = plan.former.zip(self.former.as_ref());
        present.into_iter().chain(former)
    }
}
