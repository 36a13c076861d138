//! Bounds the calls of a toolset that does not bound them itself.

use std::sync::Arc;

use agent_core::model::ToolCall;
use agent_core::{Clock, Env, Retry, Scope};
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::info::ToolInfo;
use crate::limits::Limits;
use crate::outcome::ToolOutcome;
use crate::toolset::Toolset;

/// A toolset under [`Limits`].
#[derive(Debug)]
pub struct Limited<T> {
    inner: T,
    limits: Limits,
    clock: Arc<dyn Clock>,
}

impl<T> Limited<T> {
    /// Puts a toolset under limits.
    #[must_use]
    pub fn new(inner: T, limits: Limits, env: &Env) -> Self {
        Self {
            inner,
            limits,
            clock: Arc::clone(&env.clock),
        }
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a method left to its default would go around this layer"
)]
impl<T: Toolset> Toolset for Limited<T> {
    async fn list(&self, scope: &Scope) -> Result<Vec<ToolInfo>> {
        self.inner.list(scope).await
    }

    async fn call(&self, scope: &Scope, call: ToolCall) -> Result<ToolOutcome> {
        self.limits.check_arguments(&call)?;
        scope
            .check(&*self.clock)
            .map_err(|e| Error::stopped(&call.name, e, Retry::Safe))?;
        let name = call.name.clone();
        let scope = self.limits.narrow(scope, &*self.clock);
        let outcome = scope
            .guard(&*self.clock, self.inner.call(&scope, call))
            .await
            .map_err(|e| Error::stopped(&name, e, Retry::Unknown))??;
        Ok(self.limits.clip(outcome))
    }
}
