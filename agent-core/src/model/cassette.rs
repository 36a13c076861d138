//! Recorded answers as JSON Lines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ChatDelta, ChatRequest};
use crate::effect::Digest;
use crate::error::{Error, Failure, Result};

/// Recorded answers of one model: [`super::RecordingModel`] makes it, [`super::ReplayModel`] plays
/// it. Written and parsed as JSON Lines: a header with the format's version, then one exchange a
/// line. It holds whole requests and answers, as private as the chat itself; credentials are not
/// part of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Cassette {
    pub(super) model: String,
    pub(super) exchanges: Vec<Exchange>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) digest: Digest,
    pub(super) request: ChatRequest,
    pub(super) deltas: Vec<ChatDelta>,
    /// How the stream failed, where it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    cassette: u32,
    model: String,
}

impl Cassette {
    /// The version of the format.
    pub const VERSION: u32 = 1;
    /// The most exchanges of one cassette: far more than one recorded run needs.
    pub const EXCHANGES_MAX: usize = 10_000;

    pub(super) fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            exchanges: Vec::new(),
        }
    }

    /// Returns the recorded model's name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Returns how many answers are recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Returns whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }
}

impl fmt::Display for Cassette {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = Header {
            cassette: Self::VERSION,
            model: self.model.clone(),
        };
        let json = |e: Result<String, serde_json::Error>| e.map_err(|_json| fmt::Error);
        writeln!(f, "{}", json(serde_json::to_string(&header))?)?;
        self.exchanges
            .iter()
            .try_for_each(|exchange| writeln!(f, "{}", json(serde_json::to_string(exchange))?))
    }
}

impl FromStr for Cassette {
    type Err = Error;

    /// Parses JSON Lines; refuses another version, a request that does not have its digest, and
    /// more than [`Self::EXCHANGES_MAX`] exchanges.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |e: serde_json::Error| Error::invalid("cassette", e.to_string());
        let mut lines = text.lines();
        let header: Header = serde_json::from_str(lines.next().unwrap_or_default()).map_err(bad)?;
        if header.cassette != Self::VERSION {
            let reason = format!("version {} is not known", header.cassette);
            return Err(Error::invalid("cassette", reason));
        }
        let mut cassette = Self::new(&header.model);
        for line in lines {
            if cassette.len() == Self::EXCHANGES_MAX {
                return Err(Error::invalid("cassette", "it has too many exchanges"));
            }
            let exchange: Exchange = serde_json::from_str(line).map_err(bad)?;
            if Digest::of_json(&exchange.request)? != exchange.digest {
                let reason = format!("the request of {} was changed", exchange.digest);
                return Err(Error::invalid("cassette", reason));
            }
            cassette.exchanges.push(exchange);
        }
        Ok(cassette)
    }
}
