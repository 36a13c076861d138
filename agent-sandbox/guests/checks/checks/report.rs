//! What a check found, with bounds on everything.

use super::bytes;
use super::json;

/// Findings that are reported one by one; beyond it they are counted. A person reads no more.
pub(crate) const FINDINGS_MAX: usize = 100;

/// Edits of one file. A file that needs more is better fixed with the tool that made it, and the
/// report stays below half a megabyte.
pub(crate) const EDITS_MAX: usize = 5000;

/// Characters of a message.
const MESSAGE_CHARS_MAX: usize = 300;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Info,
    Warning,
    /// Somebody may have to revoke something.
    Secret,
}

/// One place and what is the matter with it.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// Where it is in the file; `line` and `column` follow from it.
    pub(crate) offset: usize,
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) fixable: bool,
    pub(crate) severity: Severity,
}

/// Replaces a range of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) insert: &'static str,
}

/// The outcome of one check of one file.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) check: &'static str,
    pub(crate) skipped: Option<&'static str>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) n_findings: usize,
    pub(crate) n_fixable: usize,
    pub(crate) edits: Vec<Edit>,
    pub(crate) bytes_before: usize,
}

impl Report {
    pub(crate) fn new(check: &'static str) -> Self {
        Self {
            check,
            skipped: None,
            findings: Vec::new(),
            n_findings: 0,
            n_fixable: 0,
            edits: Vec::new(),
            bytes_before: 0,
        }
    }

    /// Says that the check does not apply to the file, and why.
    pub(crate) fn skip(&mut self, reason: &'static str) {
        self.skipped = Some(reason);
    }

    /// Adds a finding that somebody has to judge.
    pub(crate) fn note(
        &mut self,
        offset: usize,
        severity: Severity,
        code: &'static str,
        message: impl FnOnce() -> String,
    ) {
        self.n_findings += 1;
        if self.findings.len() < FINDINGS_MAX {
            let message = message().chars().take(MESSAGE_CHARS_MAX).collect();
            let fixable = false;
            let finding = Finding {
                offset,
                line: 0,
                column: 0,
                code,
                message,
                fixable,
                severity,
            };
            self.findings.push(finding);
        }
    }

    /// Adds a finding with the edit that resolves it. Edits come in the order of the file.
    pub(crate) fn fix(
        &mut self,
        offset: usize,
        code: &'static str,
        edit: Edit,
        message: impl FnOnce() -> String,
    ) {
        let is_reported = self.findings.len() < FINDINGS_MAX;
        self.note(offset, Severity::Warning, code, message);
        self.n_fixable += 1;
        if let Some(finding) = self.findings.last_mut().filter(|_| is_reported) {
            finding.fixable = true;
        }
        if self.edits.len() <= EDITS_MAX {
            self.edits.push(edit);
        }
    }

    /// Adds a finding with its edit if the edit is known to be harmless, without it otherwise.
    pub(crate) fn fix_if(
        &mut self,
        is_safe: bool,
        offset: usize,
        code: &'static str,
        edit: Edit,
        message: impl FnOnce() -> String,
    ) {
        if is_safe {
            self.fix(offset, code, edit, message);
        } else {
            self.note(offset, Severity::Info, code, message);
        }
    }

    /// Whether findings were counted without being listed.
    pub(crate) fn is_truncated(&self) -> bool {
        self.n_findings > self.findings.len()
    }

    /// The size of the file after the edits.
    pub(crate) fn bytes_after(&self) -> usize {
        let inserted: usize = self.edits.iter().map(|edit| edit.insert.len()).sum();
        let removed: usize = self.edits.iter().map(|edit| edit.end - edit.start).sum();
        (self.bytes_before + inserted).saturating_sub(removed)
    }

    /// Places the findings and settles what is fixable: all edits or none.
    pub(crate) fn finish(&mut self, file: &[u8]) {
        self.bytes_before = file.len();
        if self.edits.len() > EDITS_MAX {
            self.edits.clear();
            self.n_fixable = 0;
            self.findings
                .iter_mut()
                .for_each(|finding| finding.fixable = false);
        }
        self.findings.sort_by_key(|finding| finding.offset);
        let (mut line, mut line_start, mut position) = (1, 0, 0);
        let (mut column, mut counted) = (1, 0);
        for finding in &mut self.findings {
            let passed = bytes::slice(file, position, finding.offset);
            if let Some(last) = passed.iter().rposition(|byte| *byte == b'\n') {
                line += passed.iter().filter(|byte| **byte == b'\n').count();
                line_start = position + last + 1;
                (column, counted) = (1, line_start);
            }
            position = finding.offset;
            column += bytes::n_chars(bytes::slice(file, counted, finding.offset));
            counted = finding.offset;
            finding.line = line;
            finding.column = column.min(finding.offset + 1 - line_start.min(finding.offset));
        }
    }

    /// The report as the JSON object that goes to standard output.
    pub(crate) fn json(&self) -> String {
        json::report(self)
    }
}

/// A message quotes this many characters of a file at most.
const QUOTE_CHARS_MAX: usize = 100;

/// Text of the file for a message: valid, without control characters, cut.
pub(crate) fn quote(text: &[u8]) -> String {
    let cut = bytes::slice(text, 0, QUOTE_CHARS_MAX * 4);
    let text = String::from_utf8_lossy(cut);
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(QUOTE_CHARS_MAX).collect()
}
