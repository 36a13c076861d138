//! Late interaction: every token of a question against the token of a text that is most like it.
//! It finds what other words say ("job" for "work") where one vector for the whole text is too
//! coarse, and is dear enough to be kept for the candidates of the first pass.

use std::collections::HashMap;
use std::sync::Arc;

use agent_core::TokenVectors;

use super::numbers::number;
use crate::terms::without_stop_words;

/// The most distinct tokens of a text that count: a long message has fewer.
const TEXT_TOKENS_MAX: usize = 256;
/// The most distinct tokens of a question that count.
const QUESTION_TOKENS_MAX: usize = 32;
/// What a likeness found in the text before, and in the one after, counts.
const BEFORE: f32 = 0.7;
const AFTER: f32 = 0.5;

/// The tokens of a namespace's rows.
pub(super) struct Tokens {
    vectors: Arc<dyn TokenVectors>,
    /// Those of all rows, row by row.
    pub(super) all: Vec<u32>,
    /// By row: where its tokens start, and how many there are.
    pub(super) rows: Vec<(usize, u32)>,
}

/// A row and its neighbours in the thread.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) before: Option<usize>,
    pub(super) after: Option<usize>,
}

impl Tokens {
    pub(super) const fn new(vectors: Arc<dyn TokenVectors>) -> Self {
        Self {
            vectors,
            all: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds the text of the next row.
    pub(super) fn push(&mut self, text: &str) {
        let tokens = self.vectors.tokens(text, TEXT_TOKENS_MAX);
        self.rows.push((self.all.len(), number(tokens.len())));
        self.all.extend(tokens);
    }

    fn of(&self, row: usize) -> &[u32] {
        let (start, n) = self.rows.get(row).copied().unwrap_or_default();
        let tokens = self.all.get(start..start + n as usize);
        tokens.unwrap_or_default()
    }

    pub(super) fn erase(&mut self, row: usize) {
        let Some((start, n)) = self.rows.get_mut(row).map(std::mem::take) else {
            return;
        };
        if let Some(tokens) = self.all.get_mut(start..start + n as usize) {
            tokens.fill(0);
        }
    }

    /// How well each place answers the question, from 0 to 1.
    pub(super) fn score(&self, question: &str, places: &[Place]) -> Vec<f32> {
        let asked = self
            .vectors
            .tokens(&without_stop_words(question), QUESTION_TOKENS_MAX);
        let weights: Vec<f32> = asked.iter().map(|t| self.vectors.weight(*t)).collect();
        let total: f32 = weights.iter().sum();
        if total <= 0.0 {
            return vec![0.0; places.len()];
        }
        let mut best = Best {
            tokens: self,
            asked: &asked,
            alike: HashMap::new(),
            by_row: HashMap::new(),
        };
        let score = |place: &Place| {
            let own = best.of(place.row);
            let before = place.before.map(|row| best.of(row)).unwrap_or_default();
            let after = place.after.map(|row| best.of(row)).unwrap_or_default();
            let at = |of: &[f32], n: usize| of.get(n).copied().unwrap_or(0.0);
            let sum: f32 = (0..)
                .zip(&weights)
                .map(|(n, weight)| {
                    let near = (BEFORE * at(&before, n)).max(AFTER * at(&after, n));
                    let found = at(&own, n).max(near);
                    weight * found * found
                })
                .sum();
            sum / total
        };
        places.iter().map(score).collect()
    }
}

/// The best likenesses of one search, each worked out once.
struct Best<'t> {
    tokens: &'t Tokens,
    asked: &'t [u32],
    /// By token of a text, to each token of the question.
    alike: HashMap<u32, Box<[f32]>>,
    by_row: HashMap<usize, Arc<[f32]>>,
}

impl Best<'_> {
    /// For each token of the question, how much the row's most alike token is like it, at least 0.
    fn of(&mut self, row: usize) -> Arc<[f32]> {
        if let Some(known) = self.by_row.get(&row) {
            return Arc::clone(known);
        }
        let mut best = vec![0.0_f32; self.asked.len()];
        for token in self.tokens.of(row) {
            let alike = self.alike.entry(*token).or_insert_with(|| {
                let vectors = &self.tokens.vectors;
                let likeness = |asked: &u32| vectors.likeness(*asked, *token);
                self.asked.iter().map(likeness).collect()
            });
            for (best, alike) in best.iter_mut().zip(alike.iter()) {
                *best = best.max(*alike);
            }
        }
        let best: Arc<[f32]> = best.into();
        self.by_row.insert(row, Arc::clone(&best));
        best
    }
}
