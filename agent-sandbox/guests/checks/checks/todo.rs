//! Open tasks written into the file.

use super::Input;
use super::bytes::{self, Line};
use super::map::{Class, Map};
use super::report::{Report, Severity, quote};
use super::syntax::{self, Syntax};

const WORDS: [&[u8]; 4] = [b"TODO", b"FIXME", b"HACK", b"XXX"];

/// Lists open tasks with their text. In a file that has not changed for long they are stale.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let syntax = syntax::of(input.path);
    let is_prose = matches!(syntax, Syntax::Markdown | Syntax::Rst | Syntax::Text);
    let map = Map::new(syntax, input.bytes);
    let age = input
        .options
        .age_days
        .filter(|age| *age >= input.options.stale_days);
    for line in bytes::lines(input.bytes) {
        let Some((at, end)) = task(&line, is_prose, &map) else {
            continue;
        };
        let task = quote(bytes::slice(line.text, at, line.text.len()).trim_ascii_end());
        let offset = line.start + at;
        debug_assert!(end <= line.text.len());
        match age {
            Some(age) => report.note(offset, Severity::Warning, "stale-task", || {
                format!("open for {age} days or more: {task}")
            }),
            None => report.note(offset, Severity::Info, "open-task", || task),
        }
    }
}

/// The first task of a line. In prose the word needs a colon or a name after it: texts also talk
/// about such words.
fn task(line: &Line<'_>, is_prose: bool, map: &Map) -> Option<(usize, usize)> {
    let wanted = if is_prose {
        Class::Prose
    } else {
        Class::Comment
    };
    let mut at = 0;
    while at < line.text.len() {
        if !bytes::is_word(bytes::at(line.text, at)) {
            at += 1;
            continue;
        }
        let end = bytes::run_end(line.text, at, bytes::is_word);
        let is_task = WORDS.contains(&bytes::slice(line.text, at, end));
        let after = bytes::at(line.text, end);
        let before = if at == 0 {
            b' '
        } else {
            bytes::at(line.text, at - 1)
        };
        let is_quoted = b"`\"'-.#".contains(&before) || b"`\"'-.".contains(&after);
        let is_marked = after == b':' || after == b'(';
        if is_task && !is_quoted && map.at(line.start + at) == wanted && (!is_prose || is_marked) {
            return Some((at, end));
        }
        at = end;
    }
    None
}
