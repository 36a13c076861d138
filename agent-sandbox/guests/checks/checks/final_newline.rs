//! The end of the file.

use super::Input;
use super::bytes;
use super::map::Map;
use super::report::{Edit, Report, Severity};
use super::syntax::{self, Syntax};

/// Adds the line end that the last line lacks, in the style of the lines before it. More than one
/// blank line at the end is reported.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let file = input.bytes;
    let Some(last) = file.last() else { return };
    if *last == b'\n' {
        return blank_lines(file, report);
    }
    let syntax = syntax::of(input.path);
    // A format without rules for comments may well be read byte by byte.
    let is_known = !matches!(syntax, Syntax::Unknown);
    let is_open = !Map::new(syntax, file).is_trusted && matches!(syntax, Syntax::Source(_));
    let n_returns = file.windows(2).filter(|pair| pair == b"\r\n").count();
    let n_feeds = file.iter().filter(|byte| **byte == b'\n').count();
    let insert = if *last == b'\r' || n_returns * 2 <= n_feeds {
        "\n"
    } else {
        "\r\n"
    };
    let edit = Edit {
        start: file.len(),
        end: file.len(),
        insert,
    };
    report.fix_if(
        is_known && !is_open,
        file.len(),
        "no-final-newline",
        edit,
        || "the last line has no line end".to_owned(),
    );
}

fn blank_lines(file: &[u8], report: &mut Report) {
    let text = file.trim_ascii_end();
    let n_lines = bytes::slice(file, text.len(), file.len())
        .iter()
        .filter(|b| **b == b'\n')
        .count();
    if n_lines > 2 && !text.is_empty() {
        report.note(text.len(), Severity::Info, "blank-lines-at-end", || {
            format!("{} blank lines at the end of the file", n_lines - 1)
        });
    }
}
