//! Repeats calls that had no effect.

use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream};

use super::{ChatRequest, ChatStream, Model};
use crate::entropy::EntropyExt;
use crate::env::Env;
use crate::error::{Classify, Error, Result, Retry};
use crate::scope::Scope;
use crate::time::ClockExt;

/// Repeats calls that failed with `Retry::Safe` before the first piece of their answer, after
/// exponential waits with jitter, or as long as the other side asked for.
///
/// A failure in the middle of an answer is passed on: its pieces are already with the caller. Put
/// this layer outside the rate limit, so that every attempt counts against it.
#[derive(Debug)]
pub struct RetryModel<M> {
    inner: M,
    env: Env,
    waits: ExponentialBuilder,
}

impl<M: Model> RetryModel<M> {
    /// The longest wait the other side may ask for; longer ones are the caller's decision.
    pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

    /// Wraps a model: 4 attempts, first wait 500 ms, doubled each time up to 30 s, jitter from the
    /// environment's entropy.
    #[must_use]
    pub fn new(inner: M, env: &Env) -> Self {
        let waits = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(30))
            .with_max_times(3)
            .with_jitter();
        Self {
            inner,
            env: env.clone(),
            waits,
        }
    }

    /// Sets the number of attempts, the first included. Default: 4.
    #[must_use]
    pub fn with_attempts_max(mut self, attempts: u8) -> Self {
        self.waits = self
            .waits
            .with_max_times(usize::from(attempts.saturating_sub(1)));
        self
    }

    /// Sets the first and the longest wait, without jitter. Default: 500 ms and 30 s.
    #[must_use]
    pub fn with_waits(mut self, first: Duration, longest: Duration) -> Self {
        self.waits = self.waits.with_min_delay(first).with_max_delay(longest);
        self
    }

    async fn attempt(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        let mut answer = self.inner.chat(scope, request).await?;
        let first = answer.next().await.transpose()?;
        Ok(stream::iter(first.map(Ok)).chain(answer).boxed())
    }

    /// Returns how long to wait before the next attempt, or the error if there is none.
    fn wait_after(
        &self,
        error: Error,
        backoff: &mut impl Iterator<Item = Duration>,
        scope: &Scope,
    ) -> Result<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        if error.retry() != Retry::Safe || asked > Self::RETRY_AFTER_MAX {
            return Err(error);
        }
        let Some(wait) = backoff.next().map(|wait| wait.max(asked)) else {
            return Err(error);
        };
        let resumes = self.env.clock.now().after(wait);
        if scope.deadline.is_some_and(|deadline| deadline <= resumes) {
            // The cause says more than a passed deadline would.
            return Err(error);
        }
        tracing::debug!(code = error.code(), ?wait, "a model call is repeated");
        Ok(wait)
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a default body would bypass the wrapper"
)]
impl<M: Model> Model for RetryModel<M> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn chat(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        let clock = self.env.clock.as_ref();
        let mut backoff = self
            .waits
            .with_jitter_seed(self.env.entropy.next_u64())
            .build();
        loop {
            match self.attempt(scope, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let wait = self.wait_after(error, &mut backoff, scope)?;
                    scope.guard(clock, clock.sleep(wait)).await?;
                }
            }
        }
    }
}
