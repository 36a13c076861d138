//! What dates say about claims: from when they hold, and which sentences tell an episode or a
//! procedure.

use super::words::Sentence;
use super::{Candidate, Claim, Utterance};
use crate::memory::Kind;
use crate::when::Named;
use agent_core::Timestamp;

/// The longest note in words.
const NOTE_WORDS_MAX: usize = 60;
/// The most entities of a claim.
const ENTITIES_MAX: usize = 16;

/// Verbs in the past that tell what happened, beside those in "-ed".
const PAST: &[&str] = &[
    "ate", "bought", "broke", "built", "came", "caught", "did", "drove", "fell", "flew", "found",
    "gave", "got", "had", "heard", "held", "left", "lost", "made", "met", "paid", "ran", "read",
    "rode", "said", "sang", "saw", "sent", "sold", "spent", "spoke", "stood", "swam", "taught",
    "told", "took", "was", "went", "were", "won", "wrote",
];

/// From when a claim of the sentence holds: from a date it names with a change or with "since",
/// otherwise from when it was said.
pub(super) fn holds_from(said_at: Timestamp, sentence: &Sentence, dates: &[Named]) -> Timestamp {
    let lower = sentence.lower();
    let is_change = lower.iter().any(|word| {
        matches!(
            *word,
            "moved"
                | "joined"
                | "started"
                | "became"
                | "since"
                | "relocated"
                | "began"
                | "switched"
                | "changed"
                | "moving"
                | "left"
                | "quit"
                | "bought"
                | "adopted"
                | "turned"
                | "took"
        )
    });
    match dates {
        [date] if is_change => date.interval.from,
        _ => said_at,
    }
}

/// The names in a sentence: runs of capital words behind its first word, and the speaker.
pub(super) fn entities(speaker: &str, sentence: &Sentence) -> Vec<String> {
    let mut found = vec![speaker.to_owned()];
    let mut n = 1;
    while n < sentence.words.len() && found.len() < ENTITIES_MAX {
        let run = sentence
            .words
            .iter()
            .skip(n)
            .take_while(|word| {
                word.is_capital && word.lower != "i" && !word.lower.starts_with("i'")
            })
            .count();
        if run > 0 {
            let name = sentence.between(n, n + run).to_owned();
            if name != "I" && !name.is_empty() && name.len() <= 128 && !found.contains(&name) {
                found.push(name);
            }
        }
        n += run.max(1);
    }
    found
}

/// An episode with a date, or a procedure.
pub(super) fn note(said: &Utterance, sentence: &Sentence, dates: &[Named]) -> Option<Candidate> {
    if sentence.words.len() > NOTE_WORDS_MAX {
        return None;
    }
    let lower = sentence.lower();
    let at = said.said_at;
    if is_procedure(&lower) {
        return Some(Candidate::new(Claim::Note, "", at).of_kind(Kind::Procedure));
    }
    let date = dates.first()?;
    let is_past = lower
        .iter()
        .any(|word| PAST.binary_search(word).is_ok() || word.len() > 4 && word.ends_with("ed"));
    let has_somebody = lower
        .iter()
        .any(|word| matches!(*word, "i" | "we" | "my" | "our"))
        || sentence.words.first().is_some_and(|word| word.is_capital);
    let is_told = is_past && has_somebody && lower.len() >= 4 && date.interval.from <= at;
    is_told.then(|| Candidate::new(Claim::Note, "", at).valid(date.interval.from, None))
}

/// "To deploy, run make", "when the build fails, clear the cache", "always run the tests first".
fn is_procedure(lower: &[&str]) -> bool {
    let has_comma = lower.contains(&",");
    match lower {
        ["to", verb, ..] => has_comma && verb.len() > 2 && lower.len() >= 6,
        ["when" | "whenever" | "before" | "after", ..] => {
            let after = lower
                .iter()
                .position(|word| *word == ",")
                .and_then(|n| lower.get(n + 1));
            lower.len() >= 6
                && after.is_some_and(|word| {
                    !matches!(
                        *word,
                        "i" | "we" | "he" | "she" | "it" | "they" | "my" | "the" | "there"
                    )
                })
        }
        ["always" | "never", verb, ..] => lower.len() >= 4 && verb.len() > 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_verbs_are_sorted_for_the_search() {
        assert!(PAST.is_sorted());
    }
}
