//! BM25 over postings in main memory. FTS5 ranks every match of an OR query row by row, which
//! takes milliseconds from a few thousand rows on; adding up postings takes microseconds.

use std::collections::HashMap;

use super::numbers::{from_count, number};
use crate::terms::for_each_term;

/// Saturation of a repeated word and weight of a text's length, as in FTS5.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// The least weight of a word that most texts have, as in FTS5.
const IDF_MIN: f32 = 1e-6;

/// The rows that have a word, rising, and how often each has it; 255 stands for more as well,
/// which BM25 cannot tell apart.
#[derive(Default)]
pub(super) struct List {
    pub(super) rows: Vec<u32>,
    pub(super) counts: Vec<u8>,
}

impl List {
    fn postings(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.rows.iter().map(|row| *row as usize);
        rows.zip(self.counts.iter().map(|count| usize::from(*count)))
    }

    fn count(&self, row: usize) -> Option<usize> {
        let place = self.rows.binary_search(&number(row)).ok()?;
        self.counts.get(place).map(|count| usize::from(*count))
    }

    fn remove(&mut self, row: usize) {
        if let Ok(place) = self.rows.binary_search(&number(row)) {
            self.rows.remove(place);
            self.counts.remove(place);
        }
    }
}

/// A row's text: where its distinct words are, how many, and how many words there are in all.
#[derive(Clone, Copy, Default)]
pub(super) struct Text {
    pub(super) start: usize,
    pub(super) n_terms: u32,
    pub(super) length: u32,
}

impl Text {
    fn terms(self) -> std::ops::Range<usize> {
        self.start..self.start + self.n_terms as usize
    }
}

#[derive(Default)]
pub(super) struct Keywords {
    pub(super) ids: HashMap<Box<str>, u32>,
    /// By term.
    pub(super) lists: Vec<List>,
    /// The distinct terms of all texts, text by text.
    pub(super) terms: Vec<u32>,
    /// By row.
    pub(super) texts: Vec<Text>,
    pub(super) n_texts: usize,
    pub(super) length_total: usize,
}

/// Words of a question: those that are looked up in full, and those too common for it.
pub(super) struct Picked {
    rare: Vec<usize>,
    pub(super) common: Vec<usize>,
}

impl Keywords {
    /// Adds the text of a row; rows come in rising order.
    pub(super) fn insert(&mut self, row: usize, text: &str) {
        // FTS5 counts the word that names the namespace too.
        let mut length = 1;
        let start = self.terms.len();
        for_each_term(text, |term| {
            length += 1;
            let id = match self.ids.get(term) {
                Some(id) => *id,
                None => {
                    let id = number(self.lists.len());
                    self.ids.insert(term.into(), id);
                    self.lists.push(List::default());
                    id
                }
            };
            let Some(list) = self.lists.get_mut(id as usize) else {
                return;
            };
            if list.rows.last() == Some(&number(row)) {
                if let Some(count) = list.counts.last_mut() {
                    *count = count.saturating_add(1);
                }
            } else {
                list.rows.push(number(row));
                list.counts.push(1);
                self.terms.push(id);
            }
        });
        self.texts.resize_with(row, Default::default);
        self.texts.push(Text {
            start,
            n_terms: number(self.terms.len() - start),
            length: number(length),
        });
        self.n_texts += 1;
        self.length_total += length;
    }

    /// Removes a row's text, and words that no other text has.
    pub(super) fn erase(&mut self, row: usize) {
        let Some(text) = self.texts.get_mut(row).map(std::mem::take) else {
            return;
        };
        self.n_texts = self.n_texts.saturating_sub(1);
        self.length_total = self.length_total.saturating_sub(text.length as usize);
        let mut is_any_gone = false;
        for term in self.terms.get_mut(text.terms()).into_iter().flatten() {
            if let Some(list) = self.lists.get_mut(*term as usize) {
                list.remove(row);
                is_any_gone |= list.rows.is_empty();
            }
            *term = 0;
        }
        if is_any_gone {
            let lists = &self.lists;
            self.ids.retain(|_, id| {
                let list = lists.get(*id as usize);
                list.is_some_and(|list| !list.rows.is_empty())
            });
        }
    }

    /// The number of words of a row's text.
    pub(super) fn length(&self, row: usize) -> Option<usize> {
        self.texts.get(row).map(|text| text.length as usize)
    }

    /// Takes the rarest of the words as long as their postings are at most `postings_max` in all,
    /// one word at least.
    pub(super) fn pick(&self, terms: &[String], postings_max: usize) -> Picked {
        let known = terms.iter().filter_map(|term| self.ids.get(&**term));
        let mut known: Vec<(usize, usize)> = known
            .filter_map(|id| Some((self.lists.get(*id as usize)?.rows.len(), *id as usize)))
            .collect();
        known.sort_unstable();
        let mut sum = 0_usize;
        let n_rare = known.iter().take_while(|(n, _)| {
            sum = sum.saturating_add(*n);
            sum <= postings_max
        });
        let n_rare = n_rare.count().max(1).min(known.len());
        let common = known.split_off(n_rare);
        let ids = |of: Vec<(usize, usize)>| of.into_iter().map(|(_, id)| id).collect();
        Picked {
            rare: ids(known),
            common: ids(common),
        }
    }

    /// Adds up BM25 by group of rows, each group taken as one text of the length given for it.
    pub(super) fn score_groups(
        &self,
        picked: &Picked,
        lengths: &[u32],
        group_of: impl Fn(usize) -> Option<usize>,
    ) -> Vec<f32> {
        let mut scores = vec![0.0_f32; lengths.len()];
        let n_texts = lengths.iter().filter(|length| **length > 0).count();
        if n_texts == 0 {
            return scores;
        }
        let total: usize = lengths.iter().map(|length| *length as usize).sum();
        let length_mean = from_count(total) / from_count(n_texts);
        let mut counts = vec![0_usize; lengths.len()];
        let mut touched: Vec<usize> = Vec::new();
        for list in picked.rare.iter().filter_map(|id| self.lists.get(*id)) {
            for (row, n) in list.postings() {
                let Some(group) = group_of(row) else { continue };
                if let Some(count) = counts.get_mut(group) {
                    if *count == 0 {
                        touched.push(group);
                    }
                    *count += n;
                }
            }
            let idf = idf(n_texts, touched.len());
            for group in touched.drain(..) {
                let length = lengths.get(group).copied().unwrap_or(0);
                let count = counts.get_mut(group).map(std::mem::take);
                if let (Some(score), Some(count)) = (scores.get_mut(group), count) {
                    *score += idf * saturated(count, length as usize, length_mean);
                }
            }
        }
        scores
    }

    /// Adds up BM25 of the rarer words by row.
    pub(super) fn score(&self, picked: &Picked, n_rows: usize) -> Vec<f32> {
        let mut scores = vec![0.0_f32; n_rows];
        let length_mean = self.length_mean();
        for list in picked.rare.iter().filter_map(|id| self.lists.get(*id)) {
            let idf = idf(self.n_texts, list.rows.len());
            for (row, count) in list.postings() {
                let length = self.texts.get(row).map_or(0, |text| text.length as usize);
                if let Some(score) = scores.get_mut(row) {
                    *score += idf * saturated(count, length, length_mean);
                }
            }
        }
        scores
    }

    /// Adds BM25 of the commoner words to the scores of some rows.
    pub(super) fn add_common(&self, picked: &Picked, rows: &[usize], scores: &mut [f32]) {
        let length_mean = self.length_mean();
        for list in picked.common.iter().filter_map(|id| self.lists.get(*id)) {
            let idf = idf(self.n_texts, list.rows.len());
            for row in rows {
                let Some(count) = list.count(*row) else {
                    continue;
                };
                let length = self.texts.get(*row).map_or(0, |text| text.length as usize);
                if let Some(score) = scores.get_mut(*row) {
                    *score += idf * saturated(count, length, length_mean);
                }
            }
        }
    }

    fn length_mean(&self) -> f32 {
        from_count(self.length_total) / from_count(self.n_texts.max(1))
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
