//! What a merge left behind.

use super::Input;
use super::bytes::{self, Line};
use super::map::{Class, Map};
use super::report::{Report, Severity, quote};
use super::syntax::{self, Syntax};

/// Reports the markers of an unresolved merge: a whole block, or an opening or closing marker with
/// a label. A lone row of `=` is a heading in several markups, and no finding.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if syntax::verbatim(input.path, input.bytes) == Some("verbatim") {
        return report.skip("verbatim");
    }
    let syntax = syntax::of(input.path);
    let is_prose = matches!(syntax, Syntax::Markdown | Syntax::Rst | Syntax::Text);
    let map = Map::new(syntax, input.bytes);
    let mut block = Vec::new();
    for line in bytes::lines(input.bytes).filter(|line| map.at(line.start) != Class::Verbatim) {
        let Some(mark) = marker(&line) else { continue };
        match mark {
            b'<' => {
                flush(&mut block, is_prose, report);
                block.push((mark, line));
            }
            b'>' if block.last().is_some_and(|(last, _)| *last == b'=') => {
                block.push((mark, line));
                flush(&mut block, false, report);
            }
            b'>' => {
                flush(&mut block, is_prose, report);
                block.push((mark, line));
                flush(&mut block, is_prose, report);
            }
            _ if !block.is_empty() && block.len() < BLOCK_MARKERS_MAX => block.push((mark, line)),
            _ => {}
        }
    }
    flush(&mut block, is_prose, report);
}

/// Markers of one block: opening, base, separator, closing; rows of `=` in its text besides.
const BLOCK_MARKERS_MAX: usize = 16;

/// Reports the markers of a block. One that is not whole counts where nothing else looks like it.
fn flush(block: &mut Vec<(u8, Line<'_>)>, needs_whole: bool, report: &mut Report) {
    let is_whole = block.len() >= 3
        && block.first().is_some_and(|(mark, _)| *mark == b'<')
        && block.last().is_some_and(|(mark, _)| *mark == b'>');
    for (mark, line) in block.drain(..) {
        let has_label = line.text.len() > 8 && (mark == b'<' || mark == b'>');
        if is_whole || has_label && !needs_whole {
            report.note(line.start, Severity::Warning, "conflict-marker", || {
                format!("marker of a merge conflict: {}", quote(line.text))
            });
        }
    }
}

/// The character of a marker: seven times at the line start, then a blank and a label or nothing.
fn marker(line: &Line<'_>) -> Option<u8> {
    let mark = bytes::at(line.text, 0);
    if !b"<=>|".contains(&mark) || bytes::run_end(line.text, 0, |byte| byte == mark) != 7 {
        return None;
    }
    let rest = bytes::slice(line.text, 7, line.text.len());
    let is_plain = rest.is_empty() || rest.starts_with(b" ") && mark != b'=';
    is_plain.then_some(mark)
}
