//! The search by codes: all of them against the code of the query.

use multiversion::multiversion;

use super::{BLOCK, BinaryCodes, bits, signs};
use crate::index::best::Best;
use crate::index::numbers::{from_count, to_u16};
use crate::index::vectors::Quantized;

/// How many differences more one counts where the query is far from the centre: of normal numbers
/// those above the mean are four times as large as those below.
const FAR: u32 = 3;
/// Numbers added up side by side.
const LANES: usize = 64;
/// Products looked at together.
const PART: usize = 16;

/// The codes of a block, and the query as seen from its centre.
struct Block<'a> {
    words: &'a [u64],
    stretches: &'a [f32],
    alongs: &'a [f32],
    code: &'a [u64],
    /// The dimensions in which the query is far from the centre.
    far: &'a [u64],
    seen: Seen,
}

#[derive(Clone, Copy)]
struct Seen {
    /// How far the query is from the centre in a dimension at the mean.
    reach: f32,
    /// The product of the query with the centre.
    of_centre: f32,
}

/// A query prepared for being compared with many codes.
struct Asked {
    /// By block, as the next two.
    codes: Vec<u64>,
    far: Vec<u64>,
    seen: Vec<Seen>,
}

impl BinaryCodes {
    /// As many rows as are wanted, rising: those with the highest products with the query, as the
    /// signs of both give them.
    pub(in crate::index::vectors) fn nearest(
        &self,
        query: &Quantized,
        n_wanted: usize,
    ) -> Vec<usize> {
        let asked = self.asked(query);
        let (mut differences, mut products) = ([0; BLOCK], [0.0; BLOCK]);
        let (mut best, mut found) = (Best::new(n_wanted), Vec::new());
        for (n, block) in self.blocks(&asked).enumerate() {
            by_signs(&block, &mut differences, &mut products);
            at_least(&products, best.floor(), &mut found);
            for (product, row) in found.drain(..) {
                best.take(product, n * BLOCK + row);
            }
        }
        let (near, _) = best.finish();
        let mut rows: Vec<usize> = near.into_iter().map(|(_, row)| row).collect();
        rows.sort_unstable();
        rows
    }

    fn asked(&self, query: &Quantized) -> Asked {
        let query = self.turned(&query.bytes);
        let n_words = self.words_per_row();
        let mut codes = vec![0; self.n_replaced.len() * n_words];
        let mut far = codes.clone();
        let words = codes
            .chunks_exact_mut(n_words)
            .zip(far.chunks_exact_mut(n_words));
        let centres = self.centres.chunks_exact(query.len());
        let seen = words
            .zip(centres)
            .map(|((code, far), centre)| see(&query, centre, code, far));
        Asked {
            seen: seen.collect(),
            codes,
            far,
        }
    }

    fn blocks<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = Block<'a>> {
        let n_words = self.words_per_row();
        let words = self.words.chunks_exact(BLOCK * n_words);
        let of_query = asked.codes.chunks_exact(n_words);
        let of_query = of_query.zip(asked.far.chunks_exact(n_words).zip(&asked.seen));
        let shapes = self
            .stretches
            .chunks_exact(BLOCK)
            .zip(self.alongs.chunks_exact(BLOCK));
        let blocks = words.zip(of_query).zip(shapes);
        blocks.map(
            |((words, (code, (far, seen))), (stretches, alongs))| Block {
                words,
                stretches,
                alongs,
                code,
                far,
                seen: *seen,
            },
        )
    }
}

impl Seen {
    #[inline(always)]
    fn of(query: &[f32], centre: &[f32]) -> Self {
        // Added up one after another, each would wait for the last.
        let (mut products, mut lengths) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let parts = query.as_chunks::<LANES>().0.iter();
        for (query, centre) in parts.zip(centre.as_chunks::<LANES>().0) {
            for (sum, (q, c)) in products.iter_mut().zip(query.iter().zip(centre)) {
                *sum += q * c;
            }
            for (sum, (q, c)) in lengths.iter_mut().zip(query.iter().zip(centre)) {
                *sum += (q - c).abs();
            }
        }
        Self {
            reach: lengths.iter().sum::<f32>() / from_count(query.len()),
            of_centre: products.iter().sum(),
        }
    }
}

/// The query as seen from a centre: its code, and where it is far.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vpopcntdq",
    "x86_64+avx2+popcnt"
))]
fn see(query: &[f32], centre: &[f32], code: &mut [u64], far: &mut [u64]) -> Seen {
    let seen = Seen::of(query, centre);
    signs(query, centre, code);
    far_bits(query, centre, seen.reach, far);
    seen
}

/// Sets the bit of each dimension in which the query is farther than that from the centre.
#[inline(always)]
fn far_bits(query: &[f32], centre: &[f32], reach: f32, far: &mut [u64]) {
    bits(query, centre, far, |q, c| (q - c).abs() > reach);
}

/// The products of some rows with the query, as the signs of both give them. A difference where the
/// query is far from the centre counts more.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vpopcntdq",
    "x86_64+avx2+popcnt"
))]
fn by_signs(block: &Block<'_>, differences: &mut [u16; BLOCK], products: &mut [f32; BLOCK]) {
    differences.fill(0);
    let of_query = block.code.iter().zip(block.far);
    for (words, (code, far)) in block.words.chunks_exact(BLOCK).zip(of_query) {
        for (n, word) in differences.iter_mut().zip(words) {
            let different = word ^ code;
            let n_different = different.count_ones() + FAR * (different & far).count_ones();
            *n = n.saturating_add(to_u16(n_different));
        }
    }
    let mut n_far = 0;
    for far in block.far {
        n_far += far.count_ones();
    }
    let n_dimensions = block.far.len() * u64::BITS as usize;
    let n_most = from_count(n_dimensions + (FAR * n_far) as usize);
    let Seen { reach, of_centre } = block.seen;
    // What one difference counts, so that all of them are all of the query.
    let unit = reach * from_count(n_dimensions) / n_most;
    let shapes = block.stretches.iter().zip(block.alongs);
    let rows = products.iter_mut().zip(differences.iter().zip(shapes));
    for (product, (n_different, (stretch, along))) in rows {
        let n_more_alike = n_most - 2.0 * f32::from(*n_different);
        *product = stretch * unit * n_more_alike + along + of_centre;
    }
}

/// Finds where the products are at least so large, and of rows with a vector. Few are: most parts
/// are passed over whole. Loops, since a closure would stay a call of its own: what calls it is not
/// compiled for the same instructions.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn at_least(products: &[f32; BLOCK], least: f32, found: &mut Vec<(f32, usize)>) {
    let least = least.max(f32::MIN);
    for (n, part) in products.as_chunks::<PART>().0.iter().enumerate() {
        let mut has_some = false;
        for product in part {
            has_some |= *product >= least;
        }
        if !has_some {
            continue;
        }
        for (row, product) in part.iter().enumerate() {
            if *product >= least {
                found.push((*product, n * PART + row));
            }
        }
    }
}
