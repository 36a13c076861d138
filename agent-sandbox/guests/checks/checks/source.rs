//! Comments and strings of source files, by the lexical rules of a language.

use super::bytes;
use super::map::{Class, Map};
use super::syntax::{Lang, Quirk, Quote};

/// Here-documents that one line may open.
const HERE_DOCUMENTS_MAX: usize = 8;

/// Marks the comments and strings of a file. A string that never ends means that the rules did not
/// fit: then nothing in the file is trusted.
pub(crate) fn classify(lang: &Lang, file: &[u8], map: &mut Map) {
    let mut lexer = Lexer {
        lang,
        file,
        map,
        here: Vec::new(),
        last_code: None,
    };
    let mut at = 0;
    while at < file.len() {
        at = lexer.step(at).max(at + 1);
    }
}

struct Lexer<'a> {
    lang: &'a Lang,
    file: &'a [u8],
    map: &'a mut Map,
    /// The words that end the here-documents opened on this line.
    here: Vec<&'a [u8]>,
    /// The last byte of code that is no blank.
    last_code: Option<u8>,
}

impl Lexer<'_> {
    /// Reads one token and returns where it ends.
    fn step(&mut self, at: usize) -> usize {
        let byte = bytes::at(self.file, at);
        if byte == b'\n' && !self.here.is_empty() {
            return self.here_documents(at + 1);
        }
        if byte.is_ascii_whitespace() {
            return at + 1;
        }
        if let Some(end) = self.comment(at) {
            self.map.set(at, end, Class::Comment);
            return end;
        }
        let end = self.quirk(at).or_else(|| self.string(at)).unwrap_or(at + 1);
        self.last_code = Some(bytes::at(self.file, end - 1));
        end
    }

    fn comment(&mut self, at: usize) -> Option<usize> {
        let is_marked = |mark: &&str| bytes::starts_at(self.file, at, mark.as_bytes());
        if self.lang.line.iter().any(is_marked) {
            let is_open = self.lang.quirk != Quirk::Shell
                || at == 0
                || bytes::at(self.file, at - 1).is_ascii_whitespace();
            return is_open.then(|| self.line_end(at));
        }
        let (open, close) = self.lang.block?;
        if !bytes::starts_at(self.file, at, open.as_bytes()) {
            return None;
        }
        let mut depth = 1_usize;
        let mut end = at + open.len();
        while depth > 0 {
            if end >= self.file.len() {
                self.map.is_trusted = false;
                return Some(self.file.len());
            }
            if bytes::starts_at(self.file, end, close.as_bytes()) {
                depth -= 1;
                end += close.len();
            } else if self.lang.quirk == Quirk::Rust
                && bytes::starts_at(self.file, end, open.as_bytes())
            {
                depth += 1;
                end += open.len();
            } else {
                end += 1;
            }
        }
        Some(end)
    }

    /// The end of a line's text.
    fn line_end(&self, at: usize) -> usize {
        let end = bytes::run_end(self.file, at, |byte| byte != b'\n');
        if end > at && bytes::at(self.file, end - 1) == b'\r' {
            end - 1
        } else {
            end
        }
    }

    fn quirk(&mut self, at: usize) -> Option<usize> {
        let starts_word = at == 0 || !bytes::is_word(bytes::at(self.file, at - 1));
        match self.lang.quirk {
            Quirk::Rust => match bytes::at(self.file, at) {
                b'\'' => Some(self.char_or_lifetime(at)),
                b'r' | b'b' | b'c' if starts_word => self.raw_string(at),
                _ => None,
            },
            Quirk::Cpp if starts_word && bytes::starts_at(self.file, at, b"R\"") => {
                let open =
                    bytes::run_end(self.file, at + 2, |b| b != b'(' && b != b'\n' && b != b'"');
                let mut close = b")".to_vec();
                // The standard allows 16 characters.
                close.extend_from_slice(bytes::slice(self.file, at + 2, open.min(at + 18)));
                close.push(b'"');
                (bytes::at(self.file, open) == b'(').then(|| self.close(at, open, &close))
            }
            Quirk::Shell => self.here_word(at),
            _ => None,
        }
    }

    fn char_or_lifetime(&self, at: usize) -> usize {
        if bytes::at(self.file, at + 1) == b'\\' {
            // The longest is '\u{10ffff}'.
            let close = bytes::find(bytes::slice(self.file, at + 3, at + 14), b"'", 0);
            return close.map_or(at + 1, |close| at + 4 + close);
        }
        let n_bytes = bytes::run_end(self.file, at + 2, |byte| byte & 0xc0 == 0x80) - at;
        let is_char = n_bytes <= 5 && bytes::at(self.file, at + n_bytes) == b'\'';
        if is_char { at + n_bytes + 1 } else { at + 1 }
    }

    fn raw_string(&mut self, at: usize) -> Option<usize> {
        let mut prefix = at;
        if bytes::at(self.file, prefix) != b'r' {
            prefix += 1;
        }
        if bytes::at(self.file, prefix) != b'r' {
            return None;
        }
        let open = bytes::run_end(self.file, prefix + 1, |byte| byte == b'#');
        if bytes::at(self.file, open) != b'"' {
            return None;
        }
        let mut close = b"\"".to_vec();
        close.resize(open - prefix, b'#');
        Some(self.close(at, open + 1, &close))
    }

    /// Marks a string that ends with the given bytes.
    fn close(&mut self, start: usize, from: usize, close: &[u8]) -> usize {
        let end = bytes::find(self.file, close, from).map(|at| at + close.len());
        if end.is_none() {
            self.map.is_trusted = false;
        }
        let end = end.unwrap_or(self.file.len());
        self.mark(start, end, Class::Verbatim);
        end
    }

    /// Marks a string: on one line it holds no line end that could matter.
    fn mark(&mut self, start: usize, end: usize, class: Class) {
        let is_multiline = bytes::slice(self.file, start, end).contains(&b'\n');
        self.map
            .set(start, end, if is_multiline { class } else { Class::Inert });
    }

    fn string(&mut self, at: usize) -> Option<usize> {
        let mark = |quote: &&Quote| bytes::starts_at(self.file, at, quote.mark.as_bytes());
        let quote = self.lang.quotes.iter().find(mark)?;
        let mark = quote.mark.as_bytes();
        let mut end = at + mark.len();
        loop {
            let byte = bytes::at(self.file, end);
            if end >= self.file.len() {
                self.map.is_trusted &= !quote.multiline;
                break;
            }
            if bytes::starts_at(self.file, end, mark) {
                end += mark.len();
                break;
            }
            if byte == b'\n' && !quote.multiline {
                break;
            }
            end += if quote.escapes && byte == b'\\' { 2 } else { 1 };
        }
        let end = end.min(self.file.len());
        let is_doc = self.lang.quirk == Quirk::Python && mark.len() == 3 && self.starts_body(at);
        self.mark(at, end, if is_doc { Class::Doc } else { Class::Verbatim });
        Some(end)
    }

    /// Whether a string opens a module or a block, and nothing uses its value.
    fn starts_body(&self, at: usize) -> bool {
        let before = bytes::slice(self.file, 0, at).iter().rev();
        let is_first = before
            .take_while(|b| **b != b'\n')
            .all(|b| bytes::is_blank(*b));
        is_first && self.last_code.is_none_or(|byte| byte == b':')
    }

    /// Notes the word after `<<`.
    fn here_word(&mut self, at: usize) -> Option<usize> {
        if bytes::starts_at(self.file, at, b"<<<") {
            return Some(at + 3);
        }
        if bytes::starts_at(self.file, at, b"\\") {
            return Some(at + 2);
        }
        if !bytes::starts_at(self.file, at, b"<<") {
            return None;
        }
        let start = bytes::run_end(self.file, at + 2, |b| b"-~ '\"\\".contains(&b));
        let end = bytes::run_end(self.file, start, bytes::is_word);
        if end > start && self.here.len() < HERE_DOCUMENTS_MAX {
            self.here
                .push(self.file.get(start..end).unwrap_or_default());
        }
        let quoted = bytes::run_end(self.file, end, |b| b"'\"".contains(&b));
        Some(if end > start { quoted } else { at + 2 })
    }

    fn here_documents(&mut self, start: usize) -> usize {
        let words = std::mem::take(&mut self.here);
        let rest = self.file.get(start..).unwrap_or_default();
        let mut words = words.iter().peekable();
        let mut end = start;
        for line in bytes::lines(rest) {
            if words
                .next_if(|word| line.text.trim_ascii() == **word)
                .is_some()
                && words.peek().is_none()
            {
                self.map.set(start, end, Class::Verbatim);
                return end;
            }
            end = start + line.next;
        }
        self.map.is_trusted = false;
        self.map.set(start, self.file.len(), Class::Verbatim);
        self.file.len()
    }
}
