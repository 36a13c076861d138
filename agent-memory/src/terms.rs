//! Words of texts and questions, stemmed the way FTS5's `porter unicode61` does, so that the index
//! in main memory and the one on disk agree.

mod porter;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The most distinct words of a question that are looked up.
const QUERY_TERMS_MAX: usize = 64;

/// Words that say nothing about what is asked for.
const STOP_WORDS: &[&str] = &[
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could",
    "did", "do", "does", "for", "from", "had", "has", "have", "her", "his", "how", "i", "in", "is",
    "it", "its", "me", "my", "of", "on", "or", "our", "she", "so", "that", "the", "their", "them",
    "they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "why",
    "will", "with", "would", "you", "your",
];

/// Calls `each` with every word of a text, stemmed.
pub(crate) fn for_each_term(text: &str, mut each: impl FnMut(&str)) {
    let mut word = String::new();
    for c in text.chars() {
        if push(&mut word, c) {
            continue;
        }
        if !word.is_empty() {
            porter::stem(&mut word);
            each(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        porter::stem(&mut word);
        each(&word);
    }
}

/// Returns the distinct words of a question in their order, each with its stem, without stop words
/// unless there is nothing else.
pub(crate) fn query_words(text: &str) -> Vec<(String, String)> {
    let mut words: Vec<(String, String)> = Vec::new();
    let mut stops: Vec<(String, String)> = Vec::new();
    for word in text.split(|c: char| !is_word(c)) {
        let lower = word.to_lowercase();
        let is_stop = STOP_WORDS.binary_search(&lower.as_str()).is_ok();
        let found = if is_stop { &mut stops } else { &mut words };
        for_each_term(word, |stem| {
            if found.len() < QUERY_TERMS_MAX && !found.iter().any(|(_, seen)| seen == stem) {
                found.push((word.to_owned(), stem.to_owned()));
            }
        });
    }
    if words.is_empty() { stops } else { words }
}

/// Returns a question without its stop words, unless there is nothing else.
pub(crate) fn without_stop_words(text: &str) -> String {
    let is_stop = |word: &str| STOP_WORDS.binary_search(&&*word.to_lowercase()).is_ok();
    let words: Vec<&str> = text
        .split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty() && !is_stop(word))
        .collect();
    if words.is_empty() {
        text.to_owned()
    } else {
        words.join(" ")
    }
}

/// Returns the stems of [`query_words`].
pub(crate) fn query_terms(text: &str) -> Vec<String> {
    query_words(text)
        .into_iter()
        .map(|(_, stem)| stem)
        .collect()
}

/// Returns whether a character can be seen: not white space, control, mark or zero width.
pub(crate) fn is_visible(c: char) -> bool {
    let is_zero_width = matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_whitespace() && !c.is_control() && !is_zero_width && !is_combining_mark(c)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Appends the character's folded form to the word; false if it separates words.
fn push(word: &mut String, c: char) -> bool {
    if c.is_ascii_alphanumeric() {
        word.push(c.to_ascii_lowercase());
        return true;
    }
    if c.is_ascii() || !is_word(c) {
        return false;
    }
    let folded = c
        .nfd()
        .filter(|part| !is_combining_mark(*part))
        .flat_map(char::to_lowercase);
    word.extend(folded);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted_for_the_search() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn a_question_keeps_its_distinct_content_words() {
        assert_eq!(
            query_terms("What did Ana's RUNNING shoes cost; running?"),
            ["ana", "s", "run", "shoe", "cost"]
        );
        assert_eq!(query_terms("Who was it?"), ["who", "wa", "it"]);
        assert!(query_terms("\u{200b} \" * ( ) -").is_empty());
    }

    #[test]
    fn accents_and_case_do_not_matter() {
        assert_eq!(query_terms("CAFÉ"), query_terms("cafe\u{301}"));
    }
}
