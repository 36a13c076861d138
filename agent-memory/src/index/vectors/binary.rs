//! Binary quantization: of each vector one bit a dimension, by which a search leaves out the many
//! that cannot be near before it compares the rest by their 8-bit numbers.
//!
//! A bit says on which side of the centre of its block the vector lies, after a random rotation
//! that spreads what tells vectors apart evenly over all bits. Vectors that are alike differ in few
//! bits (Charikar 2002, "Similarity estimation techniques from rounding algorithms"), and with some
//! numbers beside them the bits give an unbiased estimate of the product with any vector (Gao and
//! Long 2024, "`RaBitQ`", arXiv 2405.12497). Codes lie in the order of the rows, so that adding,
//! replacing and erasing a vector touch one block, and there is nothing to train.

mod rotation;
mod search;

use std::collections::BTreeSet;
#[cfg(feature = "sqlite")]
use std::io::{self, Read, Write};

use super::{from_count, from_dot};
#[cfg(feature = "sqlite")]
use crate::index::{Blocks, Unblocks};
use rotation::Rotation;

/// Rows that share a centre. Those of the last, incomplete block have no codes.
pub(super) const BLOCK: usize = 1_024;
/// A block gets another centre when this many of its vectors were replaced.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const REPLACED_MAX: u32 = 128;
const BITS: usize = u64::BITS as usize;

/// What a row's bits leave out. With the rotated vector x, its centre c, r = x - c and its signs s,
/// for any q, but for an error without bias, `<x, q> = stretch <s, q - c> + along + <c, q>`.
#[derive(Clone, Copy)]
struct Shape {
    stretch: f32,
    along: f32,
}

/// Of a row without a vector: nothing is farther away.
const ABSENT: Shape = Shape {
    stretch: 0.0,
    along: f32::NEG_INFINITY,
};

/// The codes of all rows of complete blocks.
#[derive(PartialEq)]
pub(super) struct BinaryCodes {
    rotation: Rotation,
    /// By block: the first words of all its rows, then their second words, and so on, as many as it
    /// takes for a bit a dimension. Lying so, many rows are compared at a time.
    words: Vec<u64>,
    /// By row, as the next: a search goes through one after another.
    stretches: Vec<f32>,
    alongs: Vec<f32>,
    /// By block: the mean of its vectors, rotated.
    centres: Vec<f32>,
    /// By block: how many of its vectors were replaced since its centre was worked out.
    n_replaced: Vec<u32>,
    /// Blocks whose centre tells of vectors that were erased.
    outdated: BTreeSet<usize>,
}

impl BinaryCodes {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            rotation: Rotation::new(dimensions.next_power_of_two().max(BITS)),
            words: Vec::new(),
            stretches: Vec::new(),
            alongs: Vec::new(),
            centres: Vec::new(),
            n_replaced: Vec::new(),
            outdated: BTreeSet::new(),
        }
    }

    fn words_per_row(&self) -> usize {
        self.rotation.dimensions() / BITS
    }

    /// How many rows have codes.
    pub(super) const fn n_rows(&self) -> usize {
        self.stretches.len()
    }

    /// Writes all there is to be saved.
    #[cfg(feature = "sqlite")]
    pub(super) fn save<W: Write>(&self, to: &mut Blocks<W>) -> io::Result<()> {
        to.longs(&self.words)?;
        for floats in [&self.stretches, &self.alongs, &self.centres] {
            to.floats(floats)?;
        }
        Ok(())
    }

    /// Reads the codes of so many rows; nothing if those saved are of another number.
    #[cfg(feature = "sqlite")]
    pub(super) fn load<R: Read>(&mut self, from: &mut Unblocks<R>, n_rows: usize) -> Option<()> {
        let n_blocks = n_rows / BLOCK;
        (self.words, self.n_replaced) = (from.longs()?, vec![0; n_blocks]);
        (self.stretches, self.alongs) = (from.floats()?, from.floats()?);
        self.centres = from.floats()?;
        let by_row = [&self.stretches, &self.alongs];
        let fits = by_row.iter().all(|of| of.len() == n_blocks * BLOCK)
            && self.words.len() == n_blocks * BLOCK * self.words_per_row()
            && self.centres.len() == n_blocks * self.rotation.dimensions();
        fits.then_some(())
    }

    /// Works out the centre and the codes of a block: of a new one behind the others, or again.
    pub(super) fn encode<'v>(
        &mut self,
        block: usize,
        vectors: impl Iterator<Item = Option<&'v [i8]>> + Clone,
    ) {
        let dimensions = self.rotation.dimensions();
        let mut centre = vec![0.0; dimensions];
        for bytes in vectors.clone().flatten() {
            let scale = unit(bytes);
            for (sum, byte) in centre.iter_mut().zip(bytes) {
                *sum += f32::from(*byte) * scale;
            }
        }
        let share = 1.0 / from_count(vectors.clone().flatten().count().max(1));
        centre.iter_mut().for_each(|sum| *sum *= share);
        self.rotation.turn(&mut centre);
        let n_blocks = self.n_replaced.len().max(block + 1);
        self.n_replaced.resize(n_blocks, 0);
        self.centres.resize(n_blocks * dimensions, 0.0);
        let n_rows = n_blocks * BLOCK;
        self.words.resize(n_rows * self.words_per_row(), 0);
        for of_rows in [&mut self.stretches, &mut self.alongs] {
            of_rows.resize(n_rows, 0.0);
        }
        if let Some(n) = self.n_replaced.get_mut(block) {
            *n = 0;
        }
        self.outdated.remove(&block);
        if let Some(place) = self.centres.chunks_exact_mut(dimensions).nth(block) {
            place.copy_from_slice(&centre);
        }
        for (n, vector) in vectors.enumerate() {
            self.write(block * BLOCK + n, vector);
        }
    }

    /// Writes the code of a row by the centre of its block; one without a vector has no bits.
    fn write(&mut self, row: usize, vector: Option<&[i8]>) {
        let turned = vector.map(|bytes| self.turned(bytes));
        let (dimensions, n_words) = (self.rotation.dimensions(), self.words_per_row());
        let centre = self.centres.chunks_exact(dimensions).nth(row / BLOCK);
        let words = self
            .words
            .chunks_exact_mut(BLOCK * n_words)
            .nth(row / BLOCK);
        let (Some(centre), Some(words)) = (centre, words) else {
            return;
        };
        let (mut code, mut shape) = (vec![0; n_words], ABSENT);
        if let Some(turned) = turned {
            signs(&turned, centre, &mut code);
            shape = Shape::of(&turned, centre);
        }
        for (words, word) in words.chunks_exact_mut(BLOCK).zip(code) {
            if let Some(place) = words.get_mut(row % BLOCK) {
                *place = word;
            }
        }
        for (of_rows, x) in [
            (&mut self.stretches, shape.stretch),
            (&mut self.alongs, shape.along),
        ] {
            if let Some(place) = of_rows.get_mut(row) {
                *place = x;
            }
        }
    }

    /// Gives a row another code, and returns its block if that needs another centre by now.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn replace(&mut self, row: usize, vector: &[i8]) -> Option<usize> {
        self.write(row, Some(vector));
        let n = self.n_replaced.get_mut(row / BLOCK)?;
        *n += 1;
        (*n >= REPLACED_MAX).then_some(row / BLOCK)
    }

    /// Takes the code of a row away; the centre of its block is outdated then.
    pub(super) fn erase(&mut self, row: usize) {
        if row < self.n_rows() {
            self.write(row, None);
            self.outdated.insert(row / BLOCK);
        }
    }

    /// The next block to be encoded again for what was erased there.
    pub(super) fn take_outdated(&mut self) -> Option<usize> {
        self.outdated.pop_first()
    }

    /// A vector of length one, rotated. What scale it came with does not matter: a wrong one would
    /// move the centre of all the others.
    fn turned(&self, bytes: &[i8]) -> Vec<f32> {
        let (mut vector, scale) = (vec![0.0; self.rotation.dimensions()], unit(bytes));
        for (x, byte) in vector.iter_mut().zip(bytes) {
            *x = f32::from(*byte) * scale;
        }
        self.rotation.turn(&mut vector);
        vector
    }
}

/// The scale that brings a vector to length one.
fn unit(bytes: &[i8]) -> f32 {
    let square: i32 = bytes.iter().map(|byte| i32::from(*byte).pow(2)).sum();
    1.0 / from_dot(square.max(1)).sqrt()
}

impl Shape {
    fn of(vector: &[f32], centre: &[f32]) -> Self {
        let (mut square, mut sum, mut along) = (0.0, 0.0, 0.0);
        for (x, c) in vector.iter().zip(centre) {
            let r = x - c;
            square += r * r;
            sum += r.abs();
            along += r * c;
        }
        let stretch = if sum > 0.0 { square / sum } else { 0.0 };
        Self { stretch, along }
    }
}

/// Sets the bit of each dimension in which the vector lies above the centre.
#[inline(always)]
fn signs(vector: &[f32], centre: &[f32], code: &mut [u64]) {
    bits(vector, centre, code, |x, c| x > c);
}

/// Sets the bit of each dimension in which it is so of the vector and the centre.
#[inline(always)]
fn bits(vector: &[f32], centre: &[f32], code: &mut [u64], is_so: impl Fn(f32, f32) -> bool) {
    let (vector, centre) = (vector.as_chunks::<BITS>().0, centre.as_chunks::<BITS>().0);
    for (word, (vector, centre)) in code.iter_mut().zip(vector.iter().zip(centre)) {
        // A byte each, which is done for many at a time, and then bits of the bytes.
        let mut so = [0_u8; BITS];
        for (so, (x, c)) in so.iter_mut().zip(vector.iter().zip(centre)) {
            *so = u8::from(is_so(*x, *c));
        }
        let parts = so.as_chunks::<8>().0.iter().rev();
        *word = parts.fold(0, |word, part| word << 8 | packed(*part));
    }
}

/// The lowest bits of eight bytes, that of the first byte lowest.
#[inline(always)]
const fn packed(bytes: [u8; 8]) -> u64 {
    // Byte n is moved to bit n of the highest byte; no two of the products meet in a bit.
    u64::from_le_bytes(bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56
}
