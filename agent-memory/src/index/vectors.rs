//! Vectors of 8-bit numbers, scanned one by one. Below some tens of thousands this is faster than
//! a graph, exact, and deletes cost nothing.

pub(super) mod clusters;
#[cfg(feature = "hnsw")]
pub(crate) mod hnsw;
mod quantized;

use super::best::Best;
use super::numbers::from_dot;
use super::tokens::Place;
use clusters::Clusters;
use quantized::{Wide, dot};

pub(crate) use quantized::Quantized;

/// What the neighbours' vectors count in the vector of a row with its neighbours.
const BEFORE: f32 = 0.5;
const AFTER: f32 = 0.3;

/// The rows that another index of vectors found.
pub(super) struct NearRows {
    pub(super) rows: Vec<usize>,
    /// Rows from this one on are not in that index.
    pub(super) n_rows: usize,
}

/// The vectors of a namespace's rows.
pub(super) struct Vectors {
    pub(super) dimensions: usize,
    /// By slot: the row, unless vectors are grouped.
    pub(super) bytes: Vec<i8>,
    /// By slot; zero for rows without a vector.
    pub(super) scales: Vec<f32>,
    pub(super) clusters: Option<Clusters>,
    #[cfg(feature = "hnsw")]
    ann: Option<hnsw::Ann>,
}

impl Vectors {
    pub(super) const fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            bytes: Vec::new(),
            scales: Vec::new(),
            clusters: None,
            #[cfg(feature = "hnsw")]
            ann: None,
        }
    }

    pub(super) fn push(&mut self, vector: Option<&Quantized>) {
        let vector = vector.filter(|vector| vector.bytes.len() == self.dimensions);
        match vector {
            Some(vector) => self.bytes.extend_from_slice(&vector.bytes),
            None => self.bytes.resize(self.bytes.len() + self.dimensions, 0),
        }
        self.scales.push(vector.map_or(0.0, |vector| vector.scale));
    }

    /// Gives a row another vector. An approximate index that knows the old one is let go.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn set(&mut self, row: usize, vector: Option<&Quantized>) {
        self.erase(row);
        let vector = vector.filter(|vector| vector.bytes.len() == self.dimensions);
        let Some(vector) = vector else {
            return;
        };
        self.ungroup();
        let start = row * self.dimensions;
        if let (Some(scale), Some(bytes)) = (
            self.scales.get_mut(row),
            self.bytes.get_mut(start..start + self.dimensions),
        ) {
            *scale = vector.scale;
            bytes.copy_from_slice(&vector.bytes);
        }
        #[cfg(feature = "hnsw")]
        if self.ann.as_ref().is_some_and(|ann| row < ann.n_rows()) {
            self.ann = None;
        }
    }

    /// Whether no row has a vector.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn is_empty(&self) -> bool {
        self.scales.iter().all(|scale| *scale <= 0.0)
    }

    pub(super) fn erase(&mut self, row: usize) {
        let slot = self.slot(row);
        if let Some(scale) = self.scales.get_mut(slot) {
            *scale = 0.0;
        }
        let start = slot * self.dimensions;
        if let Some(bytes) = self.bytes.get_mut(start..start + self.dimensions) {
            bytes.fill(0);
        }
    }

    fn slot(&self, row: usize) -> usize {
        let clusters = self.clusters.as_ref();
        let slot = clusters.and_then(|clusters| clusters.slot_of_row.get(row));
        slot.map_or(row, |slot| *slot as usize)
    }

    fn row(&self, row: usize) -> Option<(&[i8], f32)> {
        self.at(self.slot(row))
    }

    fn at(&self, slot: usize) -> Option<(&[i8], f32)> {
        let scale = *self.scales.get(slot)?;
        let start = slot * self.dimensions;
        let bytes = self.bytes.get(start..start + self.dimensions)?;
        (scale > 0.0).then_some((bytes, scale))
    }

    /// A copy in the order of the rows, for grouping them without holding a lock.
    #[cfg(feature = "sqlite")]
    pub(super) fn copy(&self) -> Self {
        let rows = 0..self.scales.len();
        let (bytes, scales) = self.in_order(rows);
        let mut copy = Self::new(self.dimensions);
        (copy.bytes, copy.scales) = (bytes, scales);
        copy
    }

    /// Lays the vectors out by groups, so that the nearest are found without a scan of all.
    #[cfg(feature = "sqlite")]
    pub(super) fn group(&mut self, clusters: Clusters) {
        let added = clusters.row_of_slot.len()..self.scales.len();
        let grouped = clusters.row_of_slot.iter().map(|row| *row as usize);
        let (bytes, scales) = self.in_order(grouped.chain(added));
        (self.bytes, self.scales, self.clusters) = (bytes, scales, Some(clusters));
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn ungroup(&mut self) {
        if self.clusters.is_some() {
            (self.bytes, self.scales) = self.in_order(0..self.scales.len());
            self.clusters = None;
        }
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn in_order(&self, rows: impl Iterator<Item = usize>) -> (Vec<i8>, Vec<f32>) {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut scales = Vec::with_capacity(self.scales.len());
        for row in rows {
            match self.row(row) {
                Some((of_row, scale)) => {
                    bytes.extend_from_slice(of_row);
                    scales.push(scale);
                }
                None => {
                    bytes.resize(bytes.len() + self.dimensions, 0);
                    scales.push(0.0);
                }
            }
        }
        (bytes, scales)
    }

    /// The rows nearest to the query. About `scan_max` vectors are compared where they are grouped,
    /// and all that were added since.
    pub(super) fn nearest(&self, query: &Quantized, n_wanted: usize, scan_max: usize) -> Near {
        let mut best = Best::new(n_wanted);
        let wide = query.wide();
        let mut grouped = 0;
        #[cfg(feature = "hnsw")]
        if let Some(ann) = &self.ann {
            grouped = ann.n_rows();
            let query = Quantized::unquantized(&query.bytes, query.scale);
            for row in ann.nearest(&query, n_wanted) {
                let slot = self.slot(row);
                self.compare(&wide, slot..slot + 1, |_slot| row, &mut best);
            }
        }
        if let Some(clusters) = self.clusters.as_ref().filter(|_| grouped == 0) {
            grouped = clusters.row_of_slot.len();
            let row = |slot: usize| {
                clusters
                    .row_of_slot
                    .get(slot)
                    .map_or(0, |row| *row as usize)
            };
            let mut n_seen = 0;
            for slots in clusters.by_likeness(query) {
                if n_seen >= scan_max {
                    break;
                }
                n_seen += self.compare(&wide, slots, row, &mut best);
            }
        }
        self.compare(&wide, grouped..self.scales.len(), |slot| slot, &mut best);
        let (rows, is_cut) = best.finish();
        Near {
            rows,
            is_cut: is_cut || grouped > 0,
        }
    }

    /// Compares the vectors in some slots with the query, and returns how many there are.
    fn compare(
        &self,
        query: &Wide,
        slots: std::ops::Range<usize>,
        row: impl Fn(usize) -> usize,
        best: &mut Best,
    ) -> usize {
        let bytes = slots.start * self.dimensions..slots.end * self.dimensions;
        let (Some(bytes), Some(scales)) = (self.bytes.get(bytes), self.scales.get(slots.clone()))
        else {
            return 0;
        };
        let mut n_seen = 0;
        let vectors = bytes.chunks_exact(self.dimensions.max(1));
        for ((bytes, scale), slot) in vectors.zip(scales).zip(slots) {
            if *scale > 0.0 {
                n_seen += 1;
                let likeness = query.likeness(bytes, *scale);
                if likeness >= best.floor() {
                    best.take(likeness, row(slot));
                }
            }
        }
        n_seen
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

    #[cfg(feature = "hnsw")]
    pub(super) fn unquantized(&self) -> Vec<(usize, Vec<f32>)> {
        (0..self.scales.len())
            .filter_map(|row| {
                let (bytes, scale) = self.row(row)?;
                Some((row, Quantized::unquantized(bytes, scale)))
            })
            .collect()
    }

    #[cfg(feature = "hnsw")]
    pub(super) fn set_ann(&mut self, ann: hnsw::Ann) {
        self.ann = Some(ann);
    }
}

/// The nearest rows to a query.
pub(super) struct Near {
    pub(super) rows: Vec<(f32, usize)>,
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
