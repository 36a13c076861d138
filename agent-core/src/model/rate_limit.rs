//! Keeps calls under a provider's rate.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::{ChatRequest, ChatStream, Model};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::scope::Scope;
use crate::time::{Clock, ClockExt};

/// The environment's clock, as the limiter reads it.
#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

impl GovernorClock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// Lets at most so many calls a period start, spread evenly after a first burst; others wait.
///
/// Callers that wait are not served in the order they came. A call whose deadline would pass while
/// it waits fails at once with `Exhausted` and the wait.
pub struct RateLimitModel<M> {
    inner: M,
    clock: Arc<dyn Clock>,
    limiter: RateLimiter<NotKeyed, InMemoryState, Monotonic, NoOpMiddleware<Duration>>,
}

impl<M: fmt::Debug> fmt::Debug for RateLimitModel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitModel")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<M: Model> RateLimitModel<M> {
    /// Wraps a model: `calls` may start at once, and one more each `period / calls`.
    ///
    /// # Errors
    /// `Invalid` if `period / calls` is less than a nanosecond.
    pub fn new(inner: M, calls: NonZeroU32, period: Duration, env: &Env) -> Result<Self> {
        let quota = Quota::with_period(period / calls.get())
            .ok_or_else(|| Error::invalid("rate limit", "a call's share of the period is zero"))?
            .allow_burst(calls);
        let clock = Arc::clone(&env.clock);
        Ok(Self {
            inner,
            limiter: RateLimiter::direct_with_clock(quota, Monotonic(Arc::clone(&clock))),
            clock,
        })
    }

    async fn wait_for_turn(&self, scope: &Scope) -> Result<()> {
        let clock = self.clock.as_ref();
        while let Err(refused) = self.limiter.check() {
            // Clocks wait in whole milliseconds, so a shorter rest must not become no wait.
            let wait = refused.wait_time_from(clock.monotonic()) + Duration::from_millis(1);
            let resumes = clock.now().after(wait);
            if scope.deadline.is_some_and(|deadline| deadline <= resumes) {
                let error = Error::backend(
                    "rate limit",
                    "start a call",
                    ErrorKind::Exhausted,
                    Retry::Safe,
                    refused.to_string(),
                );
                return Err(error.with_retry_after(wait));
            }
            scope.guard(clock, clock.sleep(wait)).await?;
        }
        Ok(())
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a default body would bypass the wrapper"
)]
impl<M: Model> Model for RateLimitModel<M> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn chat(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        self.wait_for_turn(scope).await?;
        self.inner.chat(scope, request).await
    }
}
