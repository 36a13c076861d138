//! The chain as JSON Lines, to be kept and verified anywhere.
//!
//! ```text
//! {"format":"agent-orch audit","version":1}
//! {"record":{"version":2,"seq":1,…,"body":"{…}","previous":"…","hash":"…"}}
//! …
//! {"end":{"records":…,"head":"…"}}
//! ```
//!
//! A record has the fields of [`Record`]. `body` is the payload's text, exactly as it was hashed, or
//! null if it was erased; signed roots are the bodies of the records of kind `audit.root`. A file
//! without its end was cut off.

use std::io::{BufRead, Read};
use std::sync::Arc;

use agent_core::Digest;
use serde::{Deserialize, Serialize};

use super::{Audit, Checker, EventQuery, Record, Verification, broken};
use crate::error::{Error, Result};
use crate::journal::Journal;

/// What the first line calls the format.
const FORMAT: &str = "agent-orch audit";
const VERSION: u32 = 1;
/// The longest line in bytes: the largest payload with each byte of it escaped.
const LINE_BYTES_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Record(Box<Record>),
    End(End),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    records: u64,
    head: Digest,
}

/// An export in progress: ask for page after page and write each where it belongs. It has the
/// records that were there when it began.
#[derive(Debug)]
pub struct Export {
    journal: Arc<dyn Journal>,
    after: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Begin,
    Until(Audit),
    Done,
}

impl Export {
    /// Prepares the export of a whole chain.
    #[must_use]
    pub const fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            after: 0,
            state: State::Begin,
        }
    }

    /// Returns the next lines, `None` after the last.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe: asked again, it returns the same page.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let mut page = String::new();
        match &self.state {
            State::Begin => {
                let header = Header {
                    format: FORMAT.to_owned(),
                    version: VERSION,
                };
                line(&mut page, &header)?;
                self.state = State::Until(self.journal.head().await?);
            }
            State::Until(end) if self.after >= end.records => {
                let (records, head) = (end.records, end.head);
                line(&mut page, &Line::End(End { records, head }))?;
                self.state = State::Done;
            }
            State::Until(end) => {
                let mut records = self.journal.events(EventQuery::after(self.after)).await?;
                records.retain(|record| record.seq <= end.records);
                // A gap shows when the export is verified; it must not stop the export.
                let last = records.last().map_or(end.records, |record| record.seq);
                for record in records {
                    line(&mut page, &Line::Record(Box::new(record)))?;
                }
                self.after = last;
            }
            State::Done => return Ok(None),
        }
        Ok(Some(page))
    }
}

fn line<T: Serialize>(page: &mut String, value: &T) -> Result<()> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::invalid("audit export", e.to_string()))?;
    page.push_str(&text);
    page.push('\n');
    Ok(())
}

/// Verifies an exported chain without a store: everything [`Journal::verify_with`] finds in the
/// records and their roots.
///
/// # Errors
/// [`Error::AuditBroken`] naming the first record that was altered, removed, reordered or cut off;
/// `Invalid` if it is another format or a later version of it, or cannot be read.
pub fn verify_export(mut reader: impl BufRead, how: Verification) -> Result<Audit> {
    let mut text = Vec::new();
    let header: Header = match read_line(&mut reader, &mut text)? {
        Some(line) => serde_json::from_slice(line).map_err(|e| unreadable(&e))?,
        None => return Err(Error::invalid("audit export", "it is empty")),
    };
    if header.format != FORMAT || header.version != VERSION {
        let found = format!(
            "it is {} {}, not {FORMAT} {VERSION}",
            header.format, header.version
        );
        return Err(Error::invalid("audit export", found));
    }
    let start = how.start().map_or(0, |root| root.seq);
    let mut checker = Checker::new(how)?;
    while let Some(line) = read_line(&mut reader, &mut text)? {
        let Ok(line) = serde_json::from_slice(line) else {
            return checker.broken_next("cannot be read");
        };
        match line {
            // What lies before a trusted root was verified when it was signed.
            Line::Record(record) if record.seq < start => {}
            Line::Record(record) if record.seq == start => {
                if checker.last() != (record.seq, record.hash) {
                    return broken(start, "is not the one a signed root stands for");
                }
            }
            Line::Record(record) => checker.record(&record)?,
            Line::End(end) => {
                if checker.last() != (end.records, end.head) {
                    return checker.broken_next("was cut off");
                }
                if read_line(&mut reader, &mut text)?.is_some() {
                    return checker.broken_next("follows the end");
                }
                return checker.finish();
            }
        }
    }
    checker.broken_next("was cut off")
}

fn read_line<'t>(reader: &mut impl BufRead, text: &'t mut Vec<u8>) -> Result<Option<&'t [u8]>> {
    text.clear();
    let n_bytes = reader
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', text)
        .map_err(|e| unreadable(&e))?;
    Ok((n_bytes > 0).then_some(text.as_slice()))
}

fn unreadable(error: &dyn std::error::Error) -> Error {
    Error::invalid("audit export", error.to_string())
}
