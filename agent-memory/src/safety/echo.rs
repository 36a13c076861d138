//! The guard against recall loops: text that came out of memory and is offered to it again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use agent_core::Scope;
use parking_lot::Mutex;

use crate::namespace::Namespace;
use crate::terms::for_each_term;

/// How many recalled texts of a namespace are known: some hundred searches.
const TEXTS_MAX: usize = 4_096;
/// How many namespaces are: those used last.
const PLACES_MAX: usize = 256;
/// The fewest words of a text that can be told from everyday speech.
const WORDS_MIN: usize = 4;
/// How many words of an offered text may be of its own: "I remember that", "as noted".
const OWN_WORDS_MAX: usize = 4;
/// The longest run of words compared.
const WORDS_MAX: usize = 2_000;

/// Texts that came out of recall lately, by their words.
#[derive(Debug, Default)]
pub struct Echo {
    places: Mutex<Places>,
}

type Place = (Arc<str>, Namespace);

#[derive(Debug, Default)]
struct Places {
    texts: HashMap<Place, Texts>,
    order: VecDeque<Place>,
}

#[derive(Debug, Default)]
struct Texts {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Echo {
    /// Creates a guard that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a text that came out of recall. Texts of fewer than four words are not: people
    /// say them all the time.
    pub fn heard(&self, scope: &Scope, at: &Namespace, text: &str) {
        let words = words(text);
        if words.len() < WORDS_MIN {
            return;
        }
        let place = (Arc::clone(&scope.tenant), at.clone());
        let mut places = self.places.lock();
        if !places.texts.contains_key(&place) {
            if places.order.len() >= PLACES_MAX
                && let Some(oldest) = places.order.pop_front()
            {
                places.texts.remove(&oldest);
            }
            places.order.push_back(place.clone());
        }
        let texts = places.texts.entry(place).or_default();
        let text = words.join(" ");
        if texts.known.insert(text.clone()) {
            texts.order.push_back(text);
            if texts.order.len() > TEXTS_MAX
                && let Some(oldest) = texts.order.pop_front()
            {
                texts.known.remove(&oldest);
            }
        }
    }

    /// Returns whether a text only repeats what came out of recall in the namespace: the same words
    /// but for case, marks and forms, with at most four words around them.
    #[must_use]
    pub fn is_echo(&self, scope: &Scope, at: &Namespace, text: &str) -> bool {
        let words = words(text);
        let place = (Arc::clone(&scope.tenant), at.clone());
        let places = self.places.lock();
        let Some(texts) = places.texts.get(&place) else {
            return false;
        };
        let n_own = OWN_WORDS_MAX.min(words.len().saturating_sub(WORDS_MIN));
        (0..=n_own).any(|n_before| {
            (0..=n_own - n_before).any(|n_after| {
                let core = words.get(n_before..words.len().saturating_sub(n_after));
                core.is_some_and(|core| texts.known.contains(&core.join(" ")))
            })
        })
    }
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for_each_term(text, |term| {
        if words.len() < WORDS_MAX {
            words.push(term.to_owned());
        }
    });
    words
}
