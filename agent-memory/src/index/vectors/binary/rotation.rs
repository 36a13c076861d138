//! A random rotation that takes `n log n` steps: signs flipped at random and a Hadamard transform,
//! twice (Ailon and Chazelle 2009, "The fast Johnson-Lindenstrauss transform").

use crate::index::numbers::from_count;

/// How often signs are flipped and sums mixed.
const ROUNDS: usize = 2;

/// Always the same rotation for a number of dimensions.
#[derive(PartialEq)]
pub(super) struct Rotation {
    dimensions: usize,
    /// By round and dimension: a sign, and the factor the transform leaves out.
    flips: [Vec<f32>; ROUNDS],
}

impl Rotation {
    /// The dimensions are a power of two.
    pub(super) fn new(dimensions: usize) -> Self {
        let factor = 1.0 / from_count(dimensions).sqrt();
        let mut state = 0_u64;
        let mut flip = || match split_mix(&mut state) >> 63 {
            0 => factor,
            _ => -factor,
        };
        Self {
            dimensions,
            flips: std::array::from_fn(|_round| (0..dimensions).map(|_| flip()).collect()),
        }
    }

    pub(super) const fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn turn(&self, vector: &mut [f32]) {
        for flips in &self.flips {
            for (x, flip) in vector.iter_mut().zip(flips) {
                *x *= flip;
            }
            hadamard(vector);
        }
    }
}

/// The Walsh-Hadamard transform without its factor.
fn hadamard(vector: &mut [f32]) {
    let mut half = 1;
    while half < vector.len() {
        for pair in vector.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// The next number of `SplitMix64` (Steele, Lea and Flood 2014).
const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
