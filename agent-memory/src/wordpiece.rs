//! Word pieces as BERT (uncased) makes them: clean, split CJK, strip accents, lower case, split at
//! white space and punctuation, then the longest pieces from the left.

mod tables;

use std::cmp::Ordering;
use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use tables::{MARKS, PUNCTUATION, UNSEEN};

/// Words with more characters are unknown.
const WORD_CHARS_MAX: usize = 100;
/// The bytes of a word that are kept: as many as the longest known word can have.
const WORD_BYTES_MAX: usize = 400;

/// The known pieces: those that start a word and those that continue one.
pub(crate) struct Vocabulary {
    starts: HashMap<Box<str>, usize>,
    continuations: HashMap<Box<str>, usize>,
    n_pieces: usize,
    unknown: Option<usize>,
}

impl Vocabulary {
    /// Reads pieces separated by new lines; nothing if they are not UTF-8.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut vocabulary = Self {
            starts: HashMap::new(),
            continuations: HashMap::new(),
            n_pieces: 0,
            unknown: None,
        };
        for (id, piece) in text.split('\n').enumerate() {
            match piece.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => vocabulary.continuations.insert(rest.into(), id),
                _ => vocabulary.starts.insert(piece.into(), id),
            };
            vocabulary.n_pieces += 1;
        }
        Some(vocabulary)
    }

    /// Names the piece that stands for a word without known pieces. Without one such words are
    /// passed over.
    #[cfg(feature = "candle-embedder")]
    pub(crate) const fn with_unknown(mut self, piece: usize) -> Self {
        self.unknown = Some(piece);
        self
    }

    /// Returns the id of a piece that starts a word, or of a special one such as `[SEP]`.
    #[cfg(feature = "candle-embedder")]
    pub(crate) fn id(&self, piece: &str) -> Option<usize> {
        self.starts.get(piece).copied()
    }

    pub(crate) const fn len(&self) -> usize {
        self.n_pieces
    }

    /// Calls `each` with the id of every piece, at most `pieces_max` times.
    pub(crate) fn for_each_piece(&self, text: &str, pieces_max: usize, each: impl FnMut(usize)) {
        let mut pieces = Pieces {
            vocabulary: self,
            word: String::new(),
            word_chars: 0,
            found: Vec::new(),
            n_left: pieces_max,
            each,
        };
        for c in text.chars() {
            if pieces.n_left == 0 {
                return;
            }
            pieces.take(c);
        }
        pieces.end_word();
    }
}

struct Pieces<'v, F> {
    vocabulary: &'v Vocabulary,
    word: String,
    word_chars: usize,
    found: Vec<usize>,
    n_left: usize,
    each: F,
}

impl<F: FnMut(usize)> Pieces<'_, F> {
    fn take(&mut self, c: char) {
        if c.is_ascii_alphanumeric() {
            self.push(c.to_ascii_lowercase());
        } else if c == '\t' || c == '\n' || c == '\r' || c.is_whitespace() {
            self.end_word();
        } else if c == '\u{fffd}' || c.is_control() || is_in(UNSEEN, c) {
            // Neither seen nor a separator: the word goes on.
        } else if is_cjk(c) {
            self.alone(c);
        } else {
            for part in std::iter::once(c).nfd() {
                if is_in(MARKS, part) {
                    continue;
                }
                for lower in part.to_lowercase() {
                    if is_punctuation(lower) {
                        self.alone(lower);
                    } else {
                        self.push(lower);
                    }
                }
            }
        }
    }

    fn push(&mut self, c: char) {
        self.word_chars += 1;
        if self.word.len() < WORD_BYTES_MAX {
            self.word.push(c);
        }
    }

    fn alone(&mut self, c: char) {
        self.end_word();
        self.push(c);
        self.end_word();
    }

    fn end_word(&mut self) {
        if self.word_chars > 0 {
            self.found.clear();
            if self.word_chars > WORD_CHARS_MAX || !self.split_word() {
                self.found.clear();
                self.found.extend(self.vocabulary.unknown);
            }
            for id in self.found.drain(..) {
                if self.n_left == 0 {
                    break;
                }
                self.n_left -= 1;
                (self.each)(id);
            }
        }
        self.word.clear();
        self.word_chars = 0;
    }

    /// Takes the longest known piece from the left until the word is used up. A word with any
    /// unknown part is unknown as a whole.
    fn split_word(&mut self) -> bool {
        let mut rest = self.word.as_str();
        let mut known = &self.vocabulary.starts;
        while !rest.is_empty() {
            let ends = rest
                .char_indices()
                .rev()
                .map(|(start, c)| start + c.len_utf8());
            let longest = ends.into_iter().find_map(|end| {
                let (piece, after) = rest.split_at(end);
                known.get(piece).map(|id| (*id, after))
            });
            let Some((id, after)) = longest else {
                return false;
            };
            self.found.push(id);
            rest = after;
            known = &self.vocabulary.continuations;
        }
        true
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || is_in(PUNCTUATION, c)
}

fn is_cjk(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}' | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}'
    )
}

fn is_in(ranges: &[(u32, u32)], c: char) -> bool {
    let code = u32::from(c);
    let place = ranges.binary_search_by(|(first, last)| {
        if *last < code {
            Ordering::Less
        } else if *first > code {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    });
    place.is_ok()
}
