//! The first pass over a namespace too large to look at every row: each signal names its best
//! rows, and these are compared by all signals of the first pass.

use std::collections::HashMap;

use super::Partition;
use super::best::Best;
use super::fuse::{
    CANDIDATES_MIN, FIRST_DENSE, FIRST_GRAPH, FIRST_KEYWORD, FIRST_THREAD, FIRST_TIME, Found, Plan,
    WORDS_AFTER, WORDS_BEFORE, keep_best, scale,
};
use super::keywords::{Picked, Sparse};
use super::rank::{Candidate, Scores, Signals};
use super::tokens::Place;
use super::vectors::spanned;
use crate::when::Asked;

/// How many postings are added up for each vector that would be scanned. Words that are in more
/// texts only decide among the rows that rarer words or other signals have found.
const POSTINGS: usize = 2;
/// How many more rows than it names a signal of rarer words looks at for the common ones.
const PROBED: usize = 4;
/// How many more rows each signal names than are wanted where no filter takes any away, and at
/// most.
const OVERSAMPLING: usize = 2;
const OVERSAMPLING_MAX: usize = 10;
/// How many threads name their rows, and how many rows in all.
const THREADS_MAX: usize = 16;
const THREAD_ROWS_MAX: usize = 512;
/// A filter is tried on this many rows.
const SAMPLE: usize = 512;
/// Where fewer of the sample pass than this, the rows that pass are looked at one by one.
const SAMPLE_PASS_MIN: usize = 103;

/// BM25 of the rarer words by row and by thread, and what is left to add for rows that matter.
struct Words {
    rare: Sparse,
    by_thread: Vec<f32>,
    picked: Option<Picked>,
}

impl Partition {
    /// Finds the candidates, or nothing if the namespace is not large.
    pub(super) fn find_in_large(&self, plan: &Plan<'_>, terms: &[String]) -> Option<Found> {
        if self.rows.len() <= self.limits.exact_max {
            return None;
        }
        let words = self.words_of_large(plan, terms);
        let n_wanted = plan.limit.max(CANDIDATES_MIN);
        let named = self.named(plan, &words, n_wanted);
        let mut rows = named.unwrap_or_else(|| self.eligible(plan));
        let given = self.by_relations(plan, rows.iter().map(|row| (*row, words.rare.get(*row))));
        let is_related = |row: &&usize| self.is_eligible_row(plan, **row);
        rows.extend(given.keys().filter(is_related));
        rows.sort_unstable();
        rows.dedup();
        Some(self.compare(plan, &rows, words, &given))
    }

    /// Every row that may be found.
    fn eligible(&self, plan: &Plan<'_>) -> Vec<usize> {
        let rows = 0..self.rows.len();
        rows.filter(|row| self.is_eligible_row(plan, *row))
            .collect()
    }

    /// How many rows there are for each that may be found, or nothing if so few may that all of
    /// them must be looked at.
    fn sparse(&self, plan: &Plan<'_>) -> Option<usize> {
        let step = (self.rows.len() / SAMPLE).max(1);
        let sample = (0..self.rows.len()).step_by(step);
        let n = sample.clone().count();
        let n_pass = sample
            .filter(|row| self.is_eligible_row(plan, *row))
            .count();
        (n_pass >= SAMPLE_PASS_MIN).then(|| n.div_ceil(n_pass.max(1)))
    }

    fn words_of_large(&self, plan: &Plan<'_>, terms: &[String]) -> Words {
        let Some(keywords) = &self.keywords else {
            let by_row = self.words_of_backend(plan);
            return Words {
                by_thread: self.by_thread(None, &by_row),
                rare: Sparse::of_all(&by_row),
                picked: None,
            };
        };
        let picked = keywords.pick(terms, self.limits.exact_max.saturating_mul(POSTINGS));
        let by_thread = if plan.weights.thread > 0.0 {
            self.by_thread(Some(&picked), &[])
        } else {
            Vec::new()
        };
        Words {
            rare: keywords.score_sparse(&picked),
            by_thread,
            picked: Some(picked),
        }
    }

    /// BM25 of all words, of some rising rows.
    fn words_of(&self, words: &Words, rows: &[usize]) -> Sparse {
        match (&self.keywords, &words.picked) {
            (Some(keywords), Some(picked)) => keywords.complete(picked, &words.rare, rows),
            _ => words.rare.of(rows),
        }
    }

    /// The best rows of each signal that may be found, or nothing if a filter leaves too few of
    /// them: then all rows must be looked at.
    fn named(&self, plan: &Plan<'_>, words: &Words, n_wanted: usize) -> Option<Vec<usize>> {
        let sparse = self.sparse(plan)?;
        let n_named = n_wanted * (OVERSAMPLING * sparse).min(OVERSAMPLING_MAX);
        let (mut rows, mut is_cut) = self.named_by_words(words, n_named);
        if plan.weights.thread > 0.0 {
            let near: Vec<usize> = rows.iter().flat_map(|row| self.around(*row)).collect();
            rows.extend(near);
            rows.extend(self.rows_of_threads(words));
        }
        if plan.weights.dense > 0.0 {
            for (query, vectors) in self.spaces(plan) {
                let is_present = plan.vector.is_some_and(|own| std::ptr::eq(own, query));
                if let Some(near) = plan.near.filter(|_| is_present) {
                    let near = self.near_rows(near);
                    let added = near.n_rows..self.rows.len();
                    rows.extend(near.rows.into_iter().chain(added));
                    is_cut = true;
                    continue;
                }
                let is_eligible = |row| self.is_eligible_row(plan, row);
                let limit = self.limits.exact_max;
                let near = vectors.nearest(query, n_wanted, sparse, limit, is_eligible);
                is_cut |= near.is_cut;
                rows.extend(near.rows);
            }
        }
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|row| self.is_eligible_row(plan, *row));
        (!is_cut || rows.len() >= n_wanted).then_some(rows)
    }

    /// The best rows by words, and whether there were more.
    fn named_by_words(&self, words: &Words, n_named: usize) -> (Vec<usize>, bool) {
        let n_probed = match &words.picked {
            Some(picked) if !picked.has_common() => n_named,
            // One word alone hardly tells its rows apart.
            Some(picked) if picked.n_rare() == 1 => usize::MAX / 2,
            _ => n_named * PROBED,
        };
        let (found, is_cut) = words.rare.best(n_probed);
        let mut rows: Vec<usize> = found.into_iter().map(|(_, row)| row).collect();
        if rows.len() <= n_named {
            return (rows, is_cut);
        }
        rows.sort_unstable();
        let (found, is_cut_again) = self.words_of(words, &rows).best(n_named);
        let rows = found.into_iter().map(|(_, row)| row).collect();
        (rows, is_cut || is_cut_again)
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
        rows: &[usize],
        words: Words,
        given: &HashMap<usize, f32>,
    ) -> Found {
        let w = plan.weights;
        let place = |row: &usize| self.place(*row, w.thread > 0.0);
        let places: Vec<Place> = rows.iter().map(place).collect();
        let near = places.iter().flat_map(|place| [place.before, place.after]);
        let mut known: Vec<usize> = rows.iter().copied().chain(near.flatten()).collect();
        known.sort_unstable();
        known.dedup();
        let mut by_row = self.words_of(&words, &known);
        by_row.scale();
        let own = |row: usize| by_row.get(row);
        let with_context = |place: &Place| {
            own(place.row)
                + WORDS_BEFORE * place.before.map_or(0.0, own)
                + WORDS_AFTER * place.after.map_or(0.0, own)
        };
        let mut keyword: Vec<f32> = places.iter().map(with_context).collect();
        scale(&mut keyword, FIRST_KEYWORD * w.keyword);
        let dense = self.dense_of(plan, rows);
        let asked = Asked::of(plan.text);
        let mut found: Vec<(f32, Candidate)> = Vec::with_capacity(rows.len());
        for (row, (keyword, dense)) in rows.iter().zip(keyword.into_iter().zip(dense)) {
            let Some(of_row) = self.rows.get(*row) else {
                continue;
            };
            let candidate = Candidate {
                row: *row,
                given: given.get(row).copied().unwrap_or(0.0),
                is_timely: asked.fits(of_row.occurred_at),
            };
            let of_thread = self.thread_of(*row).and_then(|t| words.by_thread.get(t));
            let score = keyword
                + FIRST_DENSE * w.dense * dense
                + FIRST_THREAD * w.thread * of_thread.copied().unwrap_or(0.0)
                + FIRST_GRAPH * w.graph * candidate.given
                + FIRST_TIME * w.time * f32::from(u8::from(candidate.is_timely));
            if score > 0.0 {
                found.push((score, candidate));
            }
        }
        keep_best(&mut found, plan.limit.max(CANDIDATES_MIN), |a, b| {
            b.0.total_cmp(&a.0).then(b.1.row.cmp(&a.1.row))
        });
        Found {
            candidates: found.into_iter().map(|(_, candidate)| candidate).collect(),
            signals: Signals {
                keyword: Scores::Some(by_row),
                threads: words.by_thread,
            },
        }
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
}
