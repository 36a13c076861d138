//! The parts of a Markdown file: code, tables, markup and prose, by the rules of `CommonMark` as far
//! as they matter for telling these apart.

use std::collections::BTreeMap;

use super::bytes::{self, Line};
use super::map::{Class, Map};

/// Marks everything that is not prose.
pub(crate) fn classify(file: &[u8], map: &mut Map) {
    let mut blocks = Blocks::default();
    for line in bytes::lines(file) {
        let class = blocks.class(&line);
        if class == Class::Prose || class == Class::Table {
            blocks.paragraph.get_or_insert(line.start);
        }
        if class != Class::Prose {
            map.set(line.start, line.next, class);
        }
        let is_inline = class == Class::Prose && !line.is_blank() || class == Class::Table;
        if let Some(start) = blocks.paragraph.take_if(|_| !is_inline) {
            inlines(file, start, line.start, map);
        }
    }
    if let Some(start) = blocks.paragraph {
        inlines(file, start, file.len(), map);
    }
}

/// What a mark on a line of its own opened.
#[derive(Debug, Default, PartialEq, Eq)]
enum Region {
    #[default]
    None,
    FrontMatter,
    Math,
}

/// What is known about the lines so far.
#[derive(Debug, Default)]
struct Blocks {
    n_lines: usize,
    /// The mark and its length of the fence that is open.
    fence: Option<(u8, usize)>,
    region: Region,
    after_blank: bool,
    indented: bool,
    in_list: bool,
    /// Where the paragraph began.
    paragraph: Option<usize>,
}

impl Blocks {
    fn class(&mut self, line: &Line<'_>) -> Class {
        self.n_lines += 1;
        let text = line.text.trim_ascii();
        if self.region == Region::FrontMatter {
            if text == b"---" || text == b"..." {
                self.region = Region::None;
            }
            return Class::Verbatim;
        }
        if self.n_lines == 1 && text == b"---" {
            self.region = Region::FrontMatter;
            return Class::Verbatim;
        }
        let content = unquoted(text);
        if let Some((mark, n)) = self.fence {
            let run = bytes::run_end(content, 0, |byte| byte == mark);
            if run >= n
                && bytes::slice(content, run, content.len())
                    .trim_ascii()
                    .is_empty()
            {
                self.fence = None;
            }
            return Class::Verbatim;
        }
        if let Some(fence) = fence(content) {
            self.fence = Some(fence);
            return Class::Verbatim;
        }
        if self.region == Region::Math {
            if content.ends_with(b"$$") {
                self.region = Region::None;
            }
            return Class::Inert;
        }
        if content == b"$$" {
            self.region = Region::Math;
            return Class::Inert;
        }
        self.plain(line, text)
    }

    fn plain(&mut self, line: &Line<'_>, text: &[u8]) -> Class {
        let after_blank = std::mem::replace(&mut self.after_blank, text.is_empty());
        if text.is_empty() {
            return if self.indented {
                Class::Verbatim
            } else {
                Class::Prose
            };
        }
        let is_deep = line.indent() >= 4;
        let is_item = is_list_item(text);
        self.indented =
            is_deep && (self.indented || ((after_blank || self.n_lines == 1) && !self.in_list));
        if self.indented {
            return Class::Verbatim;
        }
        if is_item {
            self.in_list = true;
        } else if line.indent() < 2 && after_blank {
            self.in_list = false;
        }
        let is_row = text.starts_with(b"|") || text.iter().filter(|b| **b == b'|').count() >= 2;
        if is_row { Class::Table } else { Class::Prose }
    }
}

/// A line without the marks of the quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    let end = bytes::run_end(text, 0, |byte| byte == b'>' || bytes::is_blank(byte));
    if text.starts_with(b">") {
        bytes::slice(text, end, text.len())
    } else {
        text
    }
}

/// Whether a line starts an item of a list.
pub(crate) fn is_list_item(text: &[u8]) -> bool {
    let digits = bytes::run_end(text, 0, |byte| byte.is_ascii_digit());
    let (mark, after) = (bytes::at(text, digits), bytes::at(text, digits + 1));
    let is_mark = if digits == 0 {
        b"-*+".contains(&mark)
    } else {
        b".)".contains(&mark)
    };
    is_mark && (bytes::is_blank(after) || after == 0)
}

/// The mark and its length if a line opens a fenced code block, also as the first of a list item.
fn fence(text: &[u8]) -> Option<(u8, usize)> {
    let text = if is_list_item(text) {
        let item = bytes::run_end(text, 0, |byte| !bytes::is_blank(byte));
        bytes::slice(text, item, text.len()).trim_ascii_start()
    } else {
        text
    };
    let mark = bytes::at(text, 0);
    let n = bytes::run_end(text, 0, |byte| byte == mark);
    let is_fence =
        n >= 3 && (mark == b'~' || mark == b'`' && !text.iter().skip(n).any(|b| *b == b'`'));
    is_fence.then_some((mark, n))
}

/// Marks code spans, tags, comments and addresses between two positions.
fn inlines(file: &[u8], start: usize, end: usize, map: &mut Map) {
    let mut spans = code_spans(file, start, end).into_iter().peekable();
    let block = bytes::slice(file, 0, end);
    let mut tags = Next {
        needle: b">",
        found: None,
    };
    let mut comments = Next {
        needle: b"-->",
        found: None,
    };
    let mut at = start;
    while at < end {
        // A tag may have passed the start of a span.
        while spans.next_if(|(open, _)| *open < at).is_some() {}
        if let Some((_, close)) = spans.next_if(|(open, _)| *open == at) {
            map.set(at, close, Class::Inert);
            at = close;
            continue;
        }
        let stop = match bytes::at(file, at) {
            b'\\' => at + 2,
            b'`' => bytes::run_end(file, at, |byte| byte == b'`'),
            b'<' if bytes::starts_at(file, at, b"<!--") => comments.end(block, at),
            b'<' if is_tag(bytes::at(file, at + 1)) => tags.end(block, at),
            b'h' | b'H' => address_end(file, at),
            _ => at + 1,
        };
        let is_markup = stop > at + 1 && bytes::at(file, at) != b'\\';
        if is_markup {
            map.set(at, stop, Class::Inert);
        }
        at = stop;
    }
}

/// Where each code span starts and ends.
fn code_spans(file: &[u8], start: usize, end: usize) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut at = start;
    while at < end {
        match bytes::at(file, at) {
            b'`' => {
                let stop = bytes::run_end(file, at, |byte| byte == b'`');
                runs.push((at, stop));
                at = stop;
            }
            b'\\' if bytes::at(file, at + 1) == b'`' => at += 2,
            _ => at += 1,
        }
    }
    let mut next_of_length = BTreeMap::new();
    // From the last to the first: each run ends where the next of its length ends, if there is one.
    for (open, stop) in runs.iter_mut().rev() {
        let n = *stop - *open;
        let close = next_of_length.insert(n, *stop);
        *stop = close.unwrap_or(*open);
    }
    let mut free_from = start;
    runs.retain(|(open, close)| {
        let is_span = close > open && *open >= free_from;
        if is_span {
            free_from = *close;
        }
        is_span
    });
    runs
}

/// Whether a byte after `<` makes it a tag.
fn is_tag(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || b"/!?".contains(&byte)
}

/// Where a mark comes next; it looks at no byte twice.
struct Next {
    needle: &'static [u8],
    found: Option<usize>,
}

impl Next {
    /// The end of the next mark, or of the byte at the position if there is none.
    fn end(&mut self, file: &[u8], at: usize) -> usize {
        if self.found.is_none_or(|found| found < at) {
            self.found = bytes::find(file, self.needle, at).or(Some(usize::MAX));
        }
        match self.found {
            Some(found) if found < file.len() => found + self.needle.len(),
            _ => at + 1,
        }
    }
}

fn address_end(file: &[u8], at: usize) -> usize {
    let rest = bytes::slice(file, at, at + 8).to_ascii_lowercase();
    if !rest.starts_with(b"http://") && !rest.starts_with(b"https://") {
        return at + 1;
    }
    bytes::run_end(file, at, |byte| {
        !byte.is_ascii_whitespace() && !b"<>)]\"".contains(&byte)
    })
}
