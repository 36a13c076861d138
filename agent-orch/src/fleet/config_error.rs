//! What is wrong with a manifest: where, what, and what to write there, as data.

use std::fmt;

/// A manifest, or a fleet built in Rust, does not make sense at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The line in the text, counted from one; none for a fleet that was built in Rust.
    pub line: Option<u32>,
    /// The full key, such as `pool.menders.size`; empty if the text is no TOML at all.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What to write where a manifest is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// This name: the known one that is nearest.
    Rename(String),
    /// One of these.
    OneOf(Vec<String>),
    /// This key or table is to be added.
    Add(String),
    /// A value of this form.
    Write(String),
    /// Nothing: the key or value is to be taken out.
    Remove,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename(name) => write!(f, "write `{name}`"),
            Self::OneOf(names) => write!(f, "write one of `{}`", names.join("`, `")),
            Self::Add(what) => write!(f, "add `{what}`"),
            Self::Write(form) => write!(f, "write {form}"),
            Self::Remove => f.write_str("take it out"),
        }
    }
}

impl Remedy {
    /// The largest share of a name, in percent, that a typing error changes.
    const TYPO_PERCENT_MAX: usize = 40;

    /// Suggests the nearest known name, or all of them if none is near.
    pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let near = known
            .iter()
            .map(|candidate| (distance(name, candidate), *candidate))
            .min()
            .filter(|(n_edits, _)| n_edits * 100 <= name.len() * Self::TYPO_PERCENT_MAX);
        match (near, known.is_empty()) {
            (Some((_, candidate)), _) => Self::Rename(candidate.to_owned()),
            (None, true) => Self::Remove,
            (None, false) => Self::OneOf(known.into_iter().map(str::to_owned).collect()),
        }
    }
}

/// Counts the single-character edits between two names.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, a) in one.chars().enumerate() {
        let mut diagonal = n;
        let mut left = n.saturating_add(1);
        let mut next = vec![left];
        for (b, above) in other.iter().zip(row.iter().skip(1)) {
            let changed = diagonal.saturating_add(usize::from(a != *b));
            left = changed
                .min(left.saturating_add(1))
                .min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

impl ConfigError {
    /// Describes a mistake whose line is not known.
    pub(crate) fn new(key: impl Into<String>, reason: impl Into<String>, remedy: Remedy) -> Self {
        Self {
            line: None,
            key: key.into(),
            reason: reason.into(),
            remedy,
        }
    }

    /// Describes the name of something that is not there.
    pub(crate) fn unknown<'a>(
        key: impl Into<String>,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let remedy = match Remedy::nearest(name, known) {
            Remedy::Rename(near) => Remedy::Rename(near),
            _ => Remedy::Add(format!("[{what}.{name}]")),
        };
        Self::new(key, format!("there is no {what} `{name}`"), remedy)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for ConfigError {}
