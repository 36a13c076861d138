//! BM25: what the words of a question give rows and groups of rows.

use super::sparse::{Sparse, seek};
use super::{Keywords, List};
use crate::index::numbers::from_count;

/// Saturation of a repeated word and weight of a text's length, as in FTS5.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// The least weight of a word that most texts have, as in FTS5.
const IDF_MIN: f32 = 1e-6;

/// Words of a question: those that are looked up in full, and those too common for it, the rarer
/// first.
pub(in crate::index) struct Picked {
    rare: Vec<usize>,
    common: Vec<usize>,
}

impl Picked {
    pub(in crate::index) const fn n_rare(&self) -> usize {
        self.rare.len()
    }

    pub(in crate::index) const fn has_common(&self) -> bool {
        !self.common.is_empty()
    }
}

/// One word's part of BM25.
struct Word<'k> {
    list: &'k List,
    lengths: &'k [u32],
    idf: f32,
    length_mean: f32,
}

impl Word<'_> {
    fn score(&self, row: u32, count: u8) -> f32 {
        let length = self.lengths.get(row as usize).copied().unwrap_or(0);
        self.idf * saturated(usize::from(count), length as usize, self.length_mean)
    }

    fn postings(&self) -> impl Iterator<Item = (u32, f32)> {
        let postings = self.list.rows.iter().zip(&self.list.counts);
        postings.map(|(row, count)| (*row, self.score(*row, *count)))
    }
}

impl Keywords {
    /// Takes the rarest of the words as long as their postings are at most `postings_max` in all,
    /// one word at least.
    pub(in crate::index) fn pick(&self, terms: &[String], postings_max: usize) -> Picked {
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

    fn words<'k>(&'k self, ids: &[usize]) -> impl Iterator<Item = Word<'k>> {
        let length_mean = from_count(self.length_total) / from_count(self.n_texts.max(1));
        let lists = ids.iter().filter_map(|id| self.lists.get(*id));
        lists.map(move |list| Word {
            list,
            lengths: &self.lengths,
            idf: idf(self.n_texts, list.rows.len()),
            length_mean,
        })
    }

    /// Adds up BM25 by group of rows, each group taken as one text of the length given for it.
    pub(in crate::index) fn score_groups(
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
        let mut counts = vec![0_u32; lengths.len()];
        let mut touched: Vec<usize> = Vec::new();
        for list in picked.rare.iter().filter_map(|id| self.lists.get(*id)) {
            for (row, n) in list.rows.iter().zip(&list.counts) {
                let Some(group) = group_of(*row as usize) else {
                    continue;
                };
                if let Some(count) = counts.get_mut(group) {
                    if *count == 0 {
                        touched.push(group);
                    }
                    *count += u32::from(*n);
                }
            }
            let idf = idf(n_texts, touched.len());
            for group in touched.drain(..) {
                let length = lengths.get(group).copied().unwrap_or(0);
                let count = counts.get_mut(group).map(std::mem::take);
                if let (Some(score), Some(count)) = (scores.get_mut(group), count) {
                    *score += idf * saturated(count as usize, length as usize, length_mean);
                }
            }
        }
        scores
    }

    /// Adds up BM25 of the rarer words by row.
    pub(in crate::index) fn score(&self, picked: &Picked, n_rows: usize) -> Vec<f32> {
        let mut scores = vec![0.0_f32; n_rows];
        for word in self.words(&picked.rare) {
            for (row, score) in word.postings() {
                if let Some(sum) = scores.get_mut(row as usize) {
                    *sum += score;
                }
            }
        }
        scores
    }

    /// The same, of the rows alone that have one of the words.
    pub(in crate::index) fn score_sparse(&self, picked: &Picked) -> Sparse {
        let mut scores = Sparse::default();
        for word in self.words(&picked.rare) {
            scores.merge(word.postings(), word.list.rows.len());
        }
        scores
    }

    /// BM25 of all words, of some rising rows. `rare` is what the rarer words give.
    pub(in crate::index) fn complete(
        &self,
        picked: &Picked,
        rare: &Sparse,
        rows: &[usize],
    ) -> Sparse {
        let mut scores = rare.of(rows);
        for word in self.words(&picked.common) {
            let mut place = 0;
            for (row, score) in scores.iter_mut() {
                place = seek(&word.list.rows, place, row);
                if word.list.rows.get(place) == Some(&row) {
                    let count = word.list.counts.get(place).copied().unwrap_or(0);
                    *score += word.score(row, count);
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
