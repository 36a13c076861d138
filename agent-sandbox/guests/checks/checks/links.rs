//! Links of Markdown files to other files of the repository and to headings.

use std::collections::{BTreeMap, BTreeSet};

use super::Input;
use super::bytes;
use super::heading::Anchors;
use super::map::{Class, Map};
use super::report::{Report, Severity, quote};
use super::syntax::{self, Syntax};

/// Characters of a target that is looked up; nobody writes longer ones by hand.
const TARGET_BYTES_MAX: usize = 1000;

/// Parentheses within each other in a target.
const PARENTHESES_MAX: usize = 8;

/// Bytes of a path; git and file systems allow no longer ones.
const PATH_BYTES_MAX: usize = 4096;

/// Other files that are read for their headings.
const FILES_READ_MAX: usize = 200;

/// Reports links and images whose file is not tracked and whose heading does not exist.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    if !matches!(syntax::of(input.path), Syntax::Markdown) {
        return report.skip("not markdown");
    }
    if let Some(reason) = syntax::verbatim(input.path, input.bytes) {
        return report.skip(reason);
    }
    let map = Map::new(Syntax::Markdown, input.bytes);
    let mut targets = Vec::new();
    for line in bytes::lines(input.bytes) {
        let class = map.at(line.start);
        if class != Class::Verbatim {
            collect(&line, &map, &mut targets);
        }
    }
    if targets.is_empty() {
        return;
    }
    let paths = input.tree.paths();
    let mut links = Links {
        input,
        own: Anchors::new(input.bytes, &map),
        known: paths.as_deref().map(Known::new),
        others: BTreeMap::new(),
    };
    for (offset, target) in targets {
        if let Some((code, message)) = links.problem(target) {
            report.note(offset, Severity::Warning, code, || {
                format!("{message}: {}", quote(target))
            });
        }
    }
}

/// Adds the targets of a line: after `](`, and after `[label]:` at the start.
fn collect<'a>(line: &bytes::Line<'a>, map: &Map, targets: &mut Vec<(usize, &'a [u8])>) {
    let text = line.text;
    let indent = text.len() - text.trim_ascii_start().len();
    let is_live = |at: usize| matches!(map.at(line.start + at), Class::Prose | Class::Table);
    if bytes::at(text, indent) == b'[' && bytes::at(text, indent + 1) != b'^' && is_live(indent) {
        let label = bytes::run_end(text, indent, |byte| byte != b']');
        if bytes::starts_at(text, label, b"]:") {
            let start = bytes::run_end(text, label + 2, bytes::is_blank);
            targets.push((line.start + start, target(text, start, false)));
            return;
        }
    }
    let mut from = 0;
    while let Some(at) = bytes::find(text, b"](", from) {
        from = at + 2;
        let is_escaped = at > 0 && bytes::at(text, at - 1) == b'\\';
        if is_live(at) && is_live(at + 1) && !is_escaped {
            let start = bytes::run_end(text, from, bytes::is_blank);
            targets.push((line.start + start, target(text, start, true)));
        }
    }
}

/// The address at a position: in angle brackets, or up to a blank or the parenthesis that closes.
fn target(text: &[u8], start: usize, is_inline: bool) -> &[u8] {
    let limit = bytes::slice(text, start, start + TARGET_BYTES_MAX);
    if limit.starts_with(b"<") {
        return bytes::slice(limit, 1, bytes::run_end(limit, 1, |byte| byte != b'>'));
    }
    let mut depth = 0_usize;
    for (at, byte) in limit.iter().enumerate() {
        match byte {
            b'(' if depth == PARENTHESES_MAX => return &[],
            b'(' => depth += 1,
            b')' if is_inline && depth == 0 => return bytes::slice(limit, 0, at),
            b')' => depth = depth.saturating_sub(1),
            b' ' | b'\t' => return bytes::slice(limit, 0, at),
            _ => {}
        }
    }
    // Without an end it is no link.
    if is_inline { &[] } else { limit }
}

/// The tracked paths and the folders above them.
struct Known<'a> {
    files: BTreeSet<&'a [u8]>,
    folders: BTreeSet<&'a [u8]>,
}

impl<'a> Known<'a> {
    fn new(paths: &'a [u8]) -> Self {
        let mut known = Self {
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
        };
        for path in paths
            .split(|byte| *byte == b'\n')
            .filter(|path| (1..=PATH_BYTES_MAX).contains(&path.len()))
        {
            known.files.insert(path);
            let mut folder = path;
            while let Some(end) = folder.iter().rposition(|byte| *byte == b'/') {
                folder = bytes::slice(path, 0, end);
                if !known.folders.insert(folder) {
                    break;
                }
            }
        }
        known
    }

    fn has(&self, path: &[u8]) -> bool {
        // What lies below a tracked path that is no folder belongs to a submodule.
        let is_foreign = || {
            path.iter()
                .enumerate()
                .any(|(at, byte)| *byte == b'/' && self.files.contains(bytes::slice(path, 0, at)))
        };
        path.is_empty() || self.files.contains(path) || self.folders.contains(path) || is_foreign()
    }

    /// The file that a site generator would serve for a path: without extension or as HTML.
    fn page(&self, path: &[u8]) -> bool {
        let stem = path
            .strip_suffix(b".html")
            .or_else(|| path.strip_suffix(b".htm"))
            .unwrap_or(path);
        [
            ".md",
            ".mdx",
            ".markdown",
            ".rst",
            "/index.md",
            "/index.mdx",
            "/README.md",
            "/_index.md",
        ]
        .iter()
        .any(|end| self.has(&[stem, end.as_bytes()].concat()))
    }
}

struct Links<'a> {
    input: &'a Input<'a>,
    own: Anchors,
    known: Option<Known<'a>>,
    /// The anchors of other files; none if the host does not show the file.
    others: BTreeMap<String, Option<Anchors>>,
}

impl Links<'_> {
    fn problem(&mut self, target: &[u8]) -> Option<(&'static str, &'static str)> {
        if is_foreign(target) {
            return None;
        }
        let hash = target
            .iter()
            .position(|byte| *byte == b'#')
            .unwrap_or(target.len());
        let path = bytes::slice(target, 0, hash);
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let fragment = decode(bytes::slice(target, hash + 1, target.len()));
        let fragment = String::from_utf8_lossy(&fragment).into_owned();
        let fragment = fragment.strip_prefix("user-content-").unwrap_or(&fragment);
        if path.is_empty() {
            let is_there = is_special(fragment) || self.own.has(fragment);
            return (!is_there).then_some(("missing-anchor", "no such heading in this file"));
        }
        let path = resolve(self.input.path, &decode(path))?;
        let known = self.known.as_ref()?;
        if !known.has(&path) {
            let is_item = is_item(bytes::slice(target, 0, hash));
            let is_there = is_item || known.page(&path);
            return (!is_there).then_some(("missing-file", "no such file in the repository"));
        }
        if is_special(fragment) || !matches!(syntax::of(&path), Syntax::Markdown) {
            return None;
        }
        let is_there = self.other(std::str::from_utf8(&path).ok()?)?.has(fragment);
        (!is_there).then_some(("missing-anchor", "no such heading in that file"))
    }

    fn other(&mut self, path: &str) -> Option<&Anchors> {
        if !self.others.contains_key(path) && self.others.len() < FILES_READ_MAX {
            let bytes = self.input.tree.read(path);
            let anchors = bytes.map(|file| Anchors::new(&file, &Map::new(Syntax::Markdown, &file)));
            self.others.insert(path.to_owned(), anchors);
        }
        self.others.get(path)?.as_ref()
    }
}

/// Whether a target is somebody else's: another site, the site's root, a template's or a language's.
fn is_foreign(target: &[u8]) -> bool {
    let scheme = bytes::run_end(target, 0, |b| {
        b.is_ascii_alphanumeric() || b"+-.".contains(&b)
    });
    let has_scheme = scheme > 1 && bytes::at(target, scheme) == b':';
    let is_odd = target
        .iter()
        .any(|byte| b"{}<>$*!|\"'@\\,;=:".contains(byte))
        || target.ends_with(b")");
    let is_domain = target.starts_with(b"www.");
    target.is_empty() || target.starts_with(b"/") || has_scheme || is_odd || is_domain
}

/// Whether a fragment is not about a heading: a line, a text, a route, an item of generated docs.
fn is_special(fragment: &str) -> bool {
    let is_line = fragment
        .strip_prefix('L')
        .is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
    let is_item = [
        "method.",
        "tymethod.",
        "variant.",
        "structfield.",
        "impl-",
        "associated",
        "fields",
    ]
    .iter()
    .any(|start| fragment.starts_with(start));
    let is_route = fragment.starts_with(['/', '!', ':']);
    fragment.is_empty() || fragment == "top" || is_line || is_item || is_route
}

/// Whether a target reads as a name of the program instead of a file, as in docs of Rust crates.
fn is_item(target: &[u8]) -> bool {
    let is_name = target.iter().all(|byte| bytes::is_word(*byte));
    let is_typed = target.iter().any(u8::is_ascii_lowercase);
    let last = target
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    let is_page = last.ends_with(b".html")
        && [
            "struct.", "enum.", "fn.", "trait.", "macro.", "attr.", "derive.", "type.", "index.",
        ]
        .iter()
        .any(|kind| last.starts_with(kind.as_bytes()));
    is_name && is_typed || is_page
}

/// The path in the repository that a relative one means; none if it leads out of it.
fn resolve(from: &[u8], relative: &[u8]) -> Option<Vec<u8>> {
    let folder = from.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let mut parts: Vec<&[u8]> = Vec::new();
    let base = bytes::slice(from, 0, folder).split(|byte| *byte == b'/');
    for part in base.chain(relative.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// Undoes percent encoding.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = bytes::slice(text, at + 1, at + 3);
        let is_code = bytes::at(text, at) == b'%' && digits.iter().all(u8::is_ascii_hexdigit);
        let code = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| is_code && digits.len() == 2);
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes::at(text, at));
                at += 1;
            }
        }
    }
    out
}
