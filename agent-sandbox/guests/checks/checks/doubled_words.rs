//! Words written twice in prose.

use super::bytes::{self, Line};
use super::map::{Class, Map};
use super::report::{Edit, Report, Severity};
use super::syntax::{self, Syntax};
use super::{Input, markdown};

/// Words that are never meant twice, so that one of them can go.
const FIXED: [&[u8]; 14] = [
    b"the", b"of", b"and", b"to", b"is", b"in", b"a", b"an", b"are", b"be", b"we", b"with",
    b"from", b"or",
];

/// Words that good sentences repeat at times.
const DOUBTFUL: [&[u8]; 7] = [b"that", b"had", b"for", b"it", b"at", b"this", b"these"];

/// Words before `in in` and `to to` that take the first one with them: "log in in a moment";
/// and so do all words that end as a participle does: "linked in in most builds".
const PARTICLE_VERBS: [&[u8]; 12] = [
    b"log", b"logs", b"sign", b"signs", b"opt", b"plug", b"check", b"come", b"go", b"built",
    b"put", b"swap",
];

/// Words that open a clause which may end in `is`: "whatever the other one is is the result".
const CLAUSES: [&[u8]; 9] = [
    b"it",
    b"what",
    b"whatever",
    b"this",
    b"that",
    b"there",
    b"where",
    b"who",
    b"how",
];

/// Reports a word that follows itself, on one line or over a line end, and removes one of the two
/// where no sentence wants both. Code, tables, quotes and addresses are not prose.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let syntax = syntax::of(input.path);
    let is_prose = matches!(syntax, Syntax::Markdown | Syntax::Rst | Syntax::Text);
    let map = Map::new(syntax, input.bytes);
    let mut reader = Reader {
        is_prose,
        map: &map,
        fenced: false,
    };
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut n_done = 0;
    for line in bytes::lines(input.bytes) {
        let found = reader.read(&line);
        if found.is_none_or(|(_, continues)| !continues) {
            pairs(&words, n_done, words.len(), report);
            words.clear();
            n_done = 0;
        }
        let Some((at, _)) = found else { continue };
        reader.tokens(&line, at, &mut words);
        // What follows the last word is on the next line.
        let n_known = words.len().saturating_sub(1);
        pairs(&words, n_done, n_known, report);
        let n_passed = n_known.saturating_sub(KEPT_WORDS);
        words.drain(..n_passed);
        n_done = n_known - n_passed;
    }
    pairs(&words, n_done, words.len(), report);
}

/// Words of the line before that a decision may need.
const KEPT_WORDS: usize = 8;

/// One token between blanks.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    start: usize,
    end: usize,
    /// The letters; empty if the token is more than a word and a mark after it.
    letters: &'a [u8],
    /// Whether a mark follows the letters.
    is_closed: bool,
    /// Whether it stands first on its line, and where the line before ends.
    opens_line: bool,
    /// Which word of its line it is.
    index: usize,
}

struct Reader<'a> {
    is_prose: bool,
    map: &'a Map,
    /// Whether a code block inside comments is open.
    fenced: bool,
}

impl Reader<'_> {
    /// Where the prose of a line starts and whether it continues the line before. None where a
    /// sentence cannot go on.
    fn read(&mut self, line: &Line<'_>) -> Option<(usize, bool)> {
        let text = line.text.trim_ascii();
        let indent = line.text.len() - line.text.trim_ascii_start().len();
        if self.is_prose {
            let is_text = !text.is_empty() && !text.starts_with(b"#");
            return is_text.then(|| (indent, !markdown::is_list_item(text)));
        }
        let Some(first) = (line.start..line.end).find(|i| self.map.at(*i) == Class::Comment) else {
            self.fenced = false;
            return None;
        };
        let marks = bytes::run_end(line.text, first - line.start, |b| b"/!*#-;%".contains(&b));
        let at = bytes::run_end(line.text, marks, bytes::is_blank);
        let content = bytes::slice(line.text, at, line.text.len());
        if content.starts_with(b"```") || content.starts_with(b"~~~") {
            self.fenced = !self.fenced;
            return None;
        }
        if self.fenced || content.is_empty() || is_code(content) {
            return None;
        }
        let is_trailing = first - line.start > indent;
        let is_item = markdown::is_list_item(content) || content.starts_with(b"@");
        Some((at, !is_trailing && !is_item))
    }

    fn tokens<'a>(&self, line: &Line<'a>, mut at: usize, words: &mut Vec<Word<'a>>) {
        let wanted = if self.is_prose {
            Class::Prose
        } else {
            Class::Comment
        };
        let mut is_quoted = false;
        let mut index = 0;
        while at < line.text.len() {
            let start = bytes::run_end(line.text, at, |byte| byte.is_ascii_whitespace());
            let end = bytes::run_end(line.text, start, |byte| !byte.is_ascii_whitespace());
            let token = bytes::slice(line.text, start, end);
            let n = bytes::run_end(token, 0, |byte| byte.is_ascii_alphabetic());
            let n_marks = token.len() - n;
            let is_closed = n_marks == 1 && b".,;:!?)".contains(&bytes::at(token, n));
            let is_word = n > 0
                && (n_marks == 0 || is_closed)
                && !is_quoted
                && self.map.at(line.start + start) == wanted;
            let is_far = index > 0 && start > at + 2;
            let letters = if is_word && !is_far {
                bytes::slice(token, 0, n)
            } else {
                &[]
            };
            if n + n_marks > 0 {
                let (start, end) = (line.start + start, line.start + start + n);
                let opens_line = index == 0;
                words.push(Word {
                    start,
                    end,
                    letters,
                    is_closed,
                    opens_line,
                    index,
                });
            }
            let n_quotes = token.iter().filter(|byte| b"`\"".contains(byte)).count();
            is_quoted ^= n_quotes % 2 == 1;
            index += 1;
            at = end;
        }
    }
}

/// Whether a comment holds code.
fn is_code(text: &[u8]) -> bool {
    text.iter().any(|byte| b"{}=|<>$&".contains(byte)) || text.ends_with(b";")
}

/// Looks at each word of a range and at the one before it.
fn pairs(words: &[Word<'_>], from: usize, to: usize, report: &mut Report) {
    for at in from..to {
        let before = |n: usize| at.checked_sub(n).and_then(|at| words.get(at));
        let (Some(first), Some(second)) = (before(1), words.get(at)) else {
            continue;
        };
        if !is_same(first, second) {
            continue;
        }
        let third = words.get(at + 1);
        let is_run = before(2).is_some_and(|word| is_same_letters(word, first))
            || third.is_some_and(|word| is_same_letters(second, word));
        let word = second.letters;
        let is_fixed = FIXED.contains(&word) && !is_run;
        if !is_fixed && !DOUBTFUL.contains(&word)
            || is_meant(
                words.get(at.saturating_sub(KEPT_WORDS)..at - 1),
                word,
                third,
            )
        {
            continue;
        }
        let edit = edit(first, second, third);
        let message = || format!("\"{0} {0}\"", String::from_utf8_lossy(word));
        match edit.filter(|_| is_fixed) {
            Some(edit) => report.fix(second.start, "doubled-word", edit, message),
            None => report.note(second.start, Severity::Info, "doubled-word", message),
        }
    }
}

fn is_same(first: &Word<'_>, second: &Word<'_>) -> bool {
    let is_lower = second.letters.iter().all(u8::is_ascii_lowercase);
    let tail = first.letters.get(1..).unwrap_or_default();
    // Over a line end a short line is more often a list or a picture than a sentence.
    let is_sentence = !second.opens_line || first.index >= 2;
    let is_shouted = first.letters.len() == 1 && first.letters != second.letters;
    is_same_letters(first, second)
        && is_lower
        && is_sentence
        && !is_shouted
        && tail.iter().all(u8::is_ascii_lowercase)
}

fn is_same_letters(first: &Word<'_>, second: &Word<'_>) -> bool {
    !first.letters.is_empty()
        && !first.is_closed
        && first.letters.eq_ignore_ascii_case(second.letters)
}

/// Whether the words around make sense of both.
fn is_meant(context: Option<&[Word<'_>]>, word: &[u8], after: Option<&Word<'_>>) -> bool {
    let context = context.unwrap_or_default();
    let before = context
        .last()
        .map_or(&[][..], |word| word.letters)
        .to_ascii_lowercase();
    let before = before.as_slice();
    let next = after.map_or(&[][..], |word| word.letters);
    match word {
        b"in" => {
            PARTICLE_VERBS.contains(&before) || before.ends_with(b"ed") || before.ends_with(b"ing")
        }
        b"to" => PARTICLE_VERBS.contains(&before) || before == b"used",
        b"is" => context.iter().any(|word| {
            CLAUSES
                .iter()
                .any(|clause| word.letters.eq_ignore_ascii_case(clause))
        }),
        // As names of variables, of operators, of notes: "a a b", "the and and or operators".
        b"a" => before.len() == 1 || next.len() < 2,
        b"and" | b"or" => {
            [b"and".as_slice(), b"or", b"not", b"xor"].contains(&next)
                || [
                    b"logical".as_slice(),
                    b"bitwise",
                    b"boolean",
                    b"binary",
                    b"",
                ]
                .contains(&before)
        }
        b"for" => [b"loop".as_slice(), b"loops", b"in"].contains(&next),
        _ => false,
    }
}

/// Removes the second word with the blanks before it, or after it if it opens a line.
fn edit(first: &Word<'_>, second: &Word<'_>, third: Option<&Word<'_>>) -> Option<Edit> {
    if !second.opens_line {
        return Some(Edit {
            start: first.end,
            end: second.end,
            insert: "",
        });
    }
    let third = third.filter(|third| !third.opens_line && !second.is_closed)?;
    Some(Edit {
        start: second.start,
        end: third.start,
        insert: "",
    })
}
