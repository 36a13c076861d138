//! Sentences and their words.

/// The longest sentence that is looked at, in words: what is longer is no statement but a document.
const WORDS_MAX: usize = 120;
/// The most sentences of one text that are looked at.
const SENTENCES_MAX: usize = 2_000;

/// A word or a mark of punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// In lower case, contractions written out.
    pub(super) lower: String,
    /// Its place in the sentence, in bytes.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_capital: bool,
}

impl Word {
    pub(super) fn is_mark(&self) -> bool {
        !self.lower.chars().any(char::is_alphanumeric)
    }
}

/// A sentence and its words.
#[derive(Clone, Debug)]
pub(super) struct Sentence {
    pub(super) text: String,
    pub(super) words: Vec<Word>,
    pub(super) is_question: bool,
}

impl Sentence {
    pub(super) fn lower(&self) -> Vec<&str> {
        self.words.iter().map(|word| word.lower.as_str()).collect()
    }

    /// The text from one word to another, as it was written.
    pub(super) fn between(&self, first: usize, end: usize) -> &str {
        let from = self.words.get(first).map(|word| word.start);
        let to = end.checked_sub(1).and_then(|n| self.words.get(n));
        from.zip(to)
            .and_then(|(from, to)| self.text.get(from..to.end))
            .unwrap_or_default()
    }
}

/// Splits a text into sentences, each with its words. What stands in double quotes is somebody
/// else's and left out.
pub(super) fn sentences(text: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut is_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\u{201c}' | '\u{201d}' | '\u{ab}' | '\u{bb}' => {
                is_quoted = !is_quoted && c != '\u{201d}' && c != '\u{bb}';
                current.push(' ');
                continue;
            }
            '\n' => is_quoted = false,
            _ if is_quoted => continue,
            _ => current.push(c),
        }
        let ends = match c {
            '\n' | '!' | '?' | ';' | '\u{2026}' => true,
            '.' => {
                chars.peek().is_none_or(|next| next.is_whitespace()) && !is_abbreviation(&current)
            }
            _ => false,
        };
        if ends {
            push(&mut found, &mut current, c == '?');
        }
        if found.len() == SENTENCES_MAX {
            return found;
        }
    }
    push(&mut found, &mut current, false);
    found
}

fn is_abbreviation(text: &str) -> bool {
    let last = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    matches!(
        last,
        "Mr." | "Mrs." | "Ms." | "Dr." | "St." | "Prof." | "e.g." | "i.e." | "No." | "vs." | "etc."
    )
}

fn push(found: &mut Vec<Sentence>, text: &mut String, is_question: bool) {
    let taken = std::mem::take(text);
    let trimmed = taken.trim();
    let words = words(trimmed);
    if words.len() <= WORDS_MAX && words.iter().any(|word| !word.is_mark()) {
        found.push(Sentence {
            text: trimmed.to_owned(),
            words,
            is_question,
        });
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = None;
    for (n, c) in text.char_indices() {
        if is_inner(c) {
            start.get_or_insert(n);
            continue;
        }
        if let Some(from) = start.take() {
            add(&mut words, text, from, n);
        }
        if !c.is_whitespace() {
            mark(&mut words, text, n, n + c.len_utf8());
        }
    }
    if let Some(from) = start {
        add(&mut words, text, from, text.len());
    }
    words
}

fn is_inner(c: char) -> bool {
    c.is_alphanumeric()
        || unicode_normalization::char::is_combining_mark(c)
        || matches!(
            c,
            '\'' | '\u{2019}' | '-' | '.' | '/' | '@' | '_' | '+' | '#' | '%' | ':' | '$' | '&'
        )
}

fn mark(words: &mut Vec<Word>, text: &str, start: usize, end: usize) {
    words.push(Word {
        lower: text.get(start..end).unwrap_or_default().to_owned(),
        start,
        end,
        is_capital: false,
    });
}

/// Adds a run of characters: the marks at its ends are words of their own, contractions two words.
fn add(words: &mut Vec<Word>, text: &str, start: usize, end: usize) {
    let run = text.get(start..end).unwrap_or_default();
    let core = run.trim_start_matches(['\'', '\u{2019}', '-', '.', ':', '/', '&']);
    let start = end - core.len();
    let core = core.trim_end_matches(['\'', '\u{2019}', '-', '.', ':', '/', '&']);
    let stop = start + core.len();
    if !core.is_empty() {
        let is_capital = core.starts_with(char::is_uppercase);
        let lower = core.to_lowercase().replace('\u{2019}', "'");
        let (first, second) = written_out(&lower);
        let mut push = |lower: &str| {
            words.push(Word {
                lower: lower.to_owned(),
                start,
                end: stop,
                is_capital,
            });
        };
        push(first);
        if !second.is_empty() {
            push(second);
        }
    }
    if stop < end {
        mark(words, text, stop, end);
    }
}

fn written_out(lower: &str) -> (&str, &str) {
    match lower {
        "can't" | "cannot" => return ("can", "not"),
        "won't" => return ("will", "not"),
        "let's" => return ("let", "us"),
        "it's" | "that's" | "he's" | "she's" | "there's" | "what's" | "here's" => {
            return (lower.trim_end_matches("'s"), "is");
        }
        "anymore" => return ("any", "more"),
        "gonna" => return ("going", "to"),
        _ => {}
    }
    for (end, word) in [
        ("n't", "not"),
        ("'m", "am"),
        ("'re", "are"),
        ("'ve", "have"),
        ("'ll", "will"),
        ("'d", "would"),
    ] {
        if let Some(first) = lower.strip_suffix(end)
            && !first.is_empty()
        {
            return (first, word);
        }
    }
    (lower, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_into_sentences_without_what_is_quoted() {
        let text = "I'm at Dr. Who's. v1.2 is out! He said \"I live in Oslo.\" Really?\nYes";
        let all = sentences(text);
        let texts: Vec<&str> = all.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "I'm at Dr. Who's.",
                "v1.2 is out!",
                "He said    Really?",
                "Yes"
            ]
        );
        assert_eq!(all[0].lower(), ["i", "am", "at", "dr", ".", "who's", "."]);
        assert!(all[2].is_question);
    }

    #[test]
    fn hostile_text_is_bounded() {
        let many = "a b. ".repeat(10_000);
        assert_eq!(sentences(&many).len(), SENTENCES_MAX);
        assert!(sentences(&"x ".repeat(500_000)).is_empty());
        assert!(sentences("'''' ... \u{202e}\u{200b}").is_empty());
    }
}
