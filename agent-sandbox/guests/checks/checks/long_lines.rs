//! Lines wider than the file's own habit.

use super::Input;
use super::bytes::{self, Line};
use super::map::{Class, Map};
use super::report::{Report, Severity};
use super::syntax::{self, Syntax};

/// Of so many lines one may be long; a file with more is not wrapped at any width.
const LONG_SHARE: usize = 10;

/// Reports lines of more columns than allowed that could be wrapped. Addresses, tables, strings and
/// words without a blank cannot, and a file that is mostly long lines is not meant to be.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let syntax = syntax::of(input.path);
    if matches!(syntax, Syntax::Data | Syntax::Unknown) {
        return report.skip("data");
    }
    let columns_max = input.options.columns_max;
    let is_over = |line: &Line<'_>| line.text.len() > columns_max;
    let n_long = bytes::lines(input.bytes).filter(is_over).count();
    let n_lines = bytes::lines(input.bytes)
        .filter(|line| !line.is_blank())
        .count();
    let is_prose = matches!(syntax, Syntax::Markdown | Syntax::Rst | Syntax::Text);
    if is_prose && n_long * LONG_SHARE > n_lines || n_long * 2 > n_lines && n_lines > 3 {
        return report.skip("not wrapped");
    }
    let map = Map::new(syntax, input.bytes);
    for line in bytes::lines(input.bytes).filter(is_over) {
        let n_columns = bytes::n_chars(line.text);
        let class = map.at(line.start);
        if n_columns <= columns_max
            || class == Class::Table
            || class == Class::Verbatim
            || bytes::find(line.text, b"://", 0).is_some()
            || !is_wrappable(&line, columns_max)
        {
            continue;
        }
        report.note(line.start, Severity::Info, "long-line", || {
            format!("{n_columns} columns, more than {columns_max}")
        });
    }
}

/// Whether no single word is the reason.
fn is_wrappable(line: &Line<'_>, columns_max: usize) -> bool {
    let longest = line
        .text
        .split(|byte| bytes::is_blank(*byte))
        .map(<[u8]>::len)
        .max();
    longest.is_some_and(|longest| longest * 2 < columns_max)
}
