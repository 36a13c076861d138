//! Records the answers of a model.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use super::cassette::{Cassette, Exchange};
use super::{ChatDelta, ChatRequest, ChatStream, Model};
use crate::effect::Digest;
use crate::error::{Failure, Result};
use crate::scope::Scope;

/// Passes calls on and records the answers, failures included. An answer whose stream the caller
/// drops before its end is not recorded, nor are those beyond [`Cassette::EXCHANGES_MAX`].
#[derive(Debug)]
pub struct RecordingModel<M> {
    inner: M,
    cassette: Arc<Mutex<Cassette>>,
}

impl<M: Model> RecordingModel<M> {
    /// Starts an empty cassette around a model.
    #[must_use]
    pub fn new(inner: M) -> Self {
        let cassette = Cassette::new(inner.name());
        Self {
            inner,
            cassette: Arc::new(Mutex::new(cassette)),
        }
    }

    /// Returns what is recorded so far; hosts write its text to a file.
    #[must_use]
    pub fn cassette(&self) -> Cassette {
        self.cassette.lock().clone()
    }
}

fn keep(cassette: &Mutex<Cassette>, exchange: Exchange) {
    let mut cassette = cassette.lock();
    if cassette.len() < Cassette::EXCHANGES_MAX {
        cassette.exchanges.push(exchange);
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a default body would bypass the wrapper"
)]
impl<M: Model> Model for RecordingModel<M> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn chat(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        let mut exchange = Exchange {
            digest: Digest::of_json(&request)?,
            request: request.clone(),
            deltas: Vec::new(),
            failure: None,
        };
        let answer = match self.inner.chat(scope, request).await {
            Ok(answer) => answer,
            Err(error) => {
                exchange.failure = Some(Failure::of(&error));
                keep(&self.cassette, exchange);
                return Err(error);
            }
        };
        let state = (answer, exchange, Arc::clone(&self.cassette));
        let recorded = stream::unfold(Some(state), |state| async {
            let (mut answer, mut exchange, cassette) = state?;
            match answer.next().await {
                Some(Ok(delta)) => {
                    exchange.deltas.push(delta.clone());
                    // Callers stop reading at the last piece, so it is kept before they see it.
                    if matches!(delta, ChatDelta::Finish { .. }) {
                        keep(&cassette, exchange);
                        return Some((Ok(delta), None));
                    }
                    Some((Ok(delta), Some((answer, exchange, cassette))))
                }
                Some(Err(error)) => {
                    exchange.failure = Some(Failure::of(&error));
                    keep(&cassette, exchange);
                    Some((Err(error), None))
                }
                None => {
                    keep(&cassette, exchange);
                    None
                }
            }
        });
        Ok(recorded.boxed())
    }
}
