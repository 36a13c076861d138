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
/// Numbers compared at a time.
const LANES: usize = 8;

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
        let mut weights: Vec<f32> = asked.iter().map(|t| self.vectors.weight(*t)).collect();
        let total: f32 = weights.iter().sum();
        if total <= 0.0 {
            return vec![0.0; places.len()];
        }
        let mut best = Best::new(self, &asked);
        weights.resize(best.width, 0.0);
        let score = |place: &Place| {
            let own = best.of(Some(place.row));
            let near = [best.of(place.before), best.of(place.after)];
            let [own, before, after] = [own, near[0], near[1]].map(|of| best.at(of));
            let mut sum = 0.0;
            for (((weight, own), before), after) in weights.iter().zip(own).zip(before).zip(after) {
                let found = larger(*own, larger(BEFORE * before, AFTER * after));
                sum += weight * found * found;
            }
            sum / total
        };
        places.iter().map(score).collect()
    }
}

/// The best likenesses of one search, each worked out once, in parts of whole [`LANES`].
struct Best<'t> {
    tokens: &'t Tokens,
    asked: &'t [u32],
    width: usize,
    /// By token of a text: which part of `alike` it has, counted from one; 0 for none yet.
    part_of: Vec<u32>,
    /// How much a token is like each token of the question.
    alike: Vec<f32>,
    /// Which part of `best` a row has.
    by_row: HashMap<usize, usize>,
    /// How much a row's most alike token is like each token of the question, at least 0; the first
    /// part is that of no row.
    best: Vec<f32>,
}

impl<'t> Best<'t> {
    fn new(tokens: &'t Tokens, asked: &'t [u32]) -> Self {
        let width = asked.len().next_multiple_of(LANES);
        Self {
            tokens,
            asked,
            width,
            part_of: vec![0; tokens.vectors.n_tokens()],
            alike: Vec::new(),
            by_row: HashMap::new(),
            best: vec![0.0; width],
        }
    }

    fn at(&self, part: usize) -> &[f32] {
        let start = part * self.width;
        let part = self.best.get(start..start + self.width);
        part.unwrap_or_default()
    }

    /// The part of a row.
    fn of(&mut self, row: Option<usize>) -> usize {
        let Some(row) = row else { return 0 };
        if let Some(known) = self.by_row.get(&row) {
            return *known;
        }
        let start = self.best.len();
        self.best.resize(start + self.width, 0.0);
        for token in self.tokens.of(row) {
            let alike = self.alike(*token);
            let (Some(best), Some(alike)) = (
                self.best.get_mut(start..),
                self.alike.get(alike..alike + self.width),
            ) else {
                continue;
            };
            let best = best.chunks_exact_mut(LANES);
            for (best, alike) in best.zip(alike.chunks_exact(LANES)) {
                for (best, alike) in best.iter_mut().zip(alike) {
                    *best = larger(*best, *alike);
                }
            }
        }
        let part = start / self.width;
        self.by_row.insert(row, part);
        part
    }

    /// Where a token's likenesses start.
    fn alike(&mut self, token: u32) -> usize {
        let Some(part) = self.part_of.get_mut(token as usize) else {
            // Tokens come from the same table: there are none beyond it.
            return usize::MAX - self.width;
        };
        if *part > 0 {
            return (*part as usize - 1) * self.width;
        }
        let start = self.alike.len();
        let vectors = &self.tokens.vectors;
        let likeness = |asked: &u32| vectors.likeness(*asked, token);
        self.alike.extend(self.asked.iter().map(likeness));
        self.alike.resize(start + self.width, 0.0);
        *part = number(self.alike.len() / self.width);
        start
    }
}

/// The larger of two numbers; unlike [`f32::max`] a single instruction.
const fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
