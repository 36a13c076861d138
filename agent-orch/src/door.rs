//! The one door: every effect of every agent passes here, whatever layer it touches.
//!
//! ```text
//!  gate ──► intent + hold ──► act ──► price ──► outcome + settle ──► event
//!  asks     one commit                          one commit, fence checked
//! ```

mod approve;
mod chaos;
mod doubt;
mod outcome;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_core::{Effect, Env, Gate, Scope, Timestamp};
use agent_pay::RateCard;
use serde_json::Value;

pub(crate) use chaos::InjectedCrash;
pub use chaos::{Chaos, FailPoint, Fault, Hook, Point};

use crate::agent::{Acted, Ctx};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Journal, StepKey};
use crate::task::Lease;
use chaos::Faults;
use doubt::Resolved;

/// The door of one fleet.
pub(crate) struct Door {
    journal: Arc<dyn Journal>,
    gate: Arc<dyn Gate>,
    rates: Arc<RateCard>,
    env: Env,
    faults: Faults,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Door {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        gate: Arc<dyn Gate>,
        rates: Arc<RateCard>,
        env: Env,
        chaos: Chaos,
    ) -> Self {
        Self {
            journal,
            gate,
            rates,
            env,
            faults: Faults::new(chaos),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.clock.now()
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        self.journal.as_ref()
    }

    /// Lets one effect through.
    pub(crate) async fn pass<P, PFut, F, Fut>(
        &self,
        cx: &Ctx,
        intent: Intent,
        probe: P,
        act: F,
    ) -> Result<Value>
    where
        P: FnOnce(Scope) -> PFut + Send,
        PFut: Future<Output = Result<Option<Value>>> + Send,
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<Value>>> + Send,
    {
        let (clock, lease) = (self.env.clock.as_ref(), &cx.lease);
        let (effect, step) = (intent.effect.clone(), intent.step.clone());
        let at = (lease, &step, &effect);
        cx.scope.check(clock)?;
        self.admit(cx, &effect).await?;
        self.faults.meet(clock, Point::BeforeIntent, at).await?;
        let pass = match self
            .journal
            .intend(&cx.scope, lease, intent.clone())
            .await?
        {
            Intended::Recorded(value) => return Ok(value),
            Intended::Go(pass) => pass,
            Intended::InDoubt(pass) => {
                let scope = cx.scope.clone().with_idempotency_key(pass.key.clone());
                match self.resolve(cx, intent, &pass, probe(scope)).await? {
                    Resolved::Happened(value) => return Ok(value),
                    Resolved::Again(pass) => pass,
                }
            }
        };
        let scope = cx.scope.child().with_idempotency_key(pass.key.clone());
        let acted = match self.faults.meet(clock, Point::AfterIntent, at).await {
            Ok(()) => {
                self.check_lease(cx)?;
                self.act(scope, at, act).await
            }
            Err(fault) => Err(fault),
        };
        let (result, outcome) = self.outcome(&effect, &pass, acted)?;
        self.journal
            .settle(&cx.scope, lease, &pass, outcome)
            .await?;
        self.faults.meet(clock, Point::AfterOutcome, at).await?;
        tracing::trace!(task = %lease.task, action = effect.action, "effect ended");
        result
    }

    /// Stops whoever slept past the end of its lease: another holder may be causing the effect. The
    /// intent stays in doubt for that one.
    fn check_lease(&self, cx: &Ctx) -> Result<()> {
        if self.now().as_unix_ms() < cx.until_ms.load(Ordering::Acquire) {
            return Ok(());
        }
        let (task, fence) = (cx.lease.task, cx.lease.fence);
        Err(Error::LeaseLost { task, fence })
    }

    async fn act<F, Fut>(
        &self,
        scope: Scope,
        at: (&Lease, &StepKey, &Effect),
        act: F,
    ) -> Result<Acted<Value>>
    where
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<Value>>> + Send,
    {
        let clock = self.env.clock.as_ref();
        let guarded = scope.clone();
        let acted = guarded.guard(clock, act(scope)).await??;
        self.faults.meet(clock, Point::AfterEffect, at).await?;
        Ok(acted)
    }
}
