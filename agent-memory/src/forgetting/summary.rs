//! A summary without a model: the sentences whose words most of the episodes share.

use std::collections::{BTreeMap, BTreeSet};

use super::Consolidation;
use crate::memory::Memory;
use crate::terms::{for_each_term, query_terms};

/// The longest summary in bytes, about 150 tokens.
const BYTES_MAX: usize = 600;
/// The longest sentence that is taken.
const SENTENCE_BYTES_MAX: usize = 240;

/// Summarises episodes of a thread, given in the order they happened.
pub(super) fn summarize(thread: &str, episodes: &[&Memory]) -> Option<Consolidation> {
    let first = episodes.first()?;
    let sentences: Vec<&str> = episodes
        .iter()
        .flat_map(|memory| memory.text.split_inclusive(['.', '!', '?', '\n']))
        .map(str::trim)
        .filter(|sentence| (12..=SENTENCE_BYTES_MAX).contains(&sentence.len()))
        .collect();
    let mut n_by_term: BTreeMap<String, usize> = BTreeMap::new();
    for memory in episodes {
        for term in terms(&memory.text) {
            *n_by_term.entry(term).or_default() += 1;
        }
    }
    let weight = |sentence: &str| -> usize {
        let telling: BTreeSet<String> = query_terms(sentence).into_iter().collect();
        let shared = telling.iter().filter_map(|term| n_by_term.get(term));
        shared.sum::<usize>() * 100 / (telling.len() + 4)
    };
    let mut ranked: Vec<(usize, usize)> = sentences
        .iter()
        .enumerate()
        .map(|(n, sentence)| (weight(sentence), n))
        .collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let (mut chosen, mut n_bytes) = (BTreeSet::new(), 0);
    let mut seen = BTreeSet::new();
    for (_, n) in ranked {
        let sentence = sentences.get(n).copied().unwrap_or_default();
        if n_bytes + sentence.len() <= BYTES_MAX && seen.insert(terms(sentence)) {
            n_bytes += sentence.len();
            chosen.insert(n);
        }
    }
    let kept: Vec<&str> = chosen
        .iter()
        .filter_map(|n| sentences.get(*n).copied())
        .collect();
    let text = format!("{} episodes. {}", episodes.len(), kept.join(" "));
    Some(Consolidation {
        thread: thread.to_owned(),
        episodes: episodes.iter().map(|memory| memory.id).collect(),
        text,
        from: first.occurred_at,
    })
}

fn terms(text: &str) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    for_each_term(text, |term| {
        terms.insert(term.to_owned());
    });
    terms
}
