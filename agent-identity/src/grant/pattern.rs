//! The pattern language: small enough that whether one pattern is narrower than another is decided
//! by comparing two texts.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Which actions or targets a capability covers.
///
/// - `pay.transfer` covers exactly that text;
/// - `pay.*`, `/repo/src/*`, `https://api.example.com/v1/*` cover every text that begins with what
///   stands before the star, which ends with `.` or `/`;
/// - `*` covers everything.
///
/// A text with a `.` or `..` segment between slashes is covered by `*` alone: it would leave the
/// directory that a prefix seems to name. Nothing else is normalized, and case matters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    text: String,
    is_prefix: bool,
}

impl Pattern {
    /// The longest pattern in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Parses a pattern.
    ///
    /// # Errors
    /// `Invalid` if it is empty, too long, has a control character, a `.` or `..` segment between
    /// slashes, or a star anywhere but alone or at the end behind `.` or `/`.
    pub fn new(pattern: &str) -> Result<Self> {
        let invalid = |reason: &'static str| Err(Error::invalid("pattern", reason));
        if pattern.is_empty() || pattern.len() > Self::BYTES_MAX {
            return invalid("expected 1 to 256 bytes");
        }
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if text.contains('*') || is_prefix && !(text.is_empty() || text.ends_with(['.', '/'])) {
            return invalid("a star stands alone, or at the end behind `.` or `/`");
        }
        if text.chars().any(char::is_control) {
            return invalid("it has a control character");
        }
        if has_dot_segment(text) {
            return invalid("it has a `.` or `..` segment");
        }
        Ok(Self {
            text: text.to_owned(),
            is_prefix,
        })
    }

    /// Returns whether the pattern covers a text.
    #[must_use]
    pub fn covers(&self, text: &str) -> bool {
        if self.is_any() {
            return true;
        }
        if !self.is_prefix {
            return self.text == text;
        }
        text.starts_with(&self.text) && !has_dot_segment(text)
    }

    /// Returns whether this pattern covers every text that `narrower` covers.
    #[must_use]
    pub fn includes(&self, narrower: &Self) -> bool {
        if self.is_any() {
            return true;
        }
        if self.is_prefix {
            narrower.text.starts_with(&self.text)
        } else {
            self == narrower
        }
    }

    const fn is_any(&self) -> bool {
        self.is_prefix && self.text.is_empty()
    }
}

/// Returns whether a segment between slashes is `.` or `..`, with the backslash counted as a slash
/// since some systems do.
fn has_dot_segment(text: &str) -> bool {
    text.split(['/', '\\'])
        .any(|segment| matches!(segment, "." | ".."))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}
