//! BM25 over postings in main memory. FTS5 ranks every match of an OR query row by row, which
//! takes milliseconds from a few thousand rows on; adding up postings takes microseconds.

use std::collections::{BTreeMap, HashMap};

use super::numbers::from_count;
use crate::terms::for_each_term;

/// Saturation of a repeated word and weight of a text's length, as in FTS5.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// The least weight of a word that most texts have, as in FTS5.
const IDF_MIN: f32 = 1e-6;

#[derive(Clone, Copy)]
struct Posting {
    row: usize,
    count: usize,
}

#[derive(Default)]
pub(super) struct Keywords {
    ids: HashMap<Box<str>, usize>,
    /// By term, ordered by row.
    postings: Vec<Vec<Posting>>,
    /// By row: its distinct terms and its length.
    texts: Vec<(Box<[usize]>, usize)>,
    n_texts: usize,
    length_total: usize,
}

impl Keywords {
    /// Adds the text of a row; rows come in rising order.
    pub(super) fn insert(&mut self, row: usize, text: &str) {
        // FTS5 counts the word that names the namespace too.
        let mut length = 1;
        let mut terms: Vec<usize> = Vec::new();
        for_each_term(text, |term| {
            length += 1;
            let id = match self.ids.get(term) {
                Some(id) => *id,
                None => {
                    self.ids.insert(term.into(), self.postings.len());
                    self.postings.push(Vec::new());
                    self.postings.len() - 1
                }
            };
            let Some(list) = self.postings.get_mut(id) else {
                return;
            };
            match list.last_mut() {
                Some(last) if last.row == row => last.count += 1,
                _ => {
                    list.push(Posting { row, count: 1 });
                    terms.push(id);
                }
            }
        });
        self.texts.resize_with(row, Default::default);
        self.texts.push((terms.into_boxed_slice(), length));
        self.n_texts += 1;
        self.length_total += length;
    }

    /// Removes a row's text, and words that no other text has.
    pub(super) fn erase(&mut self, row: usize) {
        let Some(text) = self.texts.get_mut(row) else {
            return;
        };
        let (terms, length) = std::mem::take(text);
        self.n_texts = self.n_texts.saturating_sub(1);
        self.length_total = self.length_total.saturating_sub(length);
        let mut is_any_gone = false;
        for term in &terms {
            if let Some(list) = self.postings.get_mut(*term) {
                list.retain(|posting| posting.row != row);
                is_any_gone |= list.is_empty();
            }
        }
        if is_any_gone {
            let postings = &self.postings;
            self.ids
                .retain(|_, id| postings.get(*id).is_some_and(|list| !list.is_empty()));
        }
    }

    /// The number of words of a row's text.
    pub(super) fn length(&self, row: usize) -> Option<usize> {
        self.texts.get(row).map(|text| text.1)
    }

    /// Adds up BM25 by group of rows, each group taken as one text.
    pub(super) fn score_groups(
        &self,
        terms: &[String],
        n_groups: usize,
        group_of: impl Fn(usize) -> Option<usize>,
    ) -> Vec<f32> {
        let mut scores = vec![0.0_f32; n_groups];
        let mut lengths = vec![0_usize; n_groups];
        for (row, (_, length)) in self.texts.iter().enumerate() {
            if let Some(sum) = group_of(row).and_then(|group| lengths.get_mut(group)) {
                *sum += length;
            }
        }
        let n_texts = lengths.iter().filter(|length| **length > 0).count();
        if n_texts == 0 {
            return scores;
        }
        let length_mean = from_count(lengths.iter().sum()) / from_count(n_texts);
        for term in terms {
            let Some(list) = self.ids.get(&**term).and_then(|id| self.postings.get(*id)) else {
                continue;
            };
            let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
            for posting in list {
                if let Some(group) = group_of(posting.row) {
                    *counts.entry(group).or_default() += posting.count;
                }
            }
            let idf = idf(n_texts, counts.len());
            for (group, count) in counts {
                let length = lengths.get(group).copied().unwrap_or(0);
                if let Some(score) = scores.get_mut(group) {
                    *score += idf * saturated(count, length, length_mean);
                }
            }
        }
        scores
    }

    /// Adds up BM25 by row.
    pub(super) fn score(&self, terms: &[String], n_rows: usize) -> Vec<f32> {
        let mut scores = vec![0.0_f32; n_rows];
        if self.n_texts == 0 {
            return scores;
        }
        let length_mean = from_count(self.length_total) / from_count(self.n_texts);
        for term in terms {
            let Some(list) = self.ids.get(&**term).and_then(|id| self.postings.get(*id)) else {
                continue;
            };
            let idf = idf(self.n_texts, list.len());
            for posting in list {
                let length = self.texts.get(posting.row).map_or(0, |text| text.1);
                if let Some(score) = scores.get_mut(posting.row) {
                    *score += idf * saturated(posting.count, length, length_mean);
                }
            }
        }
        scores
    }
}

/// How much a word tells that `n_with` of `n_texts` have.
fn idf(n_texts: usize, n_with: usize) -> f32 {
    let (n_texts, n_with) = (from_count(n_texts), from_count(n_with));
    let idf = ((n_texts - n_with + 0.5) / (n_with + 0.5)).ln();
    if idf > 0.0 { idf } else { IDF_MIN }
}

/// What `count` of a word in a text of `length` words count.
fn saturated(count: usize, length: usize, length_mean: f32) -> f32 {
    let count = from_count(count);
    let norm = K1 * (1.0 - B + B * from_count(length) / length_mean);
    count * (K1 + 1.0) / (count + norm)
}
