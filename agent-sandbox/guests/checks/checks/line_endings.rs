//! Line feeds and carriage returns in one file.

use super::bytes;
use super::map::Map;
use super::report::{Edit, Report, Severity};
use super::{Input, syntax};

/// Gives the minority of line ends the style of the majority. A file of one style stays as it is;
/// a script of the Windows command processor without any carriage return is reported, since git may
/// add them on checkout.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let file = input.bytes;
    let has_return = |line: &bytes::Line<'_>| line.next - line.end == 2;
    let is_ended = |line: &bytes::Line<'_>| line.next > line.end;
    let n_lines = bytes::lines(file).filter(is_ended).count();
    let n_returns = bytes::lines(file).filter(has_return).count();
    let is_batch = syntax::is_batch(input.path);
    if n_returns == 0 || n_returns == n_lines {
        if is_batch && n_returns == 0 && n_lines > 0 {
            report.note(0, Severity::Info, "batch-without-crlf", || {
                "cmd.exe expects CRLF line ends".to_owned()
            });
        }
        return;
    }
    let wants_return = is_batch || n_returns * 2 > n_lines;
    let map = Map::new(syntax::of(input.path), file);
    for line in bytes::lines(file)
        .filter(is_ended)
        .filter(|line| has_return(line) != wants_return)
    {
        let edit = if wants_return {
            Edit {
                start: line.end,
                end: line.end,
                insert: "\r",
            }
        } else {
            Edit {
                start: line.end,
                end: line.end + 1,
                insert: "",
            }
        };
        // Removing one of two carriage returns would leave the line as it was.
        let is_doubled = line.text.ends_with(b"\r");
        let is_safe = !is_doubled && (is_batch || map.is_free(line.end));
        report.fix_if(is_safe, line.end, "mixed-line-endings", edit, || {
            let (own, other) = if wants_return {
                ("LF", "CRLF")
            } else {
                ("CRLF", "LF")
            };
            format!("{own} in a file of {other} lines")
        });
    }
}
