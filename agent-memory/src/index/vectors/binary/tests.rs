//! Vectors that have much in common, as those of one subject have: only what tells them apart may
//! count.

use super::super::Quantized;
use super::*;

const DIMENSIONS: usize = 256;
const N: usize = 8 * BLOCK;
const HITS: usize = 10;
const QUERIES: usize = 20;

fn random(state: &mut u64) -> f32 {
    // Twelve even numbers added up are nearly normal.
    let even = |state: &mut u64| {
        let bits = rotation::split_mix(state) >> 40;
        from_count(usize::try_from(bits).unwrap_or_default()) / from_count(1 << 24)
    };
    (0..12).map(|_| even(state)).sum::<f32>() - 6.0
}

fn vectors(n: usize, seed: u64) -> Vec<Quantized> {
    let mut state = 7;
    let common: Vec<f32> = (0..DIMENSIONS).map(|_| 3.0 * random(&mut state)).collect();
    let mut state = seed;
    let mut vector = || -> Vec<f32> {
        // As of real texts, few directions tell most.
        let weights = (0..DIMENSIONS).map(|n| 1.0 / (1.0 + from_count(n) / 4.0));
        let parts = common.iter().zip(weights);
        parts
            .map(|(x, weight)| x + weight * random(&mut state))
            .collect()
    };
    (0..n).filter_map(|_| Quantized::new(&vector())).collect()
}

fn part(vector: &Quantized) -> Option<(&[i8], f32)> {
    Some((&vector.bytes, vector.scale))
}

fn encoded(vectors: &[Quantized]) -> BinaryCodes {
    let mut codes = BinaryCodes::new(DIMENSIONS);
    for (block, vectors) in vectors.chunks_exact(BLOCK).enumerate() {
        codes.encode(block, vectors.iter().map(part));
    }
    codes
}

/// How many of the ten nearest are among the rows that a twentieth of estimates names.
fn n_found(codes: &BinaryCodes, vectors: &[Quantized], n_named: usize) -> usize {
    let found = self::vectors(QUERIES, 99).into_iter().map(|query| {
        let mut exact: Vec<(f32, usize)> =
            vectors.iter().map(|v| query.cosine(v)).zip(0..).collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let named = codes.nearest(&query, n_named);
        assert!(named.is_sorted() && named.len() <= 2 * n_named);
        let found = exact
            .iter()
            .take(HITS)
            .filter(|(_, row)| named.contains(row));
        found.count()
    });
    found.sum()
}

#[test]
fn a_twentieth_holds_the_nearest() {
    let vectors = vectors(N, 1);
    let found = n_found(&encoded(&vectors), &vectors, N / 20);
    assert!(found >= 190, "{found} of 200");
}

#[test]
fn a_fiftieth_holds_most_of_the_nearest() {
    let vectors = vectors(N, 1);
    let found = n_found(&encoded(&vectors), &vectors, N / 50);
    assert!(found >= 180, "{found} of 200");
}

#[test]
fn codes_that_were_replaced_one_by_one_are_as_good() {
    let vectors = vectors(N, 1);
    let mut codes = BinaryCodes::new(DIMENSIONS);
    for block in 0..N / BLOCK {
        codes.encode(block, (0..BLOCK).map(|_| None));
    }
    for (row, vector) in vectors.iter().enumerate() {
        if let Some(block) = codes.replace(row, part(vector)) {
            let done = |n: usize| vectors.get(n).filter(|_| n <= row).and_then(part);
            codes.encode(block, (block * BLOCK..(block + 1) * BLOCK).map(done));
        }
    }
    let found = n_found(&codes, &vectors, N / 20);
    assert!(found >= 190, "{found} of 200");
}

#[test]
fn erased_rows_leave_no_bit() {
    let vectors = vectors(BLOCK, 1);
    let mut codes = encoded(&vectors);
    for row in 0..BLOCK {
        assert_eq!(codes.replace(row, None), None);
    }
    assert!(codes.words.iter().all(|word| *word == 0));
    let mut left = codes.stretches.iter().chain(&codes.alongs);
    assert!(left.all(|x| x.abs() < f32::MIN_POSITIVE));
}
