//! The rules.

use std::collections::BTreeMap;
use std::fmt;

use crate::tree::Tree;

/// The longest file; beyond it a reader loses the thread.
const LINES_MAX: usize = 800;
/// The longest `lib.rs`, which only lists what there is.
const LIB_LINES_MAX: usize = 120;
/// Tables written by a program: nobody reads them line by line.
const GENERATED: &[&str] = &["agent-memory/src/wordpiece/tables.rs"];

/// One violation.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn finding(path: &str, line: usize, what: impl Into<String>) -> Finding {
    Finding {
        path: path.to_owned(),
        line,
        what: what.into(),
    }
}

/// Returns the Rust files longer than a number of lines, tables left out.
pub(crate) fn lengths(tree: &Tree, more_than: usize) -> Vec<(&str, usize)> {
    tree.rust()
        .filter(|(path, _)| !GENERATED.contains(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > more_than)
        .collect()
}

/// No file is longer than [`LINES_MAX`], no `lib.rs` longer than [`LIB_LINES_MAX`].
pub(crate) fn long_files(tree: &Tree) -> Vec<Finding> {
    let too_long = |(path, lines)| {
        let max = if is_root(path) {
            LIB_LINES_MAX
        } else {
            LINES_MAX
        };
        (lines > max).then(|| finding(path, lines, format!("more than {max} lines")))
    };
    lengths(tree, LIB_LINES_MAX)
        .into_iter()
        .filter_map(too_long)
        .collect()
}

/// The root of a member, not a `lib.rs` deeper down.
fn is_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") && path.matches('/').count() == 2
}

/// Every crate has a README that is its documentation, an error enum, and the shared lints.
pub(crate) fn anatomy(tree: &Tree) -> Vec<Finding> {
    const NEEDED: &[(&str, &str)] = &[
        ("README.md", "# agent-"),
        ("src/lib.rs", "#![doc = include_str!(\"../README.md\")]"),
        ("src/error.rs", "pub enum Error"),
        ("Cargo.toml", "[lints]\nworkspace = true"),
    ];
    let mut findings = Vec::new();
    for dir in tree.crates() {
        for (file, text) in NEEDED {
            let path = format!("{dir}/{file}");
            match tree.get(&path) {
                None => findings.push(finding(&path, 0, "is missing")),
                Some(found) if !found.contains(text) => {
                    findings.push(finding(&path, 0, format!("does not contain `{text}`")));
                }
                Some(_) => {}
            }
        }
    }
    findings
}

/// `foo.rs` and `foo/`, not `foo/mod.rs`.
pub(crate) fn mod_files(tree: &Tree) -> Vec<Finding> {
    tree.ending("/mod.rs")
        .filter(|(path, _)| path.contains("/src/"))
        .map(|(path, _)| finding(path, 0, "name the file after the module"))
        .collect()
}

/// A law that the suite's macro does not list is never run.
pub(crate) fn unlisted_laws(tree: &Tree) -> Vec<Finding> {
    let mut laws: BTreeMap<(&str, &str), Vec<(&str, usize)>> = BTreeMap::new();
    let mut listed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (path, text) in tree.rust() {
        let Some((home, _)) = path.split_once("/src/") else {
            continue;
        };
        if !path.ends_with("/conformance.rs") && !path.contains("/conformance/") {
            continue;
        }
        let mut is_macro = false;
        for (n, line) in (1..).zip(text.lines()) {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                laws.entry((home, word(rest))).or_default().push((path, n));
            }
            is_macro = line.starts_with("macro_rules!") || (is_macro && line != "}");
            if is_macro {
                for name in line.split(|c| !is_word(c)).filter(|name| !name.is_empty()) {
                    *listed.entry((home, name)).or_default() += 1;
                }
            }
        }
    }
    // Two suites of a crate may have a law of the same name: it is listed as often as written.
    laws.iter()
        .filter(|(law, places)| listed.get(*law).copied().unwrap_or(0) < places.len())
        .filter_map(|((_, law), places)| Some((law, places.last()?)))
        .map(|(law, (path, n))| finding(path, *n, format!("the law `{law}` is not listed")))
        .collect()
}

/// A public async function documents what it means to drop its future. Laws are run whole.
pub(crate) fn unsaid_cancel_safety(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        if !path.contains("/src/") || !path.starts_with("agent-") || path.contains("conformance") {
            continue;
        }
        let mut is_said = false;
        for (n, line) in (1..).zip(text.lines().map(str::trim_start)) {
            if line.starts_with("pub async fn ") && !is_said {
                findings.push(finding(path, n, "does not say `# Cancel safety`"));
            }
            // Attributes may stand between the documentation and the function.
            let is_above = line.starts_with("///") || line.starts_with("#[");
            is_said = is_above && (is_said || line.starts_with("/// # Cancel safety"));
        }
    }
    findings
}

/// Comments say what is; what was is in the history.
pub(crate) fn history_in_comments(tree: &Tree) -> Vec<Finding> {
    const WORDS: &[&str] = &[
        "previously",
        "formerly",
        "refactored",
        "used to be",
        "renamed from",
        "no longer used",
        "no longer needed",
        "now uses",
        "now returns",
        "for backwards compatibility",
        "todo",
        "fixme",
        "hack:",
    ];
    let comments = |text: &'_ str| {
        let found = |(n, line)| Some((n, comment(line)?.to_lowercase()));
        (1..)
            .zip(text.lines())
            .filter_map(found)
            .collect::<Vec<_>>()
    };
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        for (n, comment) in comments(text) {
            let words = WORDS.iter().filter(|words| has_words(&comment, words));
            findings.extend(words.map(|words| finding(path, n, format!("`{words}`"))));
        }
    }
    findings
}

/// Documents say what was tested, not how good it is.
pub(crate) fn boasting(tree: &Tree) -> Vec<Finding> {
    const WORDS: &[&str] = &[
        "production-ready",
        "enterprise-grade",
        "blazing",
        "seamless",
        "seamlessly",
        "robust",
        "comprehensive",
        "powerful",
        "simply",
    ];
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (n, line) in (1..).zip(text.lines()) {
            let line = line.to_lowercase();
            let words = WORDS.iter().filter(|words| has_words(&line, words));
            findings.extend(words.map(|words| finding(path, n, format!("`{words}`"))));
        }
    }
    findings
}

/// No gaps in the code, no tests left out, no lint silenced without being expected.
///
/// A test that is the child process of another one may be left out. Code that several test files
/// share cannot expect a lint, since each file leaves another part of it unused.
pub(crate) fn left_undone(tree: &Tree) -> Vec<Finding> {
    // In two parts, so that this file does not contain them.
    const GAPS: &[[&str; 2]] = &[
        ["todo", "!("],
        ["unimplemented", "!("],
        ["#[ig", "nore]"],
        ["#[ig", "nore ="],
    ];
    const SILENCED: &[[&str; 2]] = &[["#[al", "low("], ["#![al", "low("]];
    const CHILD: &str = " = \"the child process of ";
    let is_child = |finding: &Finding| {
        let text = tree.get(&finding.path).unwrap_or_default();
        text.lines()
            .nth(finding.line - 1)
            .is_some_and(|line| line.contains(CHILD))
    };
    let mut findings = find(tree.rust(), GAPS);
    findings.retain(|finding| !is_child(finding));
    let is_shared = |path: &str| path.contains("/tests/") && path.ends_with("/mod.rs");
    findings.extend(find(
        tree.rust().filter(|(path, _)| !is_shared(path)),
        SILENCED,
    ));
    findings
}

/// Nothing in the repository depends on the machine it was written on.
pub(crate) fn machines(tree: &Tree) -> Vec<Finding> {
    const PARTS: &[[&str; 2]] = &[
        ["/ro", "ot/"],
        ["/work/", "main"],
        ["/work/", "shared"],
        ["/tmp/", "bash"],
        ["index.", "crates.io"],
        ["static.", "crates.io"],
        ["/.cargo/", "registry"],
    ];
    find(tree.all(), PARTS)
}

/// A document that names a test of its crate names one that exists.
pub(crate) fn missing_tests(tree: &Tree) -> Vec<Finding> {
    /// The fewest underscores of a name that is taken for a test's: they are statements.
    const UNDERSCORES_MIN: usize = 3;
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        // The documents above the crates speak of all of them; the examples test every crate.
        let home = path
            .split('/')
            .next()
            .filter(|dir| tree.crates().contains(dir));
        let is_near = |file: &str| {
            home.is_none_or(|home| file.starts_with(home) || file.starts_with("examples/"))
        };
        let code: Vec<&str> = tree
            .rust()
            .filter(|(file, _)| is_near(file))
            .map(|(_, text)| text)
            .collect();
        for (n, line) in (1..).zip(text.lines()) {
            // Every second part stands between backticks.
            for quoted in line.split('`').skip(1).step_by(2) {
                let name = quoted
                    .rsplit("::")
                    .next()
                    .unwrap_or(quoted)
                    .trim_end_matches('!');
                let is_test = name.matches('_').count() >= UNDERSCORES_MIN
                    && name
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                let exists = || code.iter().any(|text| has_item(text, name));
                if is_test && !exists() {
                    findings.push(finding(path, n, format!("there is no `{name}`")));
                }
            }
        }
    }
    findings
}

/// A document that links to a file of the repository links to one that exists.
pub(crate) fn dead_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .ending(".md")
        .filter(|(path, _)| !path.contains("/tests/"))
    {
        let home = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (n, line) in (1..).zip(text.lines()) {
            for rest in line.split("](").skip(1) {
                let Some((target, _)) = rest.split_once(')') else {
                    continue;
                };
                let file = target
                    .split('#')
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches('/');
                let is_ours = !file.is_empty() && !target.contains("://") && !file.contains(' ');
                if is_ours && !tree.has(&resolve(home, file)) {
                    findings.push(finding(path, n, format!("there is no `{target}`")));
                }
            }
        }
    }
    findings
}

fn find<'a>(files: impl Iterator<Item = (&'a str, &'a str)>, parts: &[[&str; 2]]) -> Vec<Finding> {
    let needles: Vec<String> = parts.iter().map(|parts| parts.concat()).collect();
    let mut findings = Vec::new();
    for (path, text) in files {
        for (n, line) in (1..).zip(text.lines()) {
            let found = needles
                .iter()
                .filter(|needle| line.contains(needle.as_str()));
            findings.extend(found.map(|needle| finding(path, n, format!("`{needle}`"))));
        }
    }
    findings
}

/// Returns the comment of a line: what follows the first `//` that no open quotation mark
/// precedes.
fn comment(line: &str) -> Option<&str> {
    let n_quotes = |text: &str| text.matches('"').count() - text.matches("\\\"").count();
    let is_code = |at: usize| {
        line.get(..at)
            .is_some_and(|before| n_quotes(before) % 2 == 0)
    };
    let (at, _) = line.match_indices("//").find(|(at, _)| is_code(*at))?;
    line.get(at..)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the name that a text begins with.
fn word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

/// Returns whether a text has the words with nothing more on either side of them.
fn has_words(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let (before, rest) = text.split_at(at);
        let after = rest
            .strip_prefix(words)
            .and_then(|after| after.chars().next());
        !before.chars().next_back().is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn has_item(text: &str, name: &str) -> bool {
    ["fn ", "macro_rules! ", "mod "]
        .iter()
        .any(|item| has_words(text, &format!("{item}{name}")))
}

/// Follows a relative path from a directory.
fn resolve(home: &str, target: &str) -> String {
    let mut parts: Vec<&str> = home.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
