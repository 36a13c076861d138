//! Vectors of 8-bit numbers, compared one by one. Below some tens of thousands this is faster than
//! a graph, exact, and deletes cost nothing; above, their binary codes say which to compare.

mod binary;
mod quantized;
#[cfg(test)]
mod tests;

#[cfg(feature = "sqlite")]
use std::io::{self, Read, Write};

use super::best::Best;
use super::numbers::{from_count, from_dot};
use super::tokens::Place;
#[cfg(feature = "sqlite")]
use super::{Blocks, Unblocks};
use binary::{BLOCK, BinaryCodes};
use quantized::dot;

pub(crate) use quantized::Quantized;

/// What the neighbours' vectors count in the vector of a row with its neighbours.
const BEFORE: f32 = 0.5;
const AFTER: f32 = 0.3;

/// How many more rows are compared by their 8-bit numbers than are wanted.
const COMPARED: usize = 6;
/// How many more are kept, for those that a filter takes away.
const OVERSAMPLED: usize = 2;

/// The rows that another index of vectors found.
pub(super) struct NearRows {
    pub(super) rows: Vec<usize>,
    /// Rows from this one on are not in that index.
    pub(super) n_rows: usize,
}

/// The vectors of a namespace's rows.
pub(super) struct Vectors {
    dimensions: usize,
    /// By row.
    bytes: Vec<i8>,
    /// By row; zero for rows without a vector.
    scales: Vec<f32>,
    codes: BinaryCodes,
}

impl Vectors {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            bytes: Vec::new(),
            scales: Vec::new(),
            codes: BinaryCodes::new(dimensions),
        }
    }

    pub(super) fn push(&mut self, vector: Option<&Quantized>) {
        let vector = vector.filter(|vector| vector.bytes.len() == self.dimensions);
        match vector {
            Some(vector) => self.bytes.extend_from_slice(&vector.bytes),
            None => self.bytes.resize(self.bytes.len() + self.dimensions, 0),
        }
        self.scales.push(vector.map_or(0.0, |vector| vector.scale));
        if self.scales.len().is_multiple_of(BLOCK) {
            self.encode(self.scales.len() / BLOCK - 1);
        }
    }

    fn encode(&mut self, block: usize) {
        let rows = block * BLOCK..(block + 1) * BLOCK;
        let bytes = self.bytes.chunks_exact(self.dimensions.max(1));
        let vectors = bytes.zip(&self.scales).skip(rows.start).take(BLOCK);
        let vectors = vectors.map(|(bytes, scale)| (*scale > 0.0).then_some(bytes));
        self.codes.encode(block, vectors);
    }

    /// Gives a row another vector.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn set(&mut self, row: usize, vector: Option<&Quantized>) {
        self.erase(row);
        let vector = vector.filter(|vector| vector.bytes.len() == self.dimensions);
        let Some(vector) = vector else {
            return;
        };
        let start = row * self.dimensions;
        if let (Some(scale), Some(bytes)) = (
            self.scales.get_mut(row),
            self.bytes.get_mut(start..start + self.dimensions),
        ) {
            *scale = vector.scale;
            bytes.copy_from_slice(&vector.bytes);
        }
        if let Some(block) = self.codes.replace(row, &vector.bytes) {
            self.encode(block);
        }
    }

    /// Whether no row has a vector.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn is_empty(&self) -> bool {
        self.scales.iter().all(|scale| *scale <= 0.0)
    }

    pub(super) fn erase(&mut self, row: usize) {
        if self.row(row).is_none() {
            return;
        }
        self.codes.erase(row);
        if let Some(scale) = self.scales.get_mut(row) {
            *scale = 0.0;
        }
        let start = row * self.dimensions;
        if let Some(bytes) = self.bytes.get_mut(start..start + self.dimensions) {
            bytes.fill(0);
        }
    }

    /// Works out anew what still tells of erased vectors.
    pub(super) fn settle(&mut self) {
        while let Some(block) = self.codes.take_outdated() {
            self.encode(block);
        }
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn save<W: Write>(&self, to: &mut Blocks<W>) -> io::Result<()> {
        to.signed(&self.bytes)?;
        to.floats(&self.scales)?;
        self.codes.save(to)
    }

    /// Reads the vectors of so many rows; nothing if those saved are of another number.
    #[cfg(feature = "sqlite")]
    pub(super) fn load<R: Read>(&mut self, from: &mut Unblocks<R>, n_rows: usize) -> Option<()> {
        (self.bytes, self.scales) = (from.signed()?, from.floats()?);
        let fits = self.scales.len() == n_rows && self.bytes.len() == n_rows * self.dimensions;
        fits.then_some(())?;
        self.codes.load(from, n_rows)
    }

    fn row(&self, row: usize) -> Option<(&[i8], f32)> {
        let scale = *self.scales.get(row)?;
        let start = row * self.dimensions;
        let bytes = self.bytes.get(start..start + self.dimensions)?;
        (scale > 0.0).then_some((bytes, scale))
    }

    /// The eligible rows nearest to the query. Where one in `sparse` rows is eligible, so many more
    /// are compared, at most about `compared_max`.
    pub(super) fn nearest(
        &self,
        query: &Quantized,
        n_wanted: usize,
        sparse: usize,
        compared_max: usize,
        is_eligible: impl Fn(usize) -> bool,
    ) -> Near {
        let n_compared = n_wanted.saturating_mul(COMPARED * sparse).min(compared_max);
        let named = self.codes.nearest(query, n_compared);
        let n_known = self.codes.n_rows();
        let wide = query.wide();
        let mut best = Best::new(n_wanted.saturating_mul(OVERSAMPLED * sparse));
        for row in named.into_iter().chain(n_known..self.scales.len()) {
            if let Some((bytes, scale)) = self.row(row) {
                best.take(wide.likeness(bytes, scale), row);
            }
        }
        let (mut found, is_cut) = best.finish();
        found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        // Whether a row may be found is asked of as few as can be.
        let mut eligible = found.into_iter().filter(|(_, row)| is_eligible(*row));
        let rows: Vec<usize> = eligible
            .by_ref()
            .map(|(_, row)| row)
            .take(n_wanted)
            .collect();
        Near {
            is_cut: is_cut || n_known > 0 || eligible.next().is_some(),
            rows,
        }
    }

    /// The likeness of a row to the query.
    pub(super) fn likeness(&self, query: &Quantized, row: usize) -> Option<f32> {
        let (bytes, scale) = self.row(row)?;
        Some(query.likeness(bytes, scale))
    }

    /// The likeness of every eligible row to the query, brought to 0..1; 0 for rows without a
    /// vector.
    pub(super) fn score(&self, query: &Quantized, eligible: &[bool]) -> Vec<f32> {
        let wide = query.wide();
        let likeness = |(row, is_eligible): (usize, &bool)| {
            let found = self.row(row).filter(|_| *is_eligible);
            found.map_or(f32::NAN, |(bytes, scale)| wide.likeness(bytes, scale))
        };
        let mut scores: Vec<f32> = eligible.iter().enumerate().map(likeness).collect();
        // Neither `min` nor `max` takes what is not a number.
        let low = scores.iter().copied().fold(f32::INFINITY, f32::min);
        let high = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for score in &mut scores {
            *score = if score.is_nan() {
                0.0
            } else {
                spanned(*score, low, high)
            };
        }
        scores
    }

    /// The likeness of a row and its neighbours, taken as one text, to the query.
    pub(super) fn window(&self, query: &Quantized, place: &Place) -> Option<f32> {
        let own = self.row(place.row)?;
        let near = |row: Option<usize>, factor| {
            let (bytes, scale) = self.row(row?)?;
            Some((bytes, scale * factor))
        };
        let parts = [
            Some(own),
            near(place.before, BEFORE),
            near(place.after, AFTER),
        ];
        let parts: Vec<(&[i8], f32)> = parts.into_iter().flatten().collect();
        let (mut likeness, mut square) = (0.0, 0.0);
        for (n, (bytes, scale)) in parts.iter().enumerate() {
            likeness += query.likeness(bytes, *scale);
            for (m, (other, other_scale)) in parts.iter().take(n + 1).enumerate() {
                // Each pair stands twice in the square of the sum, each part itself once.
                let times = if n == m { 1.0 } else { 2.0 };
                square += times * from_dot(dot(bytes, other)) * scale * other_scale;
            }
        }
        (square > 0.0).then(|| likeness / square.sqrt())
    }
}

/// The nearest rows to a query.
pub(super) struct Near {
    pub(super) rows: Vec<usize>,
    /// Whether there are more.
    pub(super) is_cut: bool,
}

/// Brings a likeness to 0..1 between the least and the most.
pub(super) fn spanned(likeness: f32, low: f32, high: f32) -> f32 {
    if high > low {
        (likeness - low) / (high - low)
    } else {
        // A single candidate has no span: it counts by its own likeness.
        likeness.clamp(0.0, 1.0)
    }
}
