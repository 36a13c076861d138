//! The search by codes: all of them against the code of the query.

use multiversion::multiversion;

use super::{BLOCK, BinaryCodes, bits, signs};
use crate::index::numbers::{from_count, to_u16};
use crate::index::vectors::Quantized;

/// So many rows of each block are looked at to learn how near rows are to the query.
const SAMPLE: usize = 16;
/// How many differences more one counts where the query is far from the centre: of normal numbers
/// those above the mean are four times as large as those below.
const FAR: u32 = 3;
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
    /// About as many rows as are wanted, at most twice as many, rising: those with the highest
    /// products with the query, as the signs of both give them.
    pub(in crate::index::vectors) fn nearest(
        &self,
        query: &Quantized,
        n_wanted: usize,
    ) -> Vec<usize> {
        let asked = self.asked(query);
        let least = self.least(&asked, n_wanted);
        let (mut differences, mut products) = ([0; BLOCK], [0.0; BLOCK]);
        let mut near = Vec::with_capacity(n_wanted);
        for (n, block) in self.blocks(&asked).enumerate() {
            by_signs(&block, 0, &mut differences, &mut products);
            near.extend(at_least(&products, least).map(|(row, x)| (x, n * BLOCK + row)));
        }
        // The sample may not have been like the rest.
        if near.len() > 2 * n_wanted.max(1) {
            near.select_nth_unstable_by(2 * n_wanted, |a, b| b.0.total_cmp(&a.0));
            near.truncate(2 * n_wanted);
        }
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
        let seen = words.zip(centres).map(|((code, far), centre)| {
            let seen = Seen::of(&query, centre);
            signs(&query, centre, code);
            bits(&query, centre, far, |q, c| (q - c).abs() > seen.reach);
            seen
        });
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

    /// What the product by signs is at least for the best `n_wanted` rows, as a sample tells.
    fn least(&self, asked: &Asked, n_wanted: usize) -> f32 {
        let mut sample: Vec<f32> = Vec::with_capacity(SAMPLE * asked.seen.len());
        let mut products = [0.0; SAMPLE];
        for (n, block) in self.blocks(asked).enumerate() {
            // Not the same part of each, since what comes again and again may have its length.
            let part = n.wrapping_mul(37) % (BLOCK / SAMPLE);
            by_signs(&block, SAMPLE * part, &mut [0; SAMPLE], &mut products);
            sample.extend(products.iter().filter(|x| x.is_finite()));
        }
        let n = n_wanted.saturating_mul(SAMPLE) / BLOCK;
        if n >= sample.len() {
            return f32::NEG_INFINITY;
        }
        *sample.select_nth_unstable_by(n, |a, b| b.total_cmp(a)).1
    }
}

impl Seen {
    fn of(query: &[f32], centre: &[f32]) -> Self {
        // Added up one after another, each would wait for the last.
        let (mut products, mut lengths) = ([0.0_f32; 16], [0.0_f32; 16]);
        for (query, centre) in query
            .as_chunks::<16>()
            .0
            .iter()
            .zip(centre.as_chunks::<16>().0)
        {
            let sums = products.iter_mut().zip(&mut lengths);
            for ((product, length), (q, c)) in sums.zip(query.iter().zip(centre)) {
                *product += q * c;
                *length += (q - c).abs();
            }
        }
        Self {
            reach: lengths.iter().sum::<f32>() / from_count(query.len()),
            of_centre: products.iter().sum(),
        }
    }
}

/// The products of some rows with the query, as the signs of both give them. A difference where the
/// query is far from the centre counts more.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vpopcntdq",
    "x86_64+avx2+popcnt"
))]
fn by_signs(block: &Block<'_>, first: usize, differences: &mut [u16], products: &mut [f32]) {
    differences.fill(0);
    let of_query = block.code.iter().zip(block.far);
    for (words, (code, far)) in block.words.chunks_exact(BLOCK).zip(of_query) {
        for (n, word) in differences
            .iter_mut()
            .zip(words.get(first..).unwrap_or_default())
        {
            let different = word ^ code;
            let n_different = different.count_ones() + FAR * (different & far).count_ones();
            *n = n.saturating_add(to_u16(n_different));
        }
    }
    let n_far: u32 = block.far.iter().map(|far| far.count_ones()).sum();
    let n_dimensions = block.far.len() * u64::BITS as usize;
    let n_most = from_count(n_dimensions + (FAR * n_far) as usize);
    let Seen { reach, of_centre } = block.seen;
    // What one difference counts, so that all of them are all of the query.
    let unit = reach * from_count(n_dimensions) / n_most;
    let stretches = block.stretches.get(first..).unwrap_or_default();
    let alongs = block.alongs.get(first..).unwrap_or_default();
    let shapes = stretches.iter().zip(alongs);
    let rows = products.iter_mut().zip(differences.iter().zip(shapes));
    for (product, (n_different, (stretch, along))) in rows {
        let n_more_alike = n_most - 2.0 * f32::from(*n_different);
        *product = stretch * unit * n_more_alike + along + of_centre;
    }
}

/// Where the products are at least so large. Few are: most parts are passed over whole.
fn at_least(products: &[f32; BLOCK], least: f32) -> impl Iterator<Item = (usize, f32)> {
    let parts = products.as_chunks::<PART>().0.iter().enumerate();
    let has_some = move |part: &[f32; PART]| {
        let highest = part.iter().fold(
            f32::NEG_INFINITY,
            |most, x| if *x > most { *x } else { most },
        );
        highest >= least
    };
    let parts = parts.filter(move |(_, part)| has_some(part));
    parts.flat_map(move |(n, part)| {
        let rows = part.iter().enumerate().filter(move |(_, x)| **x >= least);
        rows.map(move |(row, x)| (n * PART + row, *x))
    })
}
