//! Fitting a rule's pattern to the words of a clause.

use super::lexicon::ADVERBS;
use super::normalized;
use super::value::{self, Bound};
use super::words::{Sentence, Word};
use crate::when::Named;

/// The most words of an attribute or name, and of a value with something behind it.
const NAME_WORDS_MAX: usize = 3;
const INNER_WORDS_MAX: usize = 6;
/// The most words of a value before its verb.
const LEADING_WORDS_MAX: usize = 4;
/// The fewest digits of a number to be called at.
const DIGITS_MIN: usize = 5;

/// Capital words that begin a sentence and name nobody.
const NO_NAMES: &[&str] = &[
    "the",
    "a",
    "an",
    "this",
    "that",
    "these",
    "those",
    "it",
    "he",
    "she",
    "they",
    "you",
    "we",
    "i",
    "my",
    "our",
    "your",
    "his",
    "her",
    "their",
    "there",
    "here",
    "what",
    "who",
    "when",
    "where",
    "how",
    "why",
    "is",
    "are",
    "do",
    "does",
    "did",
    "and",
    "but",
    "so",
    "if",
    "not",
    "no",
    "yes",
    "please",
    "everyone",
    "someone",
    "nobody",
    "people",
    "today",
    "yesterday",
    "tomorrow",
    "now",
];

/// What a pattern took from a sentence.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    pub(super) subject: Option<String>,
    pub(super) attribute: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) values: Vec<(usize, usize)>,
}

/// A clause that patterns are fitted to.
pub(super) struct Matcher<'a> {
    pub(super) speaker: &'a str,
    pub(super) clause: &'a Sentence,
    pub(super) dates: &'a [Named],
    pub(super) bound: Bound,
}

impl Matcher<'_> {
    fn lower(&self, n: usize) -> &str {
        self.clause
            .words
            .get(n)
            .map_or("", |word| word.lower.as_str())
    }

    /// Fits the rest of a pattern to the words from `n`.
    pub(super) fn fit(&self, parts: &[&str], n: usize, taken: Taken) -> Option<Taken> {
        let Some((part, rest)) = parts.split_first() else {
            return Some(taken);
        };
        match *part {
            "S" => self.subject(n).into_iter().find_map(|(subject, end)| {
                let taken = Taken {
                    subject: Some(subject),
                    ..taken.clone()
                };
                self.fit(rest, end, taken)
            }),
            // With nothing behind it an attribute is as long as it can be.
            "A" if rest.is_empty() => (1..=NAME_WORDS_MAX).rev().find_map(|length| {
                let attribute = Some(self.name(n, length)?);
                Some(Taken {
                    attribute,
                    ..taken.clone()
                })
            }),
            "A" | "N" => (1..=NAME_WORDS_MAX).find_map(|length| {
                let name = self.name(n, length)?;
                let mut taken = taken.clone();
                if *part == "A" {
                    taken.attribute = Some(name);
                } else {
                    taken.owner = Some(name);
                }
                self.fit(rest, n + length, taken)
            }),
            "V" if rest.is_empty() => {
                let end = value::end(self.clause, self.dates, n, self.bound);
                let mut taken = taken;
                taken.values.push((n, end));
                (end > n).then_some(taken)
            }
            "V" => (1..=INNER_WORDS_MAX).find_map(|length| {
                let mut taken = taken.clone();
                taken.values.push((n, n + length));
                self.fit(rest, n + length, taken)
            }),
            "P" if rest.is_empty() => (1..=LEADING_WORDS_MAX).rev().find_map(|length| {
                let mut taken = taken.clone();
                taken.values.push((n, n + length));
                self.leads(n, length, true).then_some(taken)
            }),
            "W" | "P" => (1..=LEADING_WORDS_MAX).find_map(|length| {
                if !self.leads(n, length, *part == "P") {
                    return None;
                }
                let mut taken = taken.clone();
                taken.values.push((n, n + length));
                self.fit(rest, n + length, taken)
            }),
            "D" => {
                let digits = self.lower(n).chars().filter(char::is_ascii_digit);
                let mut taken = taken;
                taken.values.push((n, n + 1));
                let is_number = digits.count() >= DIGITS_MIN;
                is_number.then(|| self.fit(rest, n + 1, taken))?
            }
            literal => self.literal(literal, rest, n, taken),
        }
    }

    fn literal(&self, part: &str, rest: &[&str], n: usize, taken: Taken) -> Option<Taken> {
        let (is_optional, choice) = match part.strip_prefix('?') {
            Some(choice) => (true, choice),
            None => (false, part),
        };
        let skipped = n
            + (n..)
                .take_while(|n| ADVERBS.contains(&self.lower(*n)) || self.lower(*n) == "now")
                .count();
        for at in [n, skipped] {
            if choice.split('|').any(|word| word == self.lower(at))
                && let Some(taken) = self.fit(rest, at + 1, taken.clone())
            {
                return Some(taken);
            }
            if skipped == n {
                break;
            }
        }
        if is_optional {
            self.fit(rest, n, taken)
        } else {
            None
        }
    }

    /// Who may be the subject at a word, and where it ends.
    fn subject(&self, n: usize) -> Vec<(String, usize)> {
        let speaker = self.speaker;
        if matches!(self.lower(n), "i" | "we") {
            return vec![(speaker.to_owned(), n + 1)];
        }
        let is_name = |n: usize| {
            let word = self.clause.words.get(n);
            word.is_some_and(|word| word.is_capital && !NO_NAMES.contains(&word.lower.as_str()))
        };
        let mut found = Vec::new();
        if matches!(self.lower(n), "my" | "our") {
            for length in 1..=2 {
                let name = self.name(n + 1, length);
                found.extend(name.map(|name| (format!("{speaker}'s {name}"), n + 1 + length)));
            }
        } else if is_name(n) {
            found.push((normalized(self.clause.between(n, n + 1)), n + 1));
            if is_name(n + 1) {
                found.push((normalized(self.clause.between(n, n + 2)), n + 2));
            }
        }
        found
    }

    /// Whether so many words may be a value that stands before its verb: no marks and no words that
    /// stand for something else, and names only, if asked for.
    fn leads(&self, n: usize, length: usize, is_name: bool) -> bool {
        let words = self.clause.words.get(n..n + length);
        words.is_some_and(|words| {
            words.iter().all(|word| {
                !word.is_mark()
                    && !NO_NAMES.contains(&word.lower.as_str())
                    && (word.is_capital || !is_name)
            })
        })
    }

    /// A name of that many plain words.
    fn name(&self, n: usize, length: usize) -> Option<String> {
        let words = self.clause.words.get(n..n + length)?;
        let is_plain = |word: &Word| {
            !word.is_mark()
                && !matches!(
                    word.lower.as_str(),
                    "is" | "are"
                        | "was"
                        | "am"
                        | "i"
                        | "my"
                        | "the"
                        | "a"
                        | "an"
                        | "and"
                        | "to"
                        | "from"
                        | "not"
                        | "of"
                        | "for"
                        | "in"
                        | "has"
                        | "have"
                        | "it"
                        | "that"
                        | "now"
                        | "changed"
                        | "moved"
                        | "got"
                )
        };
        let is_name = words.iter().all(is_plain);
        is_name.then(|| {
            normalized(
                &words
                    .iter()
                    .map(|w| w.lower.as_str())
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        })
    }
}
