//! Plays recorded answers.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use super::cassette::{Cassette, Exchange};
use super::{ChatRequest, ChatStream, Model};
use crate::effect::{Digest, canonical_json};
use crate::error::{Error, ErrorKind, Failure, Result, Retry};
use crate::scope::Scope;

/// Answers requests from a [`Cassette`], matched by the digest of their canonical JSON. The same
/// request made again gets its recorded answers in order.
///
/// Recorded failures fail with the recorded kind and wait. A request that is not recorded fails
/// with `NotFound` and a [`NotRecorded`] as source.
#[derive(Debug)]
pub struct ReplayModel {
    model: String,
    requests: Vec<(Digest, Vec<u8>)>,
    answers: Mutex<BTreeMap<Digest, VecDeque<Exchange>>>,
}

/// A request the cassette has no answer to, with the recorded request most like it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(self))]
#[non_exhaustive]
pub struct NotRecorded {
    /// The request.
    pub request: Digest,
    /// The recorded request with the longest common beginning; the request itself if its answers
    /// are used up.
    pub nearest: Option<Digest>,
    /// How the request goes on from where it differs from the nearest.
    pub found: String,
    /// How the nearest goes on from there.
    pub recorded: String,
}

fn describe(missing: &NotRecorded) -> String {
    match missing.nearest {
        None => format!("nothing is recorded to answer {}", missing.request),
        Some(nearest) if nearest == missing.request => {
            format!("all recorded answers to {nearest} are used up")
        }
        Some(nearest) => format!(
            "no answer is recorded to {}; the nearest is {nearest}, which has `{}` for `{}`",
            missing.request, missing.recorded, missing.found
        ),
    }
}

impl ReplayModel {
    /// The longest excerpt of a request in an error, in bytes.
    const EXCERPT_BYTES: usize = 80;

    /// Prepares the recorded answers.
    ///
    /// # Errors
    /// `Invalid` if a recorded request has no canonical JSON.
    pub fn new(cassette: Cassette) -> Result<Self> {
        let mut requests = Vec::new();
        let mut answers: BTreeMap<Digest, VecDeque<Exchange>> = BTreeMap::new();
        for exchange in cassette.exchanges {
            let queue = answers.entry(exchange.digest).or_default();
            if queue.is_empty() {
                requests.push((exchange.digest, canonical_json(&exchange.request)?));
            }
            queue.push_back(exchange);
        }
        Ok(Self {
            model: cassette.model,
            requests,
            answers: Mutex::new(answers),
        })
    }

    fn not_recorded(&self, digest: Digest, request: &ChatRequest) -> Result<NotRecorded> {
        let wanted = canonical_json(request)?;
        let common = |recorded: &[u8]| {
            wanted
                .iter()
                .zip(recorded)
                .take_while(|(a, b)| a == b)
                .count()
        };
        let nearest = self
            .requests
            .iter()
            .max_by_key(|(recorded_digest, recorded)| {
                (*recorded_digest == digest, common(recorded))
            });
        let from = nearest.map_or(0, |(_digest, recorded)| common(recorded));
        let excerpt = |bytes: &[u8]| {
            let rest = bytes.iter().skip(from).take(Self::EXCERPT_BYTES);
            String::from_utf8_lossy(&rest.copied().collect::<Vec<_>>()).into_owned()
        };
        Ok(NotRecorded {
            request: digest,
            nearest: nearest.map(|(digest, _recorded)| *digest),
            found: excerpt(&wanted),
            recorded: nearest.map_or_else(String::new, |(_digest, recorded)| excerpt(recorded)),
        })
    }
}

#[async_trait]
impl Model for ReplayModel {
    fn name(&self) -> &str {
        &self.model
    }

    async fn chat(&self, _scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        let digest = Digest::of_json(&request)?;
        let next = self
            .answers
            .lock()
            .get_mut(&digest)
            .and_then(VecDeque::pop_front);
        let Some(exchange) = next else {
            let missing = self.not_recorded(digest, &request)?;
            let kind = ErrorKind::NotFound;
            return Err(Error::backend(
                "replay",
                "answer",
                kind,
                Retry::Never,
                missing,
            ));
        };
        let end = exchange.failure.map(recorded_error);
        match end {
            Some(error) if exchange.deltas.is_empty() => Err(error),
            end => {
                let deltas = exchange.deltas.into_iter().map(Ok);
                Ok(stream::iter(deltas.chain(end.map(Err))).boxed())
            }
        }
    }
}

fn recorded_error(failure: Failure) -> Error {
    let wait = failure.retry_after_ms.map(std::time::Duration::from_millis);
    let error = Error::backend("replay", "answer", failure.kind, failure.retry, failure);
    match wait {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}
