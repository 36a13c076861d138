//! The first pass over a namespace too large to look at every row: each signal names its best
//! rows, and these are compared by all signals of the first pass.

use std::collections::HashMap;

use super::Partition;
use super::best::Best;
use super::fuse::{
    CANDIDATES_MIN, FIRST_DENSE, FIRST_GRAPH, FIRST_KEYWORD, FIRST_THREAD, FIRST_TIME, Found, Plan,
    WORDS_AFTER, WORDS_BEFORE, keep_best, scale,
};
use super::keywords::Picked;
use super::rank::{Candidate, Signals};
use super::vectors::spanned;
use crate::when::Asked;

/// The most postings that are added up by a search. Words that are in more texts only decide
/// among the rows that rarer words or other signals have found.
const POSTINGS_MAX: usize = 250_000;
/// How many more rows each signal names than are wanted, for those a filter takes away.
const OVERSAMPLING: usize = 4;
/// How many threads name their rows, and how many rows in all.
const THREADS_MAX: usize = 16;
const THREAD_ROWS_MAX: usize = 512;
/// A filter is tried on this many rows.
const SAMPLE: usize = 512;
/// Where fewer of the sample pass than this, the rows that pass are looked at one by one.
const SAMPLE_PASS_MIN: usize = 103;

/// BM25 by row and by thread, and what is left to add for rows that matter.
struct Words {
    by_row: Vec<f32>,
    by_thread: Vec<f32>,
    picked: Option<Picked>,
}

impl Partition {
    /// Finds the candidates, or nothing if a filter leaves too few of the rows that the signals
    /// name: then all rows must be looked at.
    pub(super) fn find_in_large(&self, plan: &Plan<'_>, terms: &[String]) -> Option<Found> {
        if self.rows.len() <= self.limits.exact_max || !self.lets_many_pass(plan) {
            return None;
        }
        let n_wanted = plan.limit.max(CANDIDATES_MIN);
        let mut words = self.words_of_large(plan, terms);
        let (mut rows, is_cut) = self.named(plan, &words, n_wanted);
        let given = self.by_relations(plan, rows.iter().map(|(score, row)| (*row, *score)));
        let mut rows: Vec<usize> = rows.drain(..).map(|(_, row)| row).collect();
        let mut related: Vec<usize> = given.keys().copied().collect();
        rows.append(&mut related);
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|row| self.is_eligible_row(plan, *row));
        if is_cut && rows.len() < n_wanted {
            return None;
        }
        let candidates = self.compare(plan, rows, &words, &given, n_wanted);
        self.complete(&mut words, &candidates);
        let signals = Signals {
            keyword: words.by_row,
            threads: words.by_thread,
        };
        Some(Found {
            candidates,
            signals,
        })
    }

    fn lets_many_pass(&self, plan: &Plan<'_>) -> bool {
        let step = (self.rows.len() / SAMPLE).max(1);
        let sample = (0..self.rows.len()).step_by(step);
        let n_pass = sample
            .filter(|row| self.is_eligible_row(plan, *row))
            .count();
        n_pass >= SAMPLE_PASS_MIN
    }

    fn words_of_large(&self, plan: &Plan<'_>, terms: &[String]) -> Words {
        let Some(keywords) = &self.keywords else {
            let by_row = self.words_of_backend(plan);
            let by_thread = self.by_thread(None, &by_row);
            return Words {
                by_row,
                by_thread,
                picked: None,
            };
        };
        let picked = keywords.pick(terms, POSTINGS_MAX);
        let by_row = keywords.score(&picked, self.rows.len());
        let by_thread = if plan.weights.thread > 0.0 {
            self.by_thread(Some(&picked), &by_row)
        } else {
            Vec::new()
        };
        Words {
            by_row,
            by_thread,
            picked: Some(picked),
        }
    }

    /// The best rows of each signal with what words give them, and whether there were more.
    fn named(&self, plan: &Plan<'_>, words: &Words, n_wanted: usize) -> (Vec<(f32, usize)>, bool) {
        let n_named = n_wanted * OVERSAMPLING;
        let mut best = Best::new(n_named);
        for (row, score) in words.by_row.iter().enumerate().filter(|(_, s)| **s > 0.0) {
            best.take(*score, row);
        }
        let (mut rows, mut is_cut) = best.finish();
        if plan.weights.thread > 0.0 {
            let near: Vec<usize> = rows.iter().flat_map(|(_, row)| self.around(*row)).collect();
            let score = |row: usize| words.by_row.get(row).copied().unwrap_or(0.0);
            rows.extend(near.into_iter().map(|row| (score(row), row)));
            rows.extend(self.rows_of_threads(words).map(|row| (score(row), row)));
        }
        if plan.weights.dense > 0.0 {
            for (query, vectors) in self.spaces(plan) {
                let is_present = plan.vector.is_some_and(|own| std::ptr::eq(own, query));
                if let Some(near) = plan.near.filter(|_| is_present) {
                    let near = self.near_rows(near);
                    let added = near.n_rows..self.rows.len();
                    rows.extend(near.rows.into_iter().chain(added).map(|row| (0.0, row)));
                    is_cut = true;
                    continue;
                }
                let near = vectors.nearest(query, n_named, self.limits.exact_max);
                is_cut |= near.is_cut;
                rows.extend(near.rows.into_iter().map(|(_, row)| (0.0, row)));
            }
        }
        (rows, is_cut)
    }

    fn around(&self, row: usize) -> impl Iterator<Item = usize> {
        let place = self.place(row, true);
        place.before.into_iter().chain(place.after)
    }

    /// The rows of the threads that the words fit best.
    fn rows_of_threads<'p>(&'p self, words: &Words) -> impl Iterator<Item = usize> + use<'p> {
        let mut best = Best::new(THREADS_MAX);
        for (thread, score) in words.by_thread.iter().enumerate() {
            if *score > 0.0 {
                best.take(*score, thread);
            }
        }
        let (mut threads, _) = best.finish();
        threads.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        let threads = threads.into_iter().filter_map(|(_, n)| self.threads.get(n));
        let rows = threads.flat_map(|thread| thread.rows.iter().copied());
        rows.take(THREAD_ROWS_MAX)
    }

    /// Compares the rows by all signals of the first pass and keeps the best.
    fn compare(
        &self,
        plan: &Plan<'_>,
        rows: Vec<usize>,
        words: &Words,
        given: &HashMap<usize, f32>,
        n_wanted: usize,
    ) -> Vec<Candidate> {
        let w = plan.weights;
        let own = |row: usize| words.by_row.get(row).copied().unwrap_or(0.0);
        let with_context = |row: &usize| {
            let place = self.place(*row, w.thread > 0.0);
            own(*row)
                + WORDS_BEFORE * place.before.map_or(0.0, own)
                + WORDS_AFTER * place.after.map_or(0.0, own)
        };
        let mut keyword: Vec<f32> = rows.iter().map(with_context).collect();
        scale(&mut keyword, FIRST_KEYWORD * w.keyword);
        let dense = self.dense_of(plan, &rows);
        let asked = Asked::of(plan.text);
        let mut found: Vec<(f32, Candidate)> = Vec::with_capacity(rows.len());
        for (row, (keyword, dense)) in rows.into_iter().zip(keyword.into_iter().zip(dense)) {
            let Some(of_row) = self.rows.get(row) else {
                continue;
            };
            let candidate = Candidate {
                row,
                given: given.get(&row).copied().unwrap_or(0.0),
                is_timely: asked.fits(of_row.occurred_at),
            };
            let of_thread = self.thread_of(row).and_then(|t| words.by_thread.get(t));
            let score = keyword
                + FIRST_DENSE * w.dense * dense
                + FIRST_THREAD * w.thread * of_thread.copied().unwrap_or(0.0)
                + FIRST_GRAPH * w.graph * candidate.given
                + FIRST_TIME * w.time * f32::from(u8::from(candidate.is_timely));
            if score > 0.0 {
                found.push((score, candidate));
            }
        }
        keep_best(&mut found, n_wanted, |a, b| {
            b.0.total_cmp(&a.0).then(b.1.row.cmp(&a.1.row))
        });
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// The likeness of each row to the question, 0..1 over them.
    fn dense_of(&self, plan: &Plan<'_>, rows: &[usize]) -> Vec<f32> {
        let mut dense = vec![0.0; rows.len()];
        if plan.weights.dense <= 0.0 {
            return dense;
        }
        for (query, vectors) in self.spaces(plan) {
            let likeness = |row: &usize| vectors.likeness(query, *row);
            let found: Vec<Option<f32>> = rows.iter().map(likeness).collect();
            let known = || found.iter().copied().flatten();
            let low = known().fold(f32::INFINITY, f32::min);
            let high = known().fold(f32::NEG_INFINITY, f32::max);
            for (dense, likeness) in dense.iter_mut().zip(&found) {
                *dense += likeness.map_or(0.0, |x| spanned(x, low, high));
            }
        }
        dense
    }

    /// Adds what common words give the candidates and their neighbours, and brings all to 0..1.
    fn complete(&self, words: &mut Words, candidates: &[Candidate]) {
        let mut rows: Vec<usize> = candidates
            .iter()
            .flat_map(|candidate| std::iter::once(candidate.row).chain(self.around(candidate.row)))
            .collect();
        rows.sort_unstable();
        rows.dedup();
        if let (Some(keywords), Some(picked)) = (&self.keywords, &words.picked) {
            keywords.add_common(picked, &rows, &mut words.by_row);
        }
        let scores = rows.iter().filter_map(|row| words.by_row.get(*row));
        let most = scores.copied().fold(0.0_f32, f32::max);
        if most > 0.0 {
            for row in &rows {
                if let Some(score) = words.by_row.get_mut(*row) {
                    *score /= most;
                }
            }
        }
    }
}
