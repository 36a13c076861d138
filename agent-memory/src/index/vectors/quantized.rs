//! A vector in 8-bit numbers, and how much two of them are alike.

use multiversion::multiversion;

use crate::index::numbers::{from_dot, to_i8};

/// Numbers multiplied at a time, added up in pairs: of what was tried, the compiler makes the
/// fastest instructions of this on any x86-64.
const LANES: usize = 32;

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

    /// The same for comparing it with many.
    pub(super) fn wide(&self) -> Wide {
        Wide {
            numbers: self.bytes.iter().map(|byte| i16::from(*byte)).collect(),
            scale: self.scale,
        }
    }
}

/// A vector whose numbers are as wide as they are multiplied.
pub(in crate::index) struct Wide {
    numbers: Vec<i16>,
    scale: f32,
}

impl Wide {
    pub(super) fn likeness(&self, bytes: &[i8], scale: f32) -> f32 {
        from_dot(dot_wide(&self.numbers, bytes)) * self.scale * scale
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2"))]
pub(super) fn dot(a: &[i8], b: &[i8]) -> i32 {
    sum(a, b)
}

#[multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2"))]
fn dot_wide(a: &[i16], b: &[i8]) -> i32 {
    sum(a, b)
}

/// Sums of whole parts of fixed size are what the compiler multiplies and adds in one instruction.
#[inline(always)]
fn sum<A: Copy + Into<i32>>(a: &[A], b: &[i8]) -> i32 {
    let ((xs, xs_rest), (ys, ys_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let product = |(x, y): (&A, &i8)| (*x).into() * i32::from(*y);
    let mut total = 0;
    for (x, y) in xs.iter().zip(ys) {
        total += x.iter().zip(y).map(product).sum::<i32>();
    }
    total + xs_rest.iter().zip(ys_rest).map(product).sum::<i32>()
}
