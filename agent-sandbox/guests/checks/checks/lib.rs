//! Checks of one file's bytes, without IO: the host's bytes in, a bounded report out.
//!
//! Everything here runs in time linear in the input, does not recurse and does not panic, whatever
//! the bytes are: paths, options, the file and the tree all come from a repository nobody vouches
//! for.

mod bytes;
mod conflict_markers;
mod doubled_words;
mod final_newline;
mod heading;
mod json;
mod line_endings;
mod links;
mod long_lines;
mod map;
mod markdown;
pub(crate) mod report;
mod secrets;
mod source;
mod syntax;
mod todo;
mod trailing_whitespace;

pub(crate) use report::Report;

/// Larger files are not text that a person edits.
pub(crate) const FILE_BYTES_MAX: u64 = 10 << 20;

/// One check: reads the input, adds to the report.
type Check = fn(&Input<'_>, &mut Report);

/// Every check by the name that selects it.
pub(crate) const CHECKS: [(&str, Check); 9] = [
    ("conflict-markers", conflict_markers::check),
    ("doubled-words", doubled_words::check),
    ("final-newline", final_newline::check),
    ("line-endings", line_endings::check),
    ("links", links::check),
    ("long-lines", long_lines::check),
    ("secrets", secrets::check),
    ("todo", todo::check),
    ("trailing-whitespace", trailing_whitespace::check),
];

/// The rest of the repository, as far as the host shows it.
pub(crate) trait Tree {
    /// All tracked paths, newline-separated.
    fn paths(&self) -> Option<Vec<u8>>;
    /// The bytes of a file of the repository.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
}

/// What one run looks at.
pub(crate) struct Input<'a> {
    /// The file's path in the repository.
    pub(crate) path: &'a [u8],
    /// The file's bytes.
    pub(crate) bytes: &'a [u8],
    pub(crate) options: Options,
    pub(crate) tree: &'a dyn Tree,
}

/// What the host may set, as `key=value` arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// `max`: columns a line may have. Default: 120.
    pub(crate) columns_max: usize,
    /// `age_days`: days since the file last changed. Default: unknown.
    pub(crate) age_days: Option<usize>,
    /// `stale_days`: from this age on an open task is stale. Default: 365.
    pub(crate) stale_days: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            columns_max: 120,
            age_days: None,
            stale_days: 365,
        }
    }
}

impl Options {
    /// Reads `key=value` arguments.
    pub(crate) fn parse(args: &[Vec<u8>]) -> Result<Self, Error> {
        let mut options = Self::default();
        for arg in args {
            let arg = std::str::from_utf8(arg).ok().ok_or(Error::BadOption)?;
            let (key, value) = arg.split_once('=').ok_or(Error::BadOption)?;
            let value = value.parse::<usize>().ok().ok_or(Error::BadOption)?;
            match key {
                "max" => options.columns_max = value,
                "age_days" => options.age_days = Some(value),
                "stale_days" => options.stale_days = value,
                _ => return Err(Error::BadOption),
            }
        }
        Ok(options)
    }
}

/// Why there is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    /// No check has this name.
    UnknownCheck,
    /// An argument after the path is not a known key with a whole number.
    BadOption,
    /// The file has more than [`FILE_BYTES_MAX`] bytes.
    TooLarge,
    /// Standard input could not be read.
    Unreadable,
}

impl Error {
    /// The error as the JSON object that goes to standard output.
    pub(crate) fn json(self, check: &str) -> String {
        let (code, message) = match self {
            Self::UnknownCheck => ("unknown-check", "no check has this name"),
            Self::BadOption => (
                "bad-option",
                "options are max, age_days, stale_days = number",
            ),
            Self::TooLarge => ("too-large", "the file has more than 10 MiB"),
            Self::Unreadable => ("unreadable", "standard input could not be read"),
        };
        json::error(check, code, message)
    }
}

/// Runs the check of that name.
pub(crate) fn run(check: &str, input: &Input<'_>) -> Result<Report, Error> {
    let Some((name, run)) = CHECKS.iter().find(|(name, _)| *name == check) else {
        return Err(Error::UnknownCheck);
    };
    if u64::try_from(input.bytes.len()).is_ok_and(|n| n > FILE_BYTES_MAX) {
        return Err(Error::TooLarge);
    }
    let mut report = Report::new(name);
    if bytes::is_binary(input.bytes) {
        report.skip("binary");
    } else {
        run(input, &mut report);
    }
    report.finish(input.bytes);
    Ok(report)
}
