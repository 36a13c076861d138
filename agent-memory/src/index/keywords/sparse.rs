//! Scores of the rows that have one, in the order of the rows.

use crate::index::best::Best;
use crate::index::fuse::scale;
use crate::index::numbers::number;

/// Scores by rising row.
#[derive(Default)]
pub(in crate::index) struct Sparse {
    rows: Vec<u32>,
    scores: Vec<f32>,
}

impl Sparse {
    /// The scores of all rows that are not 0.
    pub(in crate::index) fn of_all(scores: &[f32]) -> Self {
        let scored = scores.iter().enumerate().filter(|(_, score)| **score > 0.0);
        let (rows, scores) = scored.map(|(row, score)| (number(row), *score)).unzip();
        Self { rows, scores }
    }

    /// Adds scores by rising row, `n` of them.
    pub(super) fn merge(&mut self, others: impl Iterator<Item = (u32, f32)>, n: usize) {
        if self.rows.is_empty() {
            (self.rows, self.scores) = others.unzip();
            return;
        }
        let mut rows = Vec::with_capacity(self.rows.len() + n);
        let mut scores = Vec::with_capacity(self.rows.len() + n);
        let mut put = |row: u32, score: f32| {
            rows.push(row);
            scores.push(score);
        };
        let own = self.rows.iter().copied().zip(self.scores.iter().copied());
        let (mut own, mut others) = (own, others);
        let (mut next_own, mut next_other) = (own.next(), others.next());
        loop {
            match (next_own, next_other) {
                (Some((row, score)), Some((other, more))) if row == other => {
                    put(row, score + more);
                    (next_own, next_other) = (own.next(), others.next());
                }
                (Some((row, score)), Some((other, _))) if row < other => {
                    put(row, score);
                    next_own = own.next();
                }
                (_, Some((other, more))) => {
                    put(other, more);
                    next_other = others.next();
                }
                (Some((row, score)), None) => {
                    put(row, score);
                    next_own = own.next();
                }
                (None, None) => break,
            }
        }
        (self.rows, self.scores) = (rows, scores);
    }

    /// The score of a row, 0 if it has none.
    pub(in crate::index) fn get(&self, row: usize) -> f32 {
        let place = self.rows.binary_search(&number(row));
        let score = place.ok().and_then(|place| self.scores.get(place));
        score.copied().unwrap_or(0.0)
    }

    /// The scores of some rising rows, 0 for those that have none.
    pub(in crate::index) fn of(&self, rows: &[usize]) -> Self {
        let mut place = 0;
        let score = |row: &usize| {
            place = seek(&self.rows, place, number(*row));
            let is_there = self.rows.get(place) == Some(&number(*row));
            let score = self.scores.get(place).filter(|_| is_there);
            (number(*row), score.copied().unwrap_or(0.0))
        };
        let (rows, scores) = rows.iter().map(score).unzip();
        Self { rows, scores }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut f32)> {
        self.rows.iter().copied().zip(&mut self.scores)
    }

    /// The rows with the best scores above 0, in no order, and whether there are more.
    pub(in crate::index) fn best(&self, n: usize) -> (Vec<(f32, usize)>, bool) {
        let mut best = Best::new(n);
        for (row, score) in self.rows.iter().zip(&self.scores) {
            if *score > 0.0 && *score >= best.floor() {
                best.take(*score, *row as usize);
            }
        }
        best.finish()
    }

    /// Divides the scores by the largest, if there is one above 0.
    pub(in crate::index) fn scale(&mut self) {
        scale(&mut self.scores, 1.0);
    }
}

/// The first place from `start` on whose row is not below `row`; soon found if it is near.
pub(super) fn seek(rows: &[u32], start: usize, row: u32) -> usize {
    let rest = rows.get(start..).unwrap_or_default();
    let mut end = 1;
    while rest.get(end).is_some_and(|other| *other < row) {
        end *= 2;
    }
    let near = rest
        .get(end / 2..rest.len().min(end + 1))
        .unwrap_or_default();
    start + end / 2 + near.partition_point(|other| *other < row)
}
