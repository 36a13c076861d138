//! The two JSON objects this program writes.

use std::fmt::Write as _;

use super::report::{Report, Severity};

/// The version of the protocol, in every object.
const VERSION: u32 = 1;

/// Characters of a check's name that an error repeats.
const NAME_CHARS_MAX: usize = 64;

/// The object that stands for a report that could not be made.
pub(crate) fn error(check: &str, code: &str, message: &str) -> String {
    let mut out = format!("{{\"v\":{VERSION},\"check\":");
    string(
        &mut out,
        &check.chars().take(NAME_CHARS_MAX).collect::<String>(),
    );
    out.push_str(",\"error\":{\"code\":");
    string(&mut out, code);
    out.push_str(",\"message\":");
    string(&mut out, message);
    out.push_str("}}");
    out
}

/// The object for a report.
pub(crate) fn report(report: &Report) -> String {
    let mut out = format!("{{\"v\":{VERSION},\"check\":");
    string(&mut out, report.check);
    out.push_str(",\"skipped\":");
    match report.skipped {
        Some(reason) => string(&mut out, reason),
        None => out.push_str("null"),
    }
    out.push_str(",\"findings\":[");
    for (index, finding) in report.findings.iter().enumerate() {
        comma(&mut out, index);
        put(&mut out, "{\"line\":", finding.line);
        put(&mut out, ",\"column\":", finding.column);
        out.push_str(",\"code\":");
        string(&mut out, finding.code);
        out.push_str(",\"message\":");
        string(&mut out, &finding.message);
        put(&mut out, ",\"fixable\":", finding.fixable);
        out.push_str(",\"severity\":");
        string(
            &mut out,
            match finding.severity {
                Severity::Info => "info",
                Severity::Warning => "warning",
                Severity::Secret => "secret",
            },
        );
        out.push('}');
    }
    put(&mut out, "],\"n_findings\":", report.n_findings);
    put(&mut out, ",\"n_fixable\":", report.n_fixable);
    put(&mut out, ",\"truncated\":", report.is_truncated());
    out.push_str(",\"edit\":");
    edit(&mut out, report);
    out.push('}');
    out
}

fn edit(out: &mut String, report: &Report) {
    if report.edits.is_empty() {
        out.push_str("null");
        return;
    }
    put(
        out,
        "{\"kind\":\"ranges\",\"bytes_before\":",
        report.bytes_before,
    );
    put(out, ",\"bytes_after\":", report.bytes_after());
    out.push_str(",\"ranges\":[");
    for (index, edit) in report.edits.iter().enumerate() {
        comma(out, index);
        put(out, "{\"start\":", edit.start);
        put(out, ",\"end\":", edit.end);
        out.push_str(",\"insert\":");
        string(out, edit.insert);
        out.push('}');
    }
    out.push_str("]}");
}

fn put(out: &mut String, before: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    _ = write!(out, "{before}{value}");
}

fn comma(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}

/// Writes a JSON string. Everything beyond ASCII stays as it is but for the two line separators,
/// which are not valid in JavaScript source.
fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
