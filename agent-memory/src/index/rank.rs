//! The second pass of a search: the candidates of the first, ranked by a linear model.
//!
//! The factors are those of a logistic regression on dialogues (five conversations of LoCoMo, the
//! score of each measured with factors fitted on the other four), rounded to two digits. They say
//! what a signal is worth next to the others; [`Weights`](crate::Weights) scale them.

use super::keywords::{Picked, Sparse};
use super::numbers::from_count;
use super::tokens::Place;
use super::{Partition, Thread, fuse::Plan};
use crate::query::Explanation;

/// BM25, as a share of the best match in the namespace.
const KEYWORD: f32 = 1.7;
/// The same of the text that follows.
const KEYWORD_AFTER: f32 = 1.0;
/// Likeness of the text and its neighbours to the question, 0..1 over the candidates.
const DENSE: f32 = 3.9;
/// Late interaction.
const TOKENS: f32 = 7.5;
/// BM25 of the whole thread, as a share of the best thread.
const THREAD: f32 = 2.3;
/// A text that follows a matching question.
const ANSWER: f32 = 3.3;
/// A text that asks tells little.
const QUESTION: f32 = -1.0;
/// What entities named in the question give.
const GRAPH: f32 = 1.0;
/// Having happened when the question says.
const TIME: f32 = 2.4;
/// How many rows stand for a thread whose words are not indexed here.
const THREAD_BEST: usize = 3;
/// Half as long a text, for the room it leaves in the reader's context. Chosen, not fitted: at this
/// price ten turns of LoCoMo take 400 word pieces, and 450 for nothing.
const BREVITY: f32 = 0.6;
/// The longest text, in words, that is worth something for being short, and the shortest that is
/// worth more than a longer one.
const BRIEF_MAX: usize = 128;
const BRIEF_MIN: usize = 8;
/// The least difference of likeness that is a difference between 0 and 1: among a few candidates
/// the least like may be nearly as like as the most.
const SPAN_MIN: f32 = 0.5;
/// The factors that differ without late interaction.
const KEYWORD_ALONE: f32 = 3.3;
const DENSE_ALONE: f32 = 4.3;

/// What the first pass knows of a candidate.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) row: usize,
    /// What relations give.
    pub(super) given: f32,
    /// Whether it happened when the question says.
    pub(super) is_timely: bool,
}

/// Signals of the first pass by row, and by thread.
pub(super) struct Signals {
    /// BM25, the best being 1.
    pub(super) keyword: Scores,
    /// BM25 of whole threads, the best being 1.
    pub(super) threads: Vec<f32>,
}

/// A score by row.
pub(super) enum Scores {
    /// Of every row.
    All(Vec<f32>),
    /// Of the candidates and their neighbours.
    Some(Sparse),
}

impl Scores {
    fn get(&self, row: usize) -> f32 {
        match self {
            Self::All(scores) => scores.get(row).copied().unwrap_or(0.0),
            Self::Some(scores) => scores.get(row),
        }
    }
}

impl Partition {
    /// What each signal gives each candidate.
    pub(super) fn rank(
        &self,
        plan: &Plan<'_>,
        candidates: &[Candidate],
        signals: &Signals,
    ) -> Vec<Explanation> {
        let w = plan.weights;
        let places: Vec<Place> = candidates
            .iter()
            .map(|candidate| self.place(candidate.row, w.thread > 0.0))
            .collect();
        let dense = self.near(plan, &places);
        let (tokens, keyword_factor, dense_factor) = match &self.tokens {
            Some(tokens) if w.dense > 0.0 => (tokens.score(plan.text, &places), KEYWORD, DENSE),
            _ => (vec![0.0; places.len()], KEYWORD_ALONE, DENSE_ALONE),
        };
        let keyword = |row: usize| signals.keyword.get(row);
        let explain =
            |((candidate, place), (dense, tokens)): ((&Candidate, &Place), (f32, f32))| {
                let after = place.after.map_or(0.0, keyword);
                let answers = place.before.filter(|row| self.is_question(*row));
                let of_thread = self
                    .thread_of(candidate.row)
                    .and_then(|thread| signals.threads.get(thread))
                    .copied()
                    .unwrap_or(0.0);
                let question = f32::from(u8::from(self.is_question(candidate.row)));
                Explanation {
                    keyword: w.keyword
                        * (keyword_factor * keyword(candidate.row) + KEYWORD_AFTER * after),
                    dense: w.dense * dense_factor * dense,
                    tokens: w.dense * TOKENS * tokens,
                    thread: w.thread
                        * (THREAD * of_thread
                            + ANSWER * answers.map_or(0.0, keyword)
                            + QUESTION * question),
                    graph: w.graph * GRAPH * candidate.given,
                    time: w.time * TIME * f32::from(u8::from(candidate.is_timely)),
                    brevity: w.brevity * BREVITY * self.brevity(candidate.row),
                    recency: 0.0,
                }
            };
        candidates
            .iter()
            .zip(&places)
            .zip(dense.into_iter().zip(tokens))
            .map(explain)
            .collect()
    }

    /// How often a text could be doubled before it is long.
    fn brevity(&self, row: usize) -> f32 {
        let length = self.keywords.as_ref().and_then(|words| words.length(row));
        length.map_or(0.0, |n| {
            let n = n.clamp(BRIEF_MIN, BRIEF_MAX);
            (from_count(BRIEF_MAX) / from_count(n)).log2()
        })
    }

    fn is_question(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|row| row.is_question)
    }

    /// A row with its neighbours in the thread.
    pub(super) fn place(&self, row: usize, with_neighbours: bool) -> Place {
        let alone = Place {
            row,
            before: None,
            after: None,
        };
        let thread = self.thread_of(row);
        let Some(thread) = thread.and_then(|thread| self.threads.get(thread)) else {
            return alone;
        };
        match thread.rows.binary_search(&row) {
            Ok(n) if with_neighbours => Place {
                row,
                before: n.checked_sub(1).and_then(|n| thread.rows.get(n)).copied(),
                after: thread.rows.get(n + 1).copied(),
            },
            _ => alone,
        }
    }

    /// The likeness of each place to the question, 0..1 over all places of the same space.
    fn near(&self, plan: &Plan<'_>, places: &[Place]) -> Vec<f32> {
        let mut near = vec![0.0; places.len()];
        if plan.weights.dense <= 0.0 {
            return near;
        }
        for (query, vectors) in self.spaces(plan) {
            let windows = places.iter().map(|place| vectors.window(query, place));
            for (near, found) in near.iter_mut().zip(spread(windows.collect())) {
                *near += found;
            }
        }
        near
    }

    /// BM25 of every thread, as if it were one text, the best being 1. Where words are not indexed
    /// here, the best rows of a thread stand for it.
    pub(super) fn by_thread(&self, picked: Option<&Picked>, by_row: &[f32]) -> Vec<f32> {
        let mut scores = match (&self.keywords, picked) {
            (Some(keywords), Some(picked)) => {
                keywords.score_groups(picked, &self.thread_words, |row| self.thread_of(row))
            }
            _ => self.threads.iter().map(|t| best_of(t, by_row)).collect(),
        };
        let most = scores.iter().copied().fold(0.0_f32, f32::max);
        if most > 0.0 {
            scores.iter_mut().for_each(|score| *score /= most);
        }
        scores
    }
}

/// Brings likenesses to 0..1; 0 for those that are absent.
fn spread(found: Vec<Option<f32>>) -> Vec<f32> {
    let known = || found.iter().copied().flatten();
    let (low, high) = known().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    });
    let scaled = |likeness: f32| {
        if high > low {
            (likeness - low) / (high - low).max(SPAN_MIN)
        } else {
            // A single candidate has no span: it counts by its own likeness.
            likeness.clamp(0.0, 1.0)
        }
    };
    found.into_iter().map(|x| x.map_or(0.0, scaled)).collect()
}

/// The sum of a thread's best rows.
fn best_of(thread: &Thread, by_row: &[f32]) -> f32 {
    let mut best = [0.0_f32; THREAD_BEST];
    for row in &thread.rows {
        let mut value = by_row.get(*row).copied().unwrap_or(0.0);
        for place in &mut best {
            if value > *place {
                std::mem::swap(place, &mut value);
            }
        }
    }
    best.iter().sum()
}
