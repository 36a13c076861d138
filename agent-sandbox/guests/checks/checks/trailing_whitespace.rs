//! Blanks at line ends, where they mean nothing.

use super::bytes::{self, Line};
use super::map::{Class, Map};
use super::report::{Edit, Report};
use super::{Input, syntax};

/// Removes blanks before line ends. What may mean something stays: hard breaks of Markdown, strings
/// over several lines, code blocks, and a blank after a backslash or a carriage return, which would
/// come to stand before the line feed.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let syntax = syntax::of(input.path);
    let is_markdown = matches!(syntax, syntax::Syntax::Markdown);
    let map = Map::new(syntax, input.bytes);
    let mut lines = bytes::lines(input.bytes).peekable();
    while let Some(line) = lines.next() {
        let n_kept = line
            .text
            .iter()
            .rev()
            .skip_while(|byte| bytes::is_blank(**byte))
            .count();
        let start = line.start + n_kept;
        if start == line.end || map.at(start) == Class::Verbatim {
            continue;
        }
        let has_next = lines.peek().is_some_and(|next| !next.is_blank());
        if is_markdown && has_next && is_hard_break(&line, n_kept) {
            continue;
        }
        let is_escaped = n_kept > 0 && b"\\\r".contains(&bytes::at(line.text, n_kept - 1));
        let is_free = map.is_free(start) && !is_escaped;
        let edit = Edit {
            start,
            end: line.end,
            insert: "",
        };
        let n_blanks = line.end - start;
        report.fix_if(is_free, start, "trailing-whitespace", edit, || {
            format!("{n_blanks} blanks at the line end")
        });
    }
}

fn is_hard_break(line: &Line<'_>, n_kept: usize) -> bool {
    let blanks = bytes::slice(line.text, n_kept, line.text.len());
    n_kept > 0 && blanks.len() >= 2 && blanks.iter().all(|byte| *byte == b' ')
}
