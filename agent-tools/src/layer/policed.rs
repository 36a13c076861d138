//! Lets only the calls pass that a policy allows, and counts them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use agent_core::model::ToolCall;
use agent_core::{Clock, Env, Retry, Scope};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::info::ToolInfo;
use crate::outcome::ToolOutcome;
use crate::policy::{Decision, Policy, Rule};
use crate::toolset::Toolset;

/// A toolset under a [`Policy`].
///
/// Tools that no call can reach are not listed, and calling one says that it does not exist only
/// if the policy allows it: a refusal tells nothing about hidden tools. A call is counted when it
/// is let through, whatever becomes of it. Counts are in memory and belong to this layer alone.
#[derive(Debug)]
pub struct Policed<T> {
    inner: T,
    policy: Policy,
    clock: Arc<dyn Clock>,
    counts: Mutex<BTreeMap<usize, Count>>,
}

/// What one rule has let through.
#[derive(Debug, Default)]
struct Count {
    calls: u32,
    /// When the calls of the last minute passed; at most [`Rule::PER_MINUTE_MAX`].
    recent: VecDeque<Duration>,
}

impl<T> Policed<T> {
    const WINDOW: Duration = Duration::from_secs(60);

    /// Puts a toolset under a policy.
    #[must_use]
    pub fn new(inner: T, policy: Policy, env: &Env) -> Self {
        Self {
            inner,
            policy,
            clock: Arc::clone(&env.clock),
            counts: Mutex::new(BTreeMap::new()),
        }
    }

    /// Decides about a call as [`Toolset::call`] would, and counts it if it may pass.
    pub fn admit(&self, call: &ToolCall) -> Decision {
        match self.policy.apply(call) {
            (decision, Some((place, rule))) => self.count(place, rule, decision),
            (denial, None) => denial,
        }
    }

    fn count(&self, place: usize, rule: &Rule, decision: Decision) -> Decision {
        let now = self.clock.monotonic();
        let mut counts = self.counts.lock();
        let count = counts.entry(place).or_default();
        if let Some(calls_max) = rule.calls_max()
            && count.calls >= calls_max
        {
            return Decision::CallLimit {
                rule: rule.name().to_owned(),
                calls_max,
            };
        }
        if let Some(per_minute_max) = rule.per_minute_max() {
            let over = |passed: &Duration| now.saturating_sub(*passed) >= Self::WINDOW;
            while count.recent.front().is_some_and(over) {
                count.recent.pop_front();
            }
            let is_full = u32::try_from(count.recent.len()).is_ok_and(|n| n >= per_minute_max);
            if is_full {
                // Without any call a minute the window never opens: one window is the answer.
                let oldest = count.recent.front().copied().unwrap_or(now);
                return Decision::RateLimit {
                    rule: rule.name().to_owned(),
                    retry_after: (oldest + Self::WINDOW).saturating_sub(now),
                };
            }
            count.recent.push_back(now);
        }
        count.calls = count.calls.saturating_add(1);
        drop(counts);
        decision
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a method left to its default would go around this layer"
)]
impl<T: Toolset> Toolset for Policed<T> {
    async fn list(&self, scope: &Scope) -> Result<Vec<ToolInfo>> {
        let mut tools = self.inner.list(scope).await?;
        tools.retain(|tool| self.policy.may_call(&tool.spec.name));
        Ok(tools)
    }

    async fn call(&self, scope: &Scope, call: ToolCall) -> Result<ToolOutcome> {
        scope
            .check(&*self.clock)
            .map_err(|e| Error::stopped(&call.name, e, Retry::Safe))?;
        let decision = self.admit(&call);
        tracing::debug!(%decision, "policy decided");
        if !decision.is_allow() {
            return Err(Error::refused(&call.name, decision));
        }
        self.inner.call(scope, call).await
    }
}
