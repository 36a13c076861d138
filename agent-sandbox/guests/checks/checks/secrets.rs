//! Credentials that should not be in a repository. A finding never holds the secret itself.

use super::bytes::{self, Line};
use super::report::{Report, Severity};
use super::{Input, syntax};

/// A token that issuers mark with a prefix.
struct Kind {
    name: &'static str,
    prefix: &'static [u8],
    /// Bytes after the prefix: at least, at most.
    n_min: usize,
    n_max: usize,
    /// Characters besides letters and digits.
    others: &'static [u8],
}

const fn kind(
    name: &'static str,
    prefix: &'static [u8],
    n: (usize, usize),
    others: &'static [u8],
) -> Kind {
    Kind {
        name,
        prefix,
        n_min: n.0,
        n_max: n.1,
        others,
    }
}

static KINDS: [Kind; 25] = [
    kind("AWS access key id", b"AKIA", (16, 16), b""),
    kind("AWS access key id", b"ASIA", (16, 16), b""),
    kind("GitHub token", b"ghp_", (36, 255), b""),
    kind("GitHub token", b"gho_", (36, 255), b""),
    kind("GitHub token", b"ghu_", (36, 255), b""),
    kind("GitHub token", b"ghs_", (36, 255), b""),
    kind("GitHub token", b"ghr_", (36, 255), b""),
    kind("GitHub token", b"github_pat_", (60, 255), b"_"),
    kind("GitLab token", b"glpat-", (20, 64), b"_-"),
    kind("Slack token", b"xoxb-", (20, 255), b"-"),
    kind("Slack token", b"xoxa-", (20, 255), b"-"),
    kind("Slack token", b"xoxp-", (20, 255), b"-"),
    kind("Slack token", b"xoxr-", (20, 255), b"-"),
    kind("Slack token", b"xoxs-", (20, 255), b"-"),
    kind(
        "Slack webhook",
        b"hooks.slack.com/services/T",
        (30, 100),
        b"/",
    ),
    kind("Stripe key", b"sk_live_", (20, 255), b""),
    kind("Stripe key", b"rk_live_", (20, 255), b""),
    kind("Google API key", b"AIza", (35, 35), b"_-"),
    kind("Google OAuth secret", b"GOCSPX-", (28, 28), b"_-"),
    kind("npm token", b"npm_", (36, 36), b""),
    kind("PyPI token", b"pypi-AgEIcHlwaS5vcmc", (50, 255), b"_-"),
    kind("Anthropic key", b"sk-ant-", (40, 255), b"_-"),
    kind("OpenAI key", b"sk-proj-", (40, 255), b"_-"),
    kind("SendGrid key", b"SG.", (60, 80), b"._-"),
    kind("JSON Web Token", b"eyJ", (40, 5000), b"._-"),
];

/// Names whose values are secrets.
const SECRET_NAMES: [&str; 11] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "private_key",
    "auth_key",
];

/// Parts of names whose values describe a secret without being one.
const HARMLESS_NAMES: [&str; 15] = [
    "hash",
    "sha",
    "digest",
    "checksum",
    "_id",
    "name",
    "url",
    "path",
    "file",
    "type",
    "public",
    "endpoint",
    "scope",
    "version",
    "tokenizer",
];

/// Parts of values that nobody issued.
const PLACEHOLDERS: [&str; 23] = [
    "example",
    "sample",
    "dummy",
    "fake",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "your",
    "xxxx",
    "****",
    "....",
    "----",
    "0000",
    "1111",
    "redacted",
    "insert",
    "foobar",
    "123456",
    "abcdef",
    "test",
    "secret",
    "password",
];

/// Characters of the secret that a finding shows: for tokens they are the issuer's mark.
const SHOWN_CHARS: usize = 4;

/// Lines beyond this are data or generated.
const LINE_BYTES_MAX: usize = 2000;

/// Reports credentials. Among tests and examples a finding is informational: most are invented.
pub(crate) fn check(input: &Input<'_>, report: &mut Report) {
    let is_test = syntax::is_test(input.path);
    let is_settings = syntax::is_settings(input.path);
    let severity = if is_test {
        Severity::Info
    } else {
        Severity::Secret
    };
    let is_locked = input.path.ends_with(b".lock") || input.path.ends_with(b".sum");
    let mut end_of_last = 0;
    for line in bytes::lines(input.bytes) {
        if let Some(at) = bytes::find(line.text, b"-----BEGIN ", 0) {
            private_key(input.bytes, line.start + at, severity, report);
        }
        let mut at = 0;
        while at < line.text.len() {
            let is_start = at == 0 || !bytes::is_word(bytes::at(line.text, at - 1));
            let found = if is_start { token(line.text, at) } else { None };
            let Some((kind, end)) = found else {
                at += 1;
                continue;
            };
            if let Some(kind) = kind {
                tell(
                    report,
                    line.start + at,
                    (severity, "token", kind.name),
                    line.text,
                    (at, end),
                );
                end_of_last = line.start + end;
            }
            at = end;
        }
        let is_free = line.start >= end_of_last || end_of_last > line.end;
        if is_free && !is_locked && line.text.len() <= LINE_BYTES_MAX {
            assignment(&line, is_settings, severity, report);
        }
    }
}

/// Adds a finding with what may be said about a secret.
fn tell(
    report: &mut Report,
    offset: usize,
    (severity, code, name): (Severity, &'static str, &str),
    text: &[u8],
    (start, end): (usize, usize),
) {
    let n = end - start;
    report.note(offset, severity, code, || {
        if code == "token" {
            let shown = bytes::slice(text, start, start + SHOWN_CHARS);
            let shown = String::from_utf8_lossy(shown);
            format!("possible {name} of {n} characters that starts with {shown}")
        } else {
            format!("possible {name} of {n} characters")
        }
    });
}

/// Where what starts like a token of a known issuer ends, and of which kind it is if it is one.
fn token(text: &[u8], at: usize) -> Option<(Option<&'static Kind>, usize)> {
    let kind = KINDS
        .iter()
        .find(|kind| bytes::starts_at(text, at, kind.prefix))?;
    let start = at + kind.prefix.len();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || kind.others.contains(&byte);
    let end = bytes::run_end(text, start, is_part);
    let body = bytes::slice(text, start, end);
    let is_sized = (kind.n_min..=kind.n_max).contains(&body.len());
    let is_upper = kind.n_min != 16 || !body.iter().any(u8::is_ascii_lowercase);
    let is_jwt = kind.prefix != b"eyJ"
        || body
            .split(|byte| *byte == b'.')
            .filter(|part| part.len() >= 10)
            .count()
            == 3;
    let is_end = !bytes::is_word(bytes::at(text, end));
    let whole = bytes::slice(text, at, end);
    let is_real =
        is_sized && is_upper && is_jwt && is_end && is_random(body, 8) && !is_placeholder(whole);
    Some((Some(kind).filter(|_| is_real), end))
}

/// Bytes after the header in which the body of a key has to start.
const KEY_BODY_BYTES: usize = 400;

/// Reports a private key that has a body: programs that read keys name the header alone.
fn private_key(file: &[u8], at: usize, severity: Severity, report: &mut Report) {
    let label = at + b"-----BEGIN ".len();
    let end = bytes::run_end(file, label, |b| b.is_ascii_uppercase() || b == b' ');
    let is_key = bytes::slice(file, label, end).ends_with(b"PRIVATE KEY");
    if !is_key || !bytes::starts_at(file, end, b"-----") {
        return;
    }
    let window = bytes::slice(file, end + 5, end + 5 + KEY_BODY_BYTES);
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let longest = window
        .split(|byte| !is_base64(byte))
        .max_by_key(|part| part.len());
    let body = longest.unwrap_or_default();
    if body.len() >= 40 && is_random(body, 12) && !is_placeholder(bytes::slice(file, label, end)) {
        report.note(at, severity, "private-key", || {
            "private key in PEM form".to_owned()
        });
    }
}

/// Reports `name = "value"` where the name promises a secret and the value is random.
fn assignment(line: &Line<'_>, is_settings: bool, severity: Severity, report: &mut Report) {
    let text = line.text;
    let Some(equals) = text.iter().position(|byte| *byte == b'=' || *byte == b':') else {
        return;
    };
    let before = bytes::slice(text, 0, equals);
    let key = before
        .trim_ascii_end()
        .strip_suffix(b"\"")
        .unwrap_or(before)
        .trim_ascii_end();
    let name_start = key
        .iter()
        .rposition(|b| !bytes::is_word(*b) && *b != b'-')
        .map_or(0, |at| at + 1);
    let name = bytes::slice(key, name_start, key.len());
    if !SECRET_NAMES
        .iter()
        .any(|secret| bytes::contains_ignoring_case(name, secret))
        || HARMLESS_NAMES
            .iter()
            .any(|word| bytes::contains_ignoring_case(name, word))
    {
        return;
    }
    let start = bytes::run_end(text, equals, |b| b"=:> \t".contains(&b));
    let quote = bytes::at(text, start);
    let is_quoted = b"\"'`".contains(&quote);
    if !is_quoted && !is_settings {
        return;
    }
    let start = if is_quoted { start + 1 } else { start };
    let is_value = |b: u8| b.is_ascii_alphanumeric() || b"+/=_-.~!@#%^&*".contains(&b);
    let end = bytes::run_end(text, start, is_value);
    let is_whole = if is_quoted {
        bytes::at(text, end) == quote
    } else {
        bytes::slice(text, end, text.len()).trim_ascii().is_empty()
    };
    let value = bytes::slice(text, start, end);
    if is_whole && value.len() >= 20 && is_random(value, 12) && !is_placeholder(value) {
        let what = (severity, "credential", "credential");
        tell(report, line.start + start, what, text, (start, end));
    }
}

/// Whether bytes look drawn by lot: many different ones, digits among letters, and not in words.
fn is_random(value: &[u8], n_distinct_min: usize) -> bool {
    let mut seen = [false; 256];
    for byte in value {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    let n_distinct = seen.iter().filter(|seen| **seen).count();
    let n_digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let n_letters = value
        .iter()
        .filter(|byte| byte.is_ascii_alphabetic())
        .count();
    let switches = value.windows(2).filter(|pair| {
        let [a, b] = pair else { return false };
        a.is_ascii_digit() != b.is_ascii_digit() || a.is_ascii_uppercase() != b.is_ascii_uppercase()
    });
    n_distinct >= n_distinct_min
        && n_digits >= 2
        && n_letters >= 3
        && switches.count() * 4 >= value.len()
}

fn is_placeholder(value: &[u8]) -> bool {
    let is_repeated = value
        .windows(5)
        .any(|w| w.iter().all(|byte| Some(byte) == w.first()));
    is_repeated
        || PLACEHOLDERS
            .iter()
            .any(|word| bytes::contains_ignoring_case(value, word))
}
