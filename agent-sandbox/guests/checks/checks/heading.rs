//! The anchors that a Markdown file offers, as GitHub names them.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::{self, Line};
use super::map::{Class, Map};

/// The anchors of one file.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    names: BTreeSet<String>,
    /// Whether parts of the text come from elsewhere, so that any anchor may exist.
    is_open: bool,
}

impl Anchors {
    /// Reads a file.
    pub(crate) fn new(file: &[u8], map: &Map) -> Self {
        let mut anchors = Self::default();
        let mut n_of = BTreeMap::new();
        let mut before: Option<Line<'_>> = None;
        for line in bytes::lines(file) {
            if map.at(line.start) == Class::Verbatim {
                before = None;
                continue;
            }
            if let Some(text) = heading(&line, before.as_ref()) {
                anchors.add_heading(text, &mut n_of);
            }
            anchors.add_marked(line.text);
            anchors.is_open |= bytes::find(line.text, b"{{#include", 0).is_some()
                || bytes::find(line.text, b"{% ", 0).is_some()
                || bytes::find(line.text, b"--8<--", 0).is_some();
            before = Some(line).filter(|line| !line.is_blank());
        }
        anchors
    }

    /// Whether a link to the anchor leads somewhere. Sites that do not follow GitHub's rules differ
    /// in case, repeated hyphens and hyphens at the ends; none of these is told apart.
    pub(crate) fn has(&self, fragment: &str) -> bool {
        self.is_open || self.names.contains(&lenient(fragment))
    }

    fn add_heading(&mut self, text: &[u8], n_of: &mut BTreeMap<String, usize>) {
        let text = String::from_utf8_lossy(text);
        let (text, own) = match text
            .trim_end()
            .strip_suffix('}')
            .and_then(|t| t.rsplit_once("{#"))
        {
            Some((text, own)) => (text.to_owned(), Some(own.to_owned())),
            None => (text.into_owned(), None),
        };
        if let Some(own) = own {
            self.names
                .insert(lenient(own.split(' ').next().unwrap_or_default()));
        }
        let slug = slug(&text);
        let n = n_of.entry(slug.clone()).or_insert(0);
        let name = if *n == 0 { slug } else { format!("{slug}-{n}") };
        *n += 1;
        self.names.insert(lenient(&name));
    }

    /// Adds what `id="x"` and `name="x"` name.
    fn add_marked(&mut self, text: &[u8]) {
        for key in [b"id=".as_slice(), b"name="] {
            let mut from = 0;
            while let Some(at) = bytes::find(text, key, from) {
                let start = bytes::run_end(text, at + key.len(), |b| b == b'"' || b == b'\'');
                let end = bytes::run_end(text, start, |b| !b"\"'> ".contains(&b));
                self.names
                    .insert(lenient(&String::from_utf8_lossy(bytes::slice(
                        text, start, end,
                    ))));
                from = end;
            }
        }
    }
}

/// The text of a heading: `# text`, a line over a row of `=` or `-`, or `<h1>text</h1>`.
fn heading<'a>(line: &Line<'a>, before: Option<&Line<'a>>) -> Option<&'a [u8]> {
    let text = line
        .text
        .trim_ascii()
        .strip_prefix(b"> ")
        .unwrap_or(line.text)
        .trim_ascii();
    let level = bytes::run_end(text, 0, |byte| byte == b'#');
    if (1..=6).contains(&level) && (text.len() == level || bytes::is_blank(bytes::at(text, level)))
    {
        let rest = bytes::slice(text, level, text.len());
        let end = rest
            .iter()
            .rposition(|byte| *byte != b'#')
            .map_or(0, |last| last + 1);
        let is_closed = bytes::is_blank(bytes::at(rest, end.saturating_sub(1)));
        return Some(
            if is_closed {
                bytes::slice(rest, 0, end)
            } else {
                rest
            }
            .trim_ascii(),
        );
    }
    let mark = bytes::at(text, 0);
    if (mark == b'=' || mark == b'-') && text.iter().all(|byte| *byte == mark) {
        return before.map(|before| before.text.trim_ascii());
    }
    let is_tag = text.len() > 3 && text.starts_with(b"<h") && bytes::at(text, 2).is_ascii_digit();
    let start = bytes::find(text, b">", 0).filter(|_| is_tag)? + 1;
    let end = bytes::find(text, b"</h", start).unwrap_or(text.len());
    Some(bytes::slice(text, start, end))
}

/// GitHub's name for a heading: markup gone, lower case, letters, digits, `_` and `-` kept, blanks
/// as hyphens.
pub(crate) fn slug(text: &str) -> String {
    let mut out = String::new();
    let mut in_tag = false;
    let mut in_target = false;
    let mut last = ' ';
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '<' if chars
                .peek()
                .is_some_and(|c| c.is_ascii_alphabetic() || *c == '/') =>
            {
                in_tag = true;
            }
            '>' if in_tag => in_tag = false,
            '(' if last == ']' => in_target = true,
            ')' if in_target => in_target = false,
            _ if in_tag || in_target => {}
            ' ' => out.push('-'),
            '-' | '_' => out.push(c),
            _ if c.is_alphanumeric() || is_mark(c) => out.extend(c.to_lowercase()),
            _ => {}
        }
        last = c;
    }
    out
}

/// Combining marks, as far as Latin text and emoji use them.
fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c) || ('\u{fe00}'..='\u{fe0f}').contains(&c)
}

fn lenient(name: &str) -> String {
    let mut out = String::new();
    for c in name
        .chars()
        .flat_map(char::to_lowercase)
        .filter(|c| !is_mark(*c))
    {
        // Emphasis marks of headings are not told from the underscores of names.
        if c == '-' || c == '_' || c == '.' {
            if !out.ends_with('-') && !out.is_empty() {
                out.push('-');
            }
        } else {
            out.push(c);
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}
