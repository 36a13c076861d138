//! BM25 over postings in main memory. FTS5 ranks every match of an OR query row by row, which
//! takes milliseconds from a few thousand rows on; adding up postings takes microseconds.

mod score;
mod sparse;

use std::collections::{BTreeMap, HashMap};

use super::numbers::number;
use crate::terms::for_each_term;

pub(super) use score::Picked;
pub(super) use sparse::Sparse;

/// The rows that have a word, rising, and how often each has it; 255 stands for more as well,
/// which BM25 cannot tell apart.
#[derive(Default)]
pub(super) struct List {
    pub(super) rows: Vec<u32>,
    pub(super) counts: Vec<u8>,
}

impl List {
    /// Removes some rising rows, all of which have the word.
    fn remove(&mut self, rows: &[u32]) {
        let Some(first) = rows.first() else { return };
        let first = self.rows.partition_point(|row| row < first);
        let (mut kept, mut gone) = (first, rows.iter().peekable());
        for place in first..self.rows.len() {
            let row = self.rows.get(place);
            if gone.next_if(|next| Some(*next) == row).is_none() {
                self.rows.swap(kept, place);
                self.counts.swap(kept, place);
                kept += 1;
            }
        }
        self.rows.truncate(kept);
        self.counts.truncate(kept);
    }
}

#[derive(Default)]
pub(super) struct Keywords {
    pub(super) ids: HashMap<Box<str>, u32>,
    /// By term.
    pub(super) lists: Vec<List>,
    /// The distinct terms of all texts, text by text.
    pub(super) terms: Vec<u32>,
    /// By row: where the distinct terms of its text start.
    pub(super) starts: Vec<usize>,
    /// By row: how many words its text has.
    pub(super) lengths: Vec<u32>,
    pub(super) n_texts: usize,
    pub(super) length_total: usize,
}

impl Keywords {
    /// Adds the text of a row; rows come in rising order.
    pub(super) fn insert(&mut self, row: usize, text: &str) {
        // FTS5 counts the word that names the namespace too.
        let mut length = 1;
        self.starts.resize(row, self.terms.len());
        self.starts.push(self.terms.len());
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
        self.lengths.resize(row, 0);
        self.lengths.push(number(length));
        self.n_texts += 1;
        self.length_total += length;
    }

    /// Removes the texts of some rising rows, and words that no other text has.
    pub(super) fn erase(&mut self, rows: &[usize]) {
        let mut gone: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for row in rows {
            let Some(length) = self.lengths.get_mut(*row).map(std::mem::take) else {
                continue;
            };
            self.n_texts = self.n_texts.saturating_sub(1);
            self.length_total = self.length_total.saturating_sub(length as usize);
            let start = self.starts.get(*row).copied().unwrap_or(usize::MAX);
            let end = self.starts.get(*row + 1).copied();
            let terms = start..end.unwrap_or(self.terms.len());
            for term in self.terms.get_mut(terms).into_iter().flatten() {
                gone.entry(*term).or_default().push(number(*row));
                *term = 0;
            }
        }
        let mut is_any_gone = false;
        for (term, rows) in gone {
            if let Some(list) = self.lists.get_mut(term as usize) {
                list.remove(&rows);
                is_any_gone |= list.rows.is_empty();
            }
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
        self.lengths.get(row).map(|length| *length as usize)
    }
}
