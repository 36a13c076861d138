//! The one door: every effect of every agent passes here, whatever layer it touches.
//!
//! ```text
//!  gate ──► limits ──► intent + hold ──► act ──► price ──► outcome + settle ──► event
//!  asks     wait       one commit                          one commit, fence checked
//! ```

mod approve;
mod breaker;
mod chaos;
mod doubt;
mod drift;
mod outcome;
mod throttled;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_core::{Clock, Effect, Env, Event, Gate, Scope, Timestamp};
use agent_identity::CapabilityGate;
use agent_pay::RateCard;
use parking_lot::RwLock;
use serde_json::{Value, json};

pub use breaker::BreakerState;
pub(crate) use chaos::InjectedCrash;
pub use chaos::{Chaos, FailPoint, Fault, Hook, Point};

use crate::agent::{Acted, Ctx};
use crate::error::{Error, Result};
use crate::fleet::BreakerPolicy;
use crate::journal::{Intended, Intent, Journal, StepKey};
use crate::throttle::{Gauges, Throttle};
use breaker::{Breakers, Change, Said};
use chaos::Faults;
use doubt::Resolved;

/// The door of one fleet.
pub(crate) struct Door {
    journal: Arc<dyn Journal>,
    gates: Gates,
    rates: Arc<RateCard>,
    env: Env,
    faults: Faults,
    throttle: RwLock<Arc<Throttle>>,
    breakers: Breakers,
}

/// Who decides about effects.
#[derive(Debug)]
pub(crate) struct Gates {
    /// The agents' grants.
    pub(crate) grants: Arc<CapabilityGate>,
    /// The host's own policies, asked about what the grants permit.
    pub(crate) policies: Vec<Arc<dyn Gate>>,
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
        gates: Gates,
        rates: Arc<RateCard>,
        env: Env,
        chaos: Chaos,
        breaker: BreakerPolicy,
    ) -> Self {
        let no_limits = Throttle::new(&BTreeMap::new(), &Gauges::default(), Arc::clone(&env.clock));
        Self {
            journal,
            gates,
            rates,
            throttle: RwLock::new(Arc::new(no_limits)),
            env,
            faults: Faults::new(chaos),
            breakers: Breakers::new(breaker),
        }
    }

    /// Sets the limits effects wait for. Default: none.
    pub(crate) fn with_throttle(self, throttle: Throttle) -> Self {
        *self.throttle.write() = Arc::new(throttle);
        self
    }

    /// Changes the limits of effects that begin from then on, and when breakers open.
    pub(crate) fn reconfigure(&self, throttle: Throttle, breaker: BreakerPolicy) {
        *self.throttle.write() = Arc::new(throttle);
        self.breakers.set_policy(breaker);
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.env.clock.as_ref()
    }

    /// Returns the breakers that do not let every call through, by `tenant/action/target`.
    pub(crate) fn tripped(&self) -> BTreeMap<String, BreakerState> {
        self.breakers.tripped()
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
        mut intent: Intent,
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
        let at = (&step, &effect);
        cx.scope.check(clock)?;
        intent.charge = self.admit(cx, &step, &effect).await?;
        let passage = self.throttled(cx, &intent).await?;
        self.faults.meet(cx, Point::BeforeIntent, at).await?;
        let pass = match self.intend(cx, intent.clone()).await? {
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
        let acted = self.act(cx, scope, at, act).await;
        passage.end(clock, &acted);
        if let Err(Error::LeaseLost { .. }) = acted {
            // The intent stays in doubt for whoever holds the task.
            return acted.map(|acted| acted.value);
        }
        let (result, outcome) = self.outcome(&effect, &pass, acted)?;
        cx.pulse.outcome(&outcome);
        self.journal
            .settle(&cx.scope, lease, &pass, outcome)
            .await?;
        self.faults.meet(cx, Point::AfterOutcome, at).await?;
        tracing::trace!(task = %lease.task, action = effect.action, "effect ended");
        result
    }

    /// Stops whoever slept past the end of its lease: another holder may be causing the effect.
    fn check_lease(&self, cx: &Ctx) -> Result<()> {
        if self.now().as_unix_ms() < cx.until_ms.load(Ordering::Acquire) {
            return Ok(());
        }
        let (task, fence) = (cx.lease.task, cx.lease.fence);
        Err(Error::LeaseLost { task, fence })
    }

    /// Asks the other side, unless it has not answered lately.
    async fn act<F, Fut>(
        &self,
        cx: &Ctx,
        scope: Scope,
        at: (&StepKey, &Effect),
        act: F,
    ) -> Result<Acted<Value>>
    where
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<Value>>> + Send,
    {
        let (_, effect) = at;
        let (admitted, change) = self.breakers.admit(self.now(), &scope, effect);
        self.note_breaker(&scope, effect, change).await;
        let admitted = admitted?;
        let acted = self.ask(cx, scope.clone(), at, act).await;
        let change = self
            .breakers
            .record(self.now(), &admitted, Said::by(&acted));
        self.note_breaker(&scope, effect, change).await;
        acted
    }

    async fn ask<F, Fut>(
        &self,
        cx: &Ctx,
        scope: Scope,
        at: (&StepKey, &Effect),
        act: F,
    ) -> Result<Acted<Value>>
    where
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<Value>>> + Send,
    {
        let clock = self.env.clock.as_ref();
        self.faults.meet(cx, Point::AfterIntent, at).await?;
        self.check_lease(cx)?;
        let guarded = scope.clone();
        let acted = guarded.guard(clock, act(scope)).await??;
        self.faults.meet(cx, Point::AfterEffect, at).await?;
        Ok(acted)
    }

    async fn note_breaker(&self, scope: &Scope, effect: &Effect, change: Change) {
        let Some(state) = change else { return };
        let payload = json!({
            "action": effect.action, "target": effect.target, "tenant": *scope.tenant,
            "state": state,
        });
        let event = Event::new(scope, self.now(), state.event(), payload);
        // Agents go on even when the journal cannot be reached; their own writes will tell.
        if let Err(error) = self.journal.note(event).await {
            tracing::warn!(%error, "a breaker's change was not recorded");
        }
    }
}
