//! Vectors of 8-bit numbers, scanned one by one. Below some tens of thousands this is faster than
//! a graph, exact, and deletes cost nothing.

#[cfg(feature = "hnsw")]
pub(crate) mod hnsw;

use super::numbers::{from_dot, to_i8};
use super::tokens::Place;

/// Numbers multiplied at a time: what the compiler turns into vector instructions on any x86-64.
const LANES: usize = 16;
/// What the neighbours' vectors count in the vector of a row with its neighbours.
const BEFORE: f32 = 0.5;
const AFTER: f32 = 0.3;

/// A vector of length one in 8-bit numbers and their common scale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantized {
    pub(crate) bytes: Vec<i8>,
    pub(crate) scale: f32,
}

impl Quantized {
    /// Brings a finite vector to length one and quantizes it; the zero vector has no direction.
    pub(crate) fn new(vector: &[f32]) -> Option<Self> {
        let largest = vector.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        if largest <= 0.0 {
            return None;
        }
        // Dividing first keeps the squares of very large and very small numbers finite.
        let norm = vector
            .iter()
            .map(|x| (x / largest) * (x / largest))
            .sum::<f32>()
            .sqrt();
        let bytes = vector.iter().map(|x| to_i8(x / largest * 127.0)).collect();
        Some(Self {
            bytes,
            scale: 1.0 / (127.0 * norm),
        })
    }

    /// The cosine of two vectors of one space.
    pub(crate) fn cosine(&self, other: &Self) -> f32 {
        self.likeness(&other.bytes, other.scale)
    }

    pub(crate) fn likeness(&self, bytes: &[i8], scale: f32) -> f32 {
        from_dot(dot(&self.bytes, bytes)) * self.scale * scale
    }

    #[cfg(feature = "hnsw")]
    fn unquantized(bytes: &[i8], scale: f32) -> Vec<f32> {
        bytes.iter().map(|b| f32::from(*b) * scale).collect()
    }
}

fn dot(a: &[i8], b: &[i8]) -> i32 {
    let mut sums = [0_i32; LANES];
    let (mut xs, mut ys) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in xs.by_ref().zip(ys.by_ref()) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += i32::from(i16::from(*x) * i16::from(*y));
        }
    }
    let rest = xs.remainder().iter().zip(ys.remainder());
    sums.iter().sum::<i32>()
        + rest
            .map(|(x, y)| i32::from(*x) * i32::from(*y))
            .sum::<i32>()
}

/// The rows that another index of vectors found.
pub(super) struct NearRows {
    pub(super) rows: Vec<usize>,
    /// Rows from this one on are not in that index.
    pub(super) n_rows: usize,
}

impl NearRows {
    /// The rows to compare, or `None` for all eligible ones.
    fn candidates(
        &self,
        eligible: &[bool],
        n_wanted: usize,
        exact_max: usize,
    ) -> Option<Vec<usize>> {
        if eligible.iter().filter(|is| **is).count() <= exact_max {
            return None;
        }
        let is_eligible = |row: &usize| eligible.get(*row).copied().unwrap_or(false);
        let mut rows: Vec<usize> = self.rows.iter().copied().filter(is_eligible).collect();
        if rows.len() < n_wanted {
            // A filter or erased rows left too few of the nearest: only the scan is sure.
            return None;
        }
        rows.extend((self.n_rows..eligible.len()).filter(is_eligible));
        Some(rows)
    }
}

/// The vectors of a namespace's rows.
pub(super) struct Vectors {
    dimensions: usize,
    bytes: Vec<i8>,
    /// Zero for rows without a vector.
    scales: Vec<f32>,
    #[cfg(feature = "hnsw")]
    ann: Option<hnsw::Ann>,
}

impl Vectors {
    pub(super) const fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            bytes: Vec::new(),
            scales: Vec::new(),
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
    #[cfg(feature = "sqlite")]
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
        #[cfg(feature = "hnsw")]
        if self.ann.as_ref().is_some_and(|ann| row < ann.n_rows()) {
            self.ann = None;
        }
    }

    /// Whether no row has a vector.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_empty(&self) -> bool {
        self.scales.iter().all(|scale| *scale <= 0.0)
    }

    pub(super) fn erase(&mut self, row: usize) {
        if let Some(scale) = self.scales.get_mut(row) {
            *scale = 0.0;
        }
        let start = row * self.dimensions;
        if let Some(bytes) = self.bytes.get_mut(start..start + self.dimensions) {
            bytes.fill(0);
        }
    }

    fn row(&self, row: usize) -> Option<(&[i8], f32)> {
        let scale = *self.scales.get(row)?;
        let start = row * self.dimensions;
        let bytes = self.bytes.get(start..start + self.dimensions)?;
        (scale > 0.0).then_some((bytes, scale))
    }

    /// The likeness of every eligible row to the query, brought to 0..1; 0 for rows without a
    /// vector and, where the approximate index answers, for rows far from the query.
    pub(super) fn score(
        &self,
        query: &Quantized,
        eligible: &[bool],
        n_wanted: usize,
        exact_max: usize,
        near: Option<&NearRows>,
    ) -> Vec<f32> {
        let mut scores = vec![0.0_f32; self.scales.len()];
        let rows = match near {
            Some(near) => near.candidates(eligible, n_wanted, exact_max),
            None => self.candidates(query, eligible, n_wanted, exact_max),
        };
        let mut found: Vec<(usize, f32)> = Vec::new();
        let mut take = |row: usize| {
            if let Some((bytes, scale)) = self.row(row) {
                found.push((row, query.likeness(bytes, scale)));
            }
        };
        match rows {
            Some(rows) => rows.into_iter().for_each(&mut take),
            None => eligible
                .iter()
                .enumerate()
                .filter(|(_, is_eligible)| **is_eligible)
                .for_each(|(row, _)| take(row)),
        }
        let low = found.iter().map(|f| f.1).fold(f32::INFINITY, f32::min);
        let high = found.iter().map(|f| f.1).fold(f32::NEG_INFINITY, f32::max);
        let span = high - low;
        for (row, likeness) in found {
            if let Some(score) = scores.get_mut(row) {
                // A single candidate has no span: it counts by its own likeness.
                *score = if span > 0.0 {
                    (likeness - low) / span
                } else {
                    likeness.clamp(0.0, 1.0)
                };
            }
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

    /// The rows to compare, or `None` for all eligible ones.
    #[cfg(feature = "hnsw")]
    fn candidates(
        &self,
        query: &Quantized,
        eligible: &[bool],
        n_wanted: usize,
        exact_max: usize,
    ) -> Option<Vec<usize>> {
        let n_eligible = eligible.iter().filter(|is| **is).count();
        if n_eligible <= exact_max {
            return None;
        }
        let ann = self.ann.as_ref()?;
        let is_eligible = |row: &usize| eligible.get(*row).copied().unwrap_or(false);
        let query = Quantized::unquantized(&query.bytes, query.scale);
        let mut rows = ann.nearest(&query, n_wanted);
        rows.retain(is_eligible);
        if rows.len() < n_wanted {
            // A filter or erased rows left too few of the nearest: only the scan is sure.
            return None;
        }
        rows.extend((ann.n_rows()..eligible.len()).filter(is_eligible));
        Some(rows)
    }

    #[cfg(not(feature = "hnsw"))]
    #[expect(
        clippy::unused_self,
        reason = "the signature is shared with the feature `hnsw`"
    )]
    const fn candidates(
        &self,
        _query: &Quantized,
        _eligible: &[bool],
        _n_wanted: usize,
        _exact_max: usize,
    ) -> Option<Vec<usize>> {
        None
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
