//! Vectors that have much in common, as those of one subject have: only what tells them apart may
//! count.

use super::*;

const DIMENSIONS: usize = 256;
const N: usize = 8 * BLOCK + 100;
const HITS: usize = 10;
/// So many are asked for, to find the nearest among them.
const WANTED: usize = 30;
const QUERIES: usize = 20;
/// So many are compared of those with codes: one in fifty.
const COMPARED_MAX: usize = N / 50;

struct Random(u64);

impl Random {
    /// The next number between 0 and 1 of a linear congruence (Knuth's `MMIX`).
    fn even(&mut self) -> f32 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        let bits = usize::try_from(self.0 >> 40).unwrap_or_default();
        from_count(bits) / from_count(1 << 24)
    }

    fn normal(&mut self) -> f32 {
        // Twelve even numbers added up are nearly normal.
        (0..12).map(|_| self.even()).sum::<f32>() - 6.0
    }

    /// A vector near another; as of real texts, few directions tell most.
    fn near(&mut self, subject: &[f32]) -> Vec<f32> {
        let weights = (0..DIMENSIONS).map(|n| 1.0 / (1.0 + from_count(n) / 4.0));
        let parts = subject.iter().zip(weights);
        parts
            .map(|(x, weight)| x + weight * self.normal())
            .collect()
    }
}

fn subject(seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..DIMENSIONS).map(|_| 0.3 * random.normal()).collect()
}

fn many(n: usize, subject: &[f32], seed: u64) -> Vec<Quantized> {
    let mut random = Random(seed);
    let vectors = (0..n).filter_map(|_| Quantized::new(&random.near(subject)));
    vectors.collect()
}

fn filled(all: &[Quantized]) -> Vectors {
    let mut vectors = Vectors::new(DIMENSIONS);
    all.iter().for_each(|vector| vectors.push(Some(vector)));
    vectors
}

/// How many of the ten nearest to some questions are found, of all that are eligible.
fn n_found(
    vectors: &Vectors,
    questions: &[Quantized],
    sparse: usize,
    is_eligible: impl Fn(usize) -> bool + Copy,
) -> usize {
    let found = questions.iter().map(|query| {
        let likeness = |row: usize| Some((vectors.likeness(query, row)?, row));
        let rows = (0..vectors.scales.len()).filter(|row| is_eligible(*row));
        let mut exact: Vec<(f32, usize)> = rows.filter_map(likeness).collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let named = vectors.codes.nearest(query, COMPARED_MAX);
        assert!(named.is_sorted() && named.len() <= 2 * COMPARED_MAX);
        let near = vectors.nearest(query, WANTED, sparse, COMPARED_MAX * sparse, is_eligible);
        assert!(near.rows.iter().all(|row| is_eligible(*row)));
        let nearest = exact.iter().take(HITS);
        nearest.filter(|(_, row)| near.rows.contains(row)).count()
    });
    found.sum()
}

#[test]
fn codes_name_the_nearest() {
    let (subject, all) = (subject(7), |_row: usize| true);
    let mut vectors = filled(&many(N, &subject, 1));
    let questions = many(QUERIES, &subject, 99);
    let found = n_found(&vectors, &questions, 1, all);
    assert!(found >= 190, "{found} of 200");
    let found = n_found(&vectors, &questions, 3, |row| row % 3 == 0);
    assert!(found >= 190, "of a third: {found} of 200");
    for row in (0..N).filter(|row| row % 10 < 3) {
        vectors.erase(row);
    }
    let found = n_found(&vectors, &questions, 1, all);
    assert!(found >= 190, "with three in ten erased: {found} of 200");
    vectors.settle();
    let found = n_found(&vectors, &questions, 1, all);
    assert!(found >= 190, "and settled: {found} of 200");
}

/// What is gone must not be named in place of what is left.
#[test]
fn a_subject_that_was_erased_hides_nothing() {
    let (gone, left) = (subject(7), subject(8));
    let mut all = many(2 * BLOCK, &gone, 1);
    all.extend(many(6 * BLOCK, &left, 2));
    let mut vectors = filled(&all);
    (0..2 * BLOCK).for_each(|row| vectors.erase(row));
    let found = n_found(&vectors, &many(QUERIES, &gone, 99), 1, |_row| true);
    // Seen from another subject, all that is left is much alike.
    assert!(found >= 100, "{found} of 200");
}

/// Of two subjects in every block, neither hides the other.
#[test]
fn what_repeats_with_a_block_is_found() {
    let (subject, other) = (subject(7), subject(8));
    let mut all = many(8 * BLOCK, &subject, 1);
    let openings = many(8 * BLOCK, &other, 2);
    for (row, opening) in openings.into_iter().enumerate() {
        if let Some(vector) = all.get_mut(row).filter(|_| row % 64 < 16) {
            *vector = opening;
        }
    }
    let vectors = filled(&all);
    for of in [&subject, &other] {
        let found = n_found(&vectors, &many(QUERIES, of, 99), 1, |_row| true);
        assert!(found >= 160, "{found} of 200");
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[test]
fn vectors_that_were_replaced_one_by_one_are_found_as_well() {
    let subject = subject(7);
    let mut vectors = filled_with_none(N);
    for (row, vector) in many(N, &subject, 1).iter().enumerate() {
        vectors.set(row, Some(vector));
    }
    let found = n_found(&vectors, &many(QUERIES, &subject, 99), 1, |_row| true);
    assert!(found >= 190, "{found} of 200");
}

/// A scale that somebody made up concerns its own vector alone.
#[test]
fn a_vector_of_a_false_scale_hides_no_other() {
    let subject = subject(7);
    let mut all = many(8 * BLOCK, &subject, 1);
    for false_one in all.iter_mut().step_by(BLOCK) {
        false_one.scale = 1e38;
    }
    let vectors = filled(&all);
    let questions = many(QUERIES, &subject, 99);
    let found = n_found(&vectors, &questions, 1, |row| row % BLOCK != 0);
    assert!(found >= 185, "{found} of 200");
}

/// Neither bits nor centres tell of what was erased.
#[test]
fn codes_are_as_if_what_was_erased_had_never_been() {
    let all = many(2 * BLOCK, &subject(7), 1);
    let mut erased = filled(&all);
    (0..BLOCK).step_by(2).for_each(|row| erased.erase(row));
    erased.settle();
    let mut never = Vectors::new(DIMENSIONS);
    for (row, vector) in all.iter().enumerate() {
        never.push(Some(vector).filter(|_| row >= BLOCK || row % 2 == 1));
    }
    assert!(erased.codes == never.codes);
    (0..2 * BLOCK).for_each(|row| erased.erase(row));
    erased.settle();
    assert!(erased.codes == filled_with_none(2 * BLOCK).codes);
}

fn filled_with_none(n: usize) -> Vectors {
    let mut vectors = Vectors::new(DIMENSIONS);
    (0..n).for_each(|_| vectors.push(None));
    vectors
}
