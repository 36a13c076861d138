//! Sentences that deny or end something, reworded to what they deny.

use super::lexicon::{ADVERBS, LASTING, PERFECT};
use super::words::{Sentence, Word};

/// Words after "not" with which it says what somebody thinks of something.
const LIKING: &[&str] = &[
    "like", "love", "enjoy", "want", "care", "stand", "bear", "abide", "into", "fan",
];

/// Whether a sentence says that something is, or that it is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Is,
    IsNot,
}

/// Rewords a sentence that denies or ends something to what it denies: "I no longer live in Rome"
/// to "I live in Rome". Returns the place where the clause begins in the result.
pub(super) fn reworded(sentence: &Sentence, start: usize) -> (Sentence, Mood, usize) {
    let mut words: Vec<Word> = sentence.words.clone();
    simplify_perfect(&mut words, start);
    let start = denied(&mut words, start);
    let was_denied = start.1;
    let start = start.0;
    let lower =
        |words: &[Word], n: usize| words.get(n).map(|w| w.lower.clone()).unwrap_or_default();
    let clause_end = (start..words.len())
        .find(|n| matches!(lower(&words, *n).as_str(), "," | "but" | "because"))
        .unwrap_or(words.len());
    let find = |words: &[Word], first: &str, second: &[&str]| {
        (start..clause_end.saturating_sub(1))
            .find(|n| lower(words, *n) == first && second.contains(&lower(words, *n + 1).as_str()))
    };
    let is_about_liking = |words: &[Word], n: usize| LIKING.contains(&lower(words, n + 1).as_str());
    if let Some(n) = find(&words, "no", &["longer", "more"]) {
        words.drain(n..n + 2);
        return (with(sentence, words), Mood::IsNot, start);
    }
    // "I can't stand it any more" is no end of standing it that matters: it is disliked.
    let is_bearing = find(&words, "not", &["stand", "bear", "abide"]).is_some();
    let any_more = find(&words, "any", &["more", "longer"]);
    if let Some(n) = any_more {
        words.drain(n..n + 2);
    }
    let not = (start..clause_end.min(words.len())).find(|n| lower(&words, *n) == "not");
    if let Some(n) = not
        && (any_more.is_some() && !is_bearing
            || !is_about_liking(&words, n)
                && !matches!(
                    lower(&words, n + 1).as_str(),
                    "a" | "much" | "into" | "keen" | "for"
                ))
    {
        let is_helper = matches!(
            lower(&words, n.saturating_sub(1)).as_str(),
            "do" | "does" | "did"
        );
        let from = if is_helper && n > start { n - 1 } else { n };
        words.drain(from..=n);
        return (with(sentence, words), Mood::IsNot, start);
    }
    let mood = if was_denied { Mood::IsNot } else { Mood::Is };
    (with(sentence, words), mood, start)
}

/// Brings the perfect to the past that the rules are written in.
fn simplify_perfect(words: &mut Vec<Word>, start: usize) {
    let mut n = start;
    while n < words.len() {
        let is_helper = matches!(words.get(n).map(|w| w.lower.as_str()), Some("have" | "has"));
        let verb = (n + 1..words.len()).find(|at| {
            words
                .get(*at)
                .is_some_and(|w| !ADVERBS.contains(&w.lower.as_str()))
        });
        if let Some(word) = verb.filter(|_| is_helper).and_then(|at| words.get_mut(at)) {
            let past = PERFECT
                .iter()
                .find(|(participle, _)| *participle == word.lower);
            let is_regular = word.lower.len() > 3
                && word.lower.ends_with("ed")
                && !LASTING.contains(&word.lower.as_str());
            if let Some((_, past)) = past {
                (*past).clone_into(&mut word.lower);
            }
            if past.is_some() || is_regular {
                words.remove(n);
                continue;
            }
        }
        n += 1;
    }
}

/// Takes "it is not true that", "forget that" and "... is not true" off.
fn denied(words: &mut Vec<Word>, start: usize) -> (usize, bool) {
    let lower: Vec<String> = words.iter().map(|word| word.lower.clone()).collect();
    let rest: Vec<&str> = lower.iter().skip(start).map(String::as_str).collect();
    for opening in [
        &["it", "is", "not", "true", "any", "more", "that"][..],
        &["it", "is", "no", "longer", "true", "that"],
        &["it", "is", "not", "true", "that"],
        &["please", "forget", "that"],
        &["please", "forget", "what", "i", "said", "about"],
        &["you", "can", "forget", "that"],
        &["forget", "what", "i", "said", "about"],
        &["forget", "that"],
        &["ignore", "that"],
    ] {
        if rest.starts_with(opening) && rest.len() > opening.len() + 1 {
            return (start + opening.len(), true);
        }
    }
    for ending in [
        &["is", "not", "true", "any", "more"][..],
        &["is", "no", "longer", "true"],
        &["is", "no", "longer", "the", "case"],
        &["is", "not", "true"],
        &["is", "out", "of", "date"],
        &["is", "outdated"],
        &["is", "wrong"],
    ] {
        let n = rest
            .windows(ending.len())
            .position(|window| window == ending);
        if let Some(n) = n.filter(|n| *n > 1 && rest.first() == Some(&"that")) {
            words.truncate(start + n);
            return (start + 1, true);
        }
    }
    (start, false)
}

fn with(sentence: &Sentence, words: Vec<Word>) -> Sentence {
    Sentence {
        text: sentence.text.clone(),
        words,
        is_question: false,
    }
}
