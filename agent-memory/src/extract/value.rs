//! Where a value ends, and what it is without what surrounds it.

use super::lexicon::STOPS;
use super::words::Sentence;
use crate::when::Named;

/// The longest value in words.
const VALUE_WORDS_MAX: usize = 12;

/// Words that begin another clause after "and".
const CLAUSE_STARTS: &[&str] = &[
    "i", "we", "he", "she", "they", "it", "my", "our", "am", "have", "has", "work", "works",
    "live", "lives", "love", "loves", "like", "likes", "hate", "hates", "moved", "started", "play",
    "plays", "speak", "speaks", "drive", "drives", "study", "studies", "joined", "there", "you",
    "that", "prefer", "prefers", "enjoy", "enjoys", "then", "got", "became", "use", "uses",
];

/// Words a phrase about something liked or done may hold, that end other values.
const LOOSE: &[&str] = &["at", "for", "with", "to", "over", "by", "and", "or", "from"];

/// How a value is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// A name, a place, a number.
    Tight,
    /// Several of those: commas and "and" may stand between them.
    List,
    /// What somebody likes or does, which may hold prepositions.
    Loose,
}

/// The end of the value that begins at `first`, exclusive.
pub(super) fn end(sentence: &Sentence, dates: &[Named], first: usize, bound: Bound) -> usize {
    let words = &sentence.words;
    let mut n = first;
    while let Some(word) = words.get(n) {
        let lower = word.lower.as_str();
        let before_date = n > first && dates.iter().any(|date| date.first == n);
        let is_stop = n > first && STOPS.contains(&lower) && !is_allowed(bound, lower);
        let is_other_clause = matches!(lower, "and" | "or" | ",")
            && words
                .get(n + 1)
                .is_some_and(|next| CLAUSE_STARTS.contains(&next.lower.as_str()));
        let is_mark = word.is_mark() && lower != "," && lower != "\u{20ac}" && lower != "\u{a3}";
        let is_comma = lower == "," && bound == Bound::Tight;
        if before_date
            || is_stop
            || is_other_clause
            || is_mark
            || is_comma
            || n - first >= VALUE_WORDS_MAX
        {
            break;
        }
        n += 1;
    }
    while n > first + 1 && words.get(n - 1).is_some_and(is_trailing) {
        n -= 1;
    }
    n
}

fn is_allowed(bound: Bound, word: &str) -> bool {
    match bound {
        Bound::Tight => false,
        Bound::List => matches!(word, "and" | "or"),
        Bound::Loose => LOOSE.contains(&word),
    }
}

fn is_trailing(word: &super::words::Word) -> bool {
    word.is_mark()
        || matches!(
            word.lower.as_str(),
            "any"
                | "in"
                | "on"
                | "since"
                | "of"
                | "myself"
                | "a"
                | "the"
                | "not"
                | "no"
                | "last"
                | "next"
        )
}

/// The value as it was written, without an article before it. None if nothing is left, or only a
/// word that stands for something else.
pub(super) fn text(sentence: &Sentence, first: usize, end: usize) -> Option<String> {
    let mut first = first;
    while first < end
        && sentence.words.get(first).is_some_and(|word| {
            matches!(
                word.lower.as_str(),
                "a" | "an" | "the" | "my" | "our" | "some"
            )
        })
    {
        first += 1;
    }
    let value = sentence.between(first, end).trim();
    let is_pronoun = matches!(
        value.to_lowercase().as_str(),
        "" | "it"
            | "this"
            | "that"
            | "them"
            | "you"
            | "there"
            | "here"
            | "him"
            | "her"
            | "one"
            | "so"
            | "not"
            | "me"
            | "us"
            | "what"
            | "how"
            | "something"
            | "anything"
            | "nothing"
            | "everything"
            | "great"
            | "good"
            | "fine"
            | "nice"
            | "ok"
            | "okay"
            | "well"
            | "done"
            | "ready"
            | "home"
            | "work"
    );
    (!is_pronoun && value.len() <= 256).then(|| value.to_owned())
}

/// The parts of a list: "English, French and Dutch".
pub(super) fn parts(value: &str) -> Vec<String> {
    let value = value.replace(", and ", ", ").replace(" and ", ", ");
    let part = |part: &str| {
        let part = part.trim();
        let part = part
            .strip_prefix("a ")
            .or(part.strip_prefix("the "))
            .unwrap_or(part);
        (!part.is_empty()).then(|| part.to_owned())
    };
    value.split(',').filter_map(part).collect()
}

/// What a preference is about: "tea over coffee" is about tea; a list of single things is taken
/// apart, a phrase is not.
pub(super) fn parts_of_preference(value: &str) -> Vec<String> {
    let lower = value.to_lowercase();
    let cut = [" over ", " to ", " rather than ", " more than "]
        .iter()
        .filter(|word| !(**word == " to " && lower.starts_with("to ")))
        .filter_map(|word| lower.find(word))
        .min();
    let value = cut.and_then(|n| value.get(..n)).unwrap_or(value);
    let value = value.strip_prefix("to ").unwrap_or(value);
    if value.contains(',') {
        parts(value)
    } else {
        vec![value.to_owned()]
    }
}
