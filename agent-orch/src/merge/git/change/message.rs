//! The message of a change: trailers at its end, and the signatures around it.

use std::str::FromStr;

use git2::{Signature, Time};

use crate::merge::error::{Error, Result};
use crate::merge::git::open::failed;

/// Parses the id in a trailer.
pub(in crate::merge::git) fn trailer_id<T: FromStr>(value: Option<&str>) -> Result<T> {
    value
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::invalid("change", "a trailer is missing or malformed"))
}

/// Appends trailers as the last paragraph: earlier paragraphs, which an agent wrote, cannot pass
/// for it.
pub(in crate::merge::git) fn with_trailers(message: &str, trailers: &[(String, String)]) -> String {
    let lines: Vec<String> = trailers
        .iter()
        .map(|(k, v)| format!("{k}: {v}\n"))
        .collect();
    format!("{message}\n\n{}", lines.concat())
}

/// Returns the subject and the trailers of the last paragraph.
pub(in crate::merge::git) fn parse_message(message: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(message);
    let subject = text.lines().next().unwrap_or_default().to_owned();
    let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let pair = |line: &str| {
        line.split_once(": ")
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
    };
    (subject, last.lines().filter_map(pair).collect())
}

/// Names an author or committer at a time in seconds.
pub(in crate::merge::git) fn signature_of(name: &str, seconds: i64) -> Result<Signature<'static>> {
    let email = format!("{name}@agents.invalid");
    Signature::new(name, &email, &Time::new(seconds, 0)).map_err(failed("name an author"))
}
