//! Makes calls fail as networks and processes do, to rehearse recovery.

use std::sync::Arc;
use std::time::Duration;

use agent_core::fault::{Chaos, Fault};
use agent_core::model::ToolCall;
use agent_core::{Classify, Clock, ClockExt, Env, Retry, Scope};
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::info::ToolInfo;
use crate::outcome::ToolOutcome;
use crate::toolset::Toolset;

/// A toolset whose calls suffer the faults of a [`Chaos`]. Listing suffers none.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    chaos: Chaos,
    delay: Duration,
    clock: Arc<dyn Clock>,
}

impl<T> Faulty<T> {
    /// Puts a toolset under faults; a late answer comes after 10 s.
    #[must_use]
    pub fn new(inner: T, chaos: Chaos, env: &Env) -> Self {
        Self {
            inner,
            chaos,
            delay: Duration::from_secs(10),
            clock: Arc::clone(&env.clock),
        }
    }

    /// Sets how late a late answer is. Default: 10 s.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a method left to its default would go around this layer"
)]
impl<T: Toolset> Toolset for Faulty<T> {
    async fn list(&self, scope: &Scope) -> Result<Vec<ToolInfo>> {
        self.inner.list(scope).await
    }

    async fn call(&self, scope: &Scope, call: ToolCall) -> Result<ToolOutcome> {
        let fault = self.chaos.next();
        let name = call.name.clone();
        if fault == Fault::LostRequest
            && let Some(error) = seen(fault)
        {
            return Err(error);
        }
        if fault == Fault::Duplicate {
            // The other side sees the request twice; its caller sees the second answer.
            let _first = self.inner.call(scope, call.clone()).await;
        }
        let answer = self.inner.call(scope, call).await;
        if fault == Fault::Slow {
            scope
                .guard(&*self.clock, self.clock.sleep(self.delay))
                .await
                .map_err(|e| Error::stopped(&name, e, Retry::Unknown))?;
        }
        seen(fault).map_or(answer, Err)
    }
}

/// Returns the error a caller sees in place of the answer, where the fault has one.
fn seen(fault: Fault) -> Option<Error> {
    let error = fault.error("call the tool")?;
    let (kind, retry) = (error.kind(), error.retry());
    Some(Error::backend("chaos", "call the tool", kind, retry, error))
}
