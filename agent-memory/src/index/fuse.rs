//! The search over one namespace: every signal as one number per row, brought to a common scale
//! and added up. Ranks are not fused: a weak signal's ranks would drag a strong one's down.

use std::cmp::Ordering;
use std::collections::HashMap;

use agent_core::Timestamp;

use super::best::Best;
use super::numbers::from_count;
use super::rank::{Candidate, Scores, Signals};
use super::vectors::NearRows;
use super::{Partition, Quantized};
use crate::as_of::View;
use crate::memory::MemoryId;
use crate::query::{Explanation, Filter, Weights};
use crate::relation::Node;
use crate::terms::{for_each_term, query_terms};
use crate::when::Asked;

/// What the words of the thread's neighbours add to a row's own, before and after it.
pub(super) const WORDS_BEFORE: f32 = 0.3;
pub(super) const WORDS_AFTER: f32 = 0.2;
/// The factors of the first pass: it must not lose what the second would put in front.
pub(super) const FIRST_KEYWORD: f32 = 0.8;
pub(super) const FIRST_DENSE: f32 = 0.4;
pub(super) const FIRST_THREAD: f32 = 0.4;
pub(super) const FIRST_GRAPH: f32 = 0.1;
pub(super) const FIRST_TIME: f32 = 0.3;
/// How many rows the second pass ranks at least: of the texts that answer a question of LoCoMo,
/// these hold 98.7 %.
pub(super) const CANDIDATES_MIN: usize = 300;
/// How many of the best rows pass their score on along relations.
const SPREAD_FROM: usize = 64;
/// The most words of a question that are looked at for names.
const NAME_WORDS_MAX: usize = 512;

/// A search over one namespace.
pub(crate) struct Plan<'a> {
    pub(crate) text: &'a str,
    pub(crate) vector: Option<&'a Quantized>,
    /// The same in the space of the former embedder.
    pub(crate) former: Option<&'a Quantized>,
    pub(crate) filter: &'a Filter,
    pub(crate) weights: &'a Weights,
    pub(crate) limit: usize,
    pub(crate) now: Timestamp,
    /// Which versions are seen.
    pub(crate) view: View,
    pub(crate) is_with_quarantined: bool,
    /// The nearest memories by the backend's own index of vectors, where it has one.
    pub(crate) near: Option<&'a Near>,
    /// BM25 by row number of the backend, where the index holds no words.
    pub(crate) words: Option<Vec<(i64, f32)>>,
}

/// What the first pass found.
pub(super) struct Found {
    pub(super) candidates: Vec<Candidate>,
    pub(super) signals: Signals,
}

/// What a backend's own index of vectors found.
#[derive(Debug)]
pub(crate) struct Near {
    /// The numbers of the nearest memories.
    pub(crate) seqs: Vec<i64>,
    /// The number of the last memory it knows.
    pub(crate) last_seq: i64,
}

/// A row that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    pub(crate) seq: i64,
    pub(crate) id: MemoryId,
    pub(crate) score: f32,
    pub(crate) explanation: Explanation,
}

impl Scored {
    /// The better first; of equal ones the one added later.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(other.seq.cmp(&self.seq))
    }
}

impl Partition {
    /// Finds the best rows, best first: the whole namespace by cheap signals, then the best of
    /// those by all.
    pub(crate) fn search(&self, plan: &Plan<'_>) -> Vec<Scored> {
        let terms = query_terms(plan.text);
        let found = self.find_in_large(plan, &terms);
        let found = found.unwrap_or_else(|| self.find_in_all(plan, &terms));
        let explanations = self.rank(plan, &found.candidates, &found.signals);
        let rows = found.candidates.iter().map(|c| c.row);
        self.best(plan, rows.zip(explanations).collect())
    }

    /// Finds the candidates by looking at every row.
    fn find_in_all(&self, plan: &Plan<'_>, terms: &[String]) -> Found {
        let eligible: Vec<bool> = (0..self.rows.len())
            .map(|row| self.is_eligible_row(plan, row))
            .collect();
        let w = plan.weights;
        let picked = self.keywords.as_ref().map(|k| k.pick(terms, usize::MAX));
        let mut keyword = match (&self.keywords, &picked) {
            (Some(keywords), Some(picked)) => keywords.score(picked, self.rows.len()),
            _ => self.words_of_backend(plan),
        };
        let mut first = self.with_context(&keyword, w.thread);
        scale(&mut keyword, 1.0);
        scale(&mut first, FIRST_KEYWORD * w.keyword);
        if w.dense > 0.0 {
            for (query, vectors) in self.spaces(plan) {
                let dense = vectors.score(query, &eligible);
                for (first, dense) in first.iter_mut().zip(dense) {
                    *first += FIRST_DENSE * w.dense * dense;
                }
            }
        }
        let threads = if w.thread > 0.0 {
            self.by_thread(picked.as_ref(), &keyword)
        } else {
            Vec::new()
        };
        let given = self.by_relations(plan, first.iter().copied().enumerate());
        let signals = Signals {
            keyword: Scores::All(keyword),
            threads,
        };
        Found {
            candidates: self.candidates(plan, &eligible, first, &signals, &given),
            signals,
        }
    }

    /// Whether a row may be found.
    pub(super) fn is_eligible_row(&self, plan: &Plan<'_>, n: usize) -> bool {
        self.rows.get(n).is_some_and(|row| {
            self.is_eligible((n, row), plan.filter, plan.view, plan.is_with_quarantined)
        })
    }

    /// Rows are in the order of their numbers.
    pub(super) fn near_rows(&self, near: &Near) -> NearRows {
        let row = |seq: &i64| self.rows.binary_search_by_key(seq, |row| row.seq).ok();
        NearRows {
            rows: near.seqs.iter().filter_map(row).collect(),
            n_rows: self.rows.partition_point(|row| row.seq <= near.last_seq),
        }
    }

    /// The rows that are ranked by all signals.
    fn candidates(
        &self,
        plan: &Plan<'_>,
        eligible: &[bool],
        first: Vec<f32>,
        signals: &Signals,
        given: &HashMap<usize, f32>,
    ) -> Vec<Candidate> {
        let w = plan.weights;
        let asked = Asked::of(plan.text);
        let given = |n: usize| given.get(&n).copied().unwrap_or(0.0);
        let is_timely = |n: usize| self.rows.get(n).is_some_and(|r| asked.fits(r.occurred_at));
        let mut best = Best::new(plan.limit.max(CANDIDATES_MIN));
        for (n, (is_eligible, first)) in eligible.iter().zip(first).enumerate() {
            if !is_eligible {
                continue;
            }
            let of_thread = self
                .thread_of(n)
                .and_then(|thread| signals.threads.get(thread));
            let timely = f32::from(u8::from(is_timely(n)));
            let score = first
                + FIRST_THREAD * w.thread * of_thread.copied().unwrap_or(0.0)
                + FIRST_GRAPH * w.graph * given(n)
                + FIRST_TIME * w.time * timely;
            if score > 0.0 {
                best.take(score, n);
            }
        }
        let candidate = |(_, row): (f32, usize)| Candidate {
            row,
            given: given(row),
            is_timely: is_timely(row),
        };
        best.finish().0.into_iter().map(candidate).collect()
    }

    /// BM25 by row as the backend's own index gives it.
    pub(super) fn words_of_backend(&self, plan: &Plan<'_>) -> Vec<f32> {
        let mut scores = vec![0.0; self.rows.len()];
        for (seq, score) in plan.words.iter().flatten() {
            let row = self.rows.binary_search_by_key(seq, |row| row.seq);
            if let Some(place) = row.ok().and_then(|row| scores.get_mut(row)) {
                *place = *score;
            }
        }
        scores
    }

    /// Adds what the words of the neighbours in the thread give as context.
    fn with_context(&self, own: &[f32], weight: f32) -> Vec<f32> {
        let mut all = own.to_vec();
        if weight > 0.0 {
            self.spread_in_threads(own, &mut all, [WORDS_BEFORE, WORDS_AFTER]);
        }
        all
    }

    /// Adds each row's value to its neighbours in the thread: `factors` are for what the row takes
    /// from the one before and from the one after it.
    fn spread_in_threads(&self, from: &[f32], to: &mut [f32], factors: [f32; 2]) {
        let [before, after] = factors;
        for thread in &self.threads {
            for pair in thread.rows.windows(2) {
                let [a, b] = pair else { continue };
                let (a_value, b_value) = (from.get(*a), from.get(*b));
                if let (Some(value), Some(sum)) = (a_value, to.get_mut(*b)) {
                    *sum += before * value;
                }
                if let (Some(value), Some(sum)) = (b_value, to.get_mut(*a)) {
                    *sum += after * value;
                }
            }
        }
    }

    /// What entities named in the question and relations to other good rows give, by row.
    pub(super) fn by_relations(
        &self,
        plan: &Plan<'_>,
        base: impl Iterator<Item = (usize, f32)>,
    ) -> HashMap<usize, f32> {
        if self.graph.is_empty() || plan.weights.graph <= 0.0 {
            return HashMap::new();
        }
        let mut words = Vec::new();
        for_each_term(plan.text, |word| {
            if words.len() < NAME_WORDS_MAX {
                words.push(word.to_owned());
            }
        });
        let mut given: HashMap<usize, f32> = HashMap::new();
        let mut give = |id: MemoryId, amount: f32| {
            if let Some(row) = self.by_id.get(&id) {
                let most = given.entry(*row).or_insert(0.0);
                *most = most.max(amount);
            }
        };
        let named = self.graph.named_in(&words);
        for entity in &named {
            for (id, weight) in self.graph.around(entity, plan.view) {
                give(id, weight / from_count(named.len()));
            }
        }
        let mut best: Vec<(usize, f32)> = base.collect();
        best.retain(|(row, score)| *score > 0.0 && self.rows.get(*row).is_some_and(|r| r.is_alive));
        keep_best(&mut best, SPREAD_FROM, |a, b| {
            b.1.total_cmp(&a.1).then(b.0.cmp(&a.0))
        });
        for (row, score) in best {
            let Some(row) = self.rows.get(row) else {
                continue;
            };
            for (id, weight) in self.graph.around(&Node::Memory(row.id), plan.view) {
                give(id, weight * score);
            }
        }
        given
    }

    fn best(&self, plan: &Plan<'_>, found: Vec<(usize, Explanation)>) -> Vec<Scored> {
        let mut scored: Vec<Scored> = Vec::with_capacity(found.len());
        for (row, mut explanation) in found {
            // Age or length alone is no answer to a question.
            if explanation.total() - explanation.brevity <= 0.0 {
                continue;
            }
            let Some(row) = self.rows.get(row) else {
                continue;
            };
            explanation.recency = recency(plan, row.occurred_at);
            scored.push(Scored {
                seq: row.seq,
                id: row.id,
                score: explanation.total(),
                explanation,
            });
        }
        keep_best(&mut scored, plan.limit, Scored::order);
        scored
    }
}

fn recency(plan: &Plan<'_>, occurred_at: Timestamp) -> f32 {
    if plan.weights.recency <= 0.0 {
        return 0.0;
    }
    let age = plan.now.since(occurred_at).as_secs_f32();
    let half_life = plan.weights.half_life.as_secs_f32().max(1.0);
    plan.weights.recency * (-age / half_life).exp2()
}

/// Brings scores to 0..1 by their maximum, times a weight.
pub(super) fn scale(scores: &mut [f32], weight: f32) {
    let most = scores.iter().copied().fold(0.0_f32, f32::max);
    if most > 0.0 {
        scores.iter_mut().for_each(|score| *score *= weight / most);
    }
}

/// Sorts the first `n` items in front and drops the rest.
pub(super) fn keep_best<T>(items: &mut Vec<T>, n: usize, order: impl Fn(&T, &T) -> Ordering) {
    if items.len() > n && n > 0 {
        items.select_nth_unstable_by(n - 1, &order);
    }
    items.truncate(n);
    items.sort_unstable_by(order);
}
