//! What every byte of a file is: prose, comment, code, or something nobody should touch.

use super::bytes::{self, Line};
use super::markdown;
use super::source;
use super::syntax::Syntax;

/// The role of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Code, data, markup: neither prose nor text that must stay as it is.
    Plain,
    /// Text for people.
    Prose,
    /// A comment, with its marker.
    Comment,
    /// A docstring: a string of the program that is read as a comment.
    Doc,
    /// A row of a table.
    Table,
    /// A code span, an address, a string on one line.
    Inert,
    /// A string over several lines, a code block: blanks and line ends mean something.
    Verbatim,
}

/// The classes of a file's bytes.
#[derive(Debug)]
pub(crate) struct Map {
    classes: Vec<Class>,
    /// Whether `Plain` is known to hold no string over several lines.
    pub(crate) is_trusted: bool,
}

impl Map {
    /// Reads a file.
    pub(crate) fn new(syntax: Syntax, file: &[u8]) -> Self {
        let start = match syntax {
            Syntax::Markdown | Syntax::Rst | Syntax::Text => Class::Prose,
            _ => Class::Plain,
        };
        let mut map = Self {
            classes: vec![start; file.len()],
            is_trusted: true,
        };
        match syntax {
            Syntax::Markdown => markdown::classify(file, &mut map),
            Syntax::Rst => rst(file, &mut map),
            Syntax::Text => text(file, &mut map),
            Syntax::Source(lang) => source::classify(lang, file, &mut map),
            Syntax::Yaml => yaml(file, &mut map),
            Syntax::Data => {}
            Syntax::Loose(markers) => loose(markers, file, &mut map),
            Syntax::Unknown => map.is_trusted = false,
        }
        map
    }

    /// The class of the byte at a position.
    pub(crate) fn at(&self, index: usize) -> Class {
        self.classes.get(index).copied().unwrap_or(Class::Plain)
    }

    /// Sets the class of a range.
    pub(crate) fn set(&mut self, start: usize, end: usize, class: Class) {
        let end = end.min(self.classes.len());
        if let Some(range) = self.classes.get_mut(start..end) {
            range.fill(class);
        }
    }

    /// Whether blanks at a position, or the line end there, carry no meaning.
    pub(crate) fn is_free(&self, index: usize) -> bool {
        match self.at(index) {
            Class::Verbatim => false,
            Class::Prose | Class::Comment | Class::Doc | Class::Table => true,
            Class::Plain | Class::Inert => self.is_trusted,
        }
    }
}

fn rst(file: &[u8], map: &mut Map) {
    let mut literal_indent = None;
    for line in bytes::lines(file) {
        if line.is_blank() {
            if literal_indent.is_some() {
                map.set(line.start, line.next, Class::Verbatim);
            }
            continue;
        }
        if literal_indent.is_some_and(|indent| line.indent() > indent) {
            map.set(line.start, line.next, Class::Verbatim);
            continue;
        }
        let text = line.text.trim_ascii();
        literal_indent = (text.ends_with(b"::") || text.starts_with(b".. ")).then(|| line.indent());
        if text.starts_with(b"|") || text.starts_with(b"+") || text.starts_with(b">>>") {
            map.set(line.start, line.next, Class::Table);
        }
        code_spans(&line, b"``", map);
    }
}

/// Marks what stands between pairs of a mark on one line.
fn code_spans(line: &Line<'_>, mark: &[u8], map: &mut Map) {
    let mut from = 0;
    while let Some(open) = bytes::find(line.text, mark, from) {
        let Some(close) = bytes::find(line.text, mark, open + mark.len()) else {
            return;
        };
        from = close + mark.len();
        map.set(line.start + open, line.start + from, Class::Inert);
    }
}

fn text(file: &[u8], map: &mut Map) {
    for line in bytes::lines(file).filter(|line| line.indent() >= 4) {
        map.set(line.start, line.next, Class::Plain);
    }
    map.is_trusted = false;
}

fn loose(markers: &[&str], file: &[u8], map: &mut Map) {
    for line in bytes::lines(file) {
        let text = line.text.trim_ascii_start();
        if markers
            .iter()
            .any(|marker| text.starts_with(marker.as_bytes()))
        {
            map.set(line.end - text.len(), line.end, Class::Comment);
        }
    }
    map.is_trusted = false;
}

fn yaml(file: &[u8], map: &mut Map) {
    let mut scalar_indent = None;
    for line in bytes::lines(file) {
        let text = line.text.trim_ascii();
        if let Some(indent) = scalar_indent {
            if text.is_empty() || line.indent() > indent {
                map.set(line.start, line.next, Class::Verbatim);
                continue;
            }
            scalar_indent = None;
        }
        if text.starts_with(b"#") {
            map.set(
                line.end - line.text.trim_ascii_start().len(),
                line.end,
                Class::Comment,
            );
        } else if opens_scalar(text) {
            scalar_indent = Some(line.indent());
        }
    }
}

/// Whether the last word of a line of YAML opens a block scalar: `|`, `>-`, `|2+`, …
fn opens_scalar(text: &[u8]) -> bool {
    let comment = bytes::find(text, b" #", 0).unwrap_or(text.len());
    let text = bytes::slice(text, 0, comment).trim_ascii_end();
    let last = text
        .rsplit(|byte| bytes::is_blank(*byte))
        .next()
        .unwrap_or_default();
    let style = last.trim_ascii_end();
    let rest = style
        .strip_prefix(b"|")
        .or_else(|| style.strip_prefix(b">"));
    rest.is_some_and(|rest| {
        rest.iter()
            .all(|b| b.is_ascii_digit() || *b == b'+' || *b == b'-')
    })
}
