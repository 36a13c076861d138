//! The one door: every effect of every agent passes here, whatever layer it touches.
//!
//! ```text
//!  gate ──► intent + hold ──► act ──► price ──► outcome + settle ──► event
//!  asks     one commit                          one commit, fence checked
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    Amount, ClockExt, Effect, EffectClass, Entropy, EntropyExt, Env, ErrorKind, Failure, Gate,
    Retry, Scope, Timestamp, UsageRecord, Verdict,
};
use agent_pay::RateCard;
use serde_json::{Value, json};

use crate::agent::{Acted, Ctx};
use crate::error::{Error, Result, failure_of};
use crate::journal::{Intended, Intent, Journal, Outcome, Pass};

/// Faults to inject at the door, for trying out recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chaos {
    /// How many of a million effects meet a fault.
    pub per_million: u32,
}

impl Chaos {
    /// The code of every injected failure begins with this.
    pub const CODE: &'static str = "chaos.";

    /// Injects faults into `per_million` of a million effects.
    #[must_use]
    pub const fn new(per_million: u32) -> Self {
        Self { per_million }
    }

    fn draw(self, entropy: &dyn Entropy) -> Option<Fault> {
        if !entropy.chance(self.per_million) {
            return None;
        }
        Some(match entropy.next_u64() % 4 {
            0 => Fault::LostRequest,
            1 => Fault::LostAnswer,
            2 => Fault::Slow,
            _ => Fault::Crash,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LostRequest,
    LostAnswer,
    Slow,
    Crash,
}

impl Fault {
    const fn code(self) -> &'static str {
        match self {
            Self::LostRequest => "chaos.lost_request",
            Self::LostAnswer => "chaos.lost_answer",
            Self::Slow => "chaos.slow",
            Self::Crash => "chaos.crash",
        }
    }

    fn failure(self, retry: Retry) -> Failure {
        let fix = "none needed: recovery handles it";
        Failure::new(
            ErrorKind::Unavailable,
            retry,
            self.code(),
            "an injected fault",
            fix,
        )
    }
}

/// The payload of an injected crash, which unwinds the agent like a panic but prints nothing.
#[derive(Debug)]
pub(crate) struct InjectedCrash;

/// How long an injected delay lasts.
const SLOW: Duration = Duration::from_millis(20);

/// The door of one fleet.
pub(crate) struct Door {
    journal: Arc<dyn Journal>,
    gate: Arc<dyn Gate>,
    rates: Arc<RateCard>,
    env: Env,
    chaos: Chaos,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("chaos", &self.chaos)
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
            chaos,
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
        cx.scope.check(self.env.clock.as_ref())?;
        self.admit(cx, &intent.effect).await?;
        let (effect, lease) = (intent.effect.clone(), &cx.lease);
        let pass = match self.journal.intend(&cx.scope, lease, intent).await? {
            Intended::Recorded(value) => return Ok(value),
            Intended::Go(pass) => pass,
            Intended::InDoubt(pass) => {
                let scope = cx.scope.clone().with_idempotency_key(pass.key.clone());
                if let Some(value) = self.resolve(cx, &effect, &pass, probe(scope)).await? {
                    let outcome = Outcome::new(Ok(value.clone()));
                    self.journal
                        .settle(&cx.scope, lease, &pass, outcome)
                        .await?;
                    return Ok(value);
                }
                pass
            }
        };
        let scope = cx.scope.child().with_idempotency_key(pass.key.clone());
        let acted = self.act(&effect, scope, act).await;
        let (result, outcome) = self.outcome(cx, &effect, &pass, acted)?;
        self.journal
            .settle(&cx.scope, lease, &pass, outcome)
            .await?;
        result
    }

    /// Asks the gate, and a person where the gate says so.
    async fn admit(&self, cx: &Ctx, effect: &Effect) -> Result<()> {
        let refused = |code, reason| Error::Refused {
            action: effect.action.clone(),
            target: effect.target.clone(),
            code,
            reason,
        };
        match self.gate.check(&cx.scope, effect).await? {
            Verdict::Allow => Ok(()),
            Verdict::Deny { code, reason, .. } => Err(refused(code, reason)),
            Verdict::Ask { code, reason, .. } => {
                let digest = effect.digest()?;
                let question = format!("May {} {}? {reason}", effect.action, effect.target);
                let name = format!("approve/{digest}");
                let mut request = cx.question(&name, &question, &["approve", "deny"]);
                request.effect = Some(digest);
                request.details = json!({ "code": code, "effect": effect });
                match cx.put_question(request).await?.as_str() {
                    "approve" => Ok(()),
                    _ => Err(refused(code, "a person said no".to_owned())),
                }
            }
            _ => Err(refused(
                "gate.unknown".to_owned(),
                "the verdict is not known".to_owned(),
            )),
        }
    }

    /// Finds out whether an effect happened: by probe, else by a person.
    async fn resolve<Fut>(
        &self,
        cx: &Ctx,
        effect: &Effect,
        pass: &Pass,
        probe: Fut,
    ) -> Result<Option<Value>>
    where
        Fut: Future<Output = Result<Option<Value>>> + Send,
    {
        if pass.class == EffectClass::Probeable {
            return probe.await;
        }
        let name = format!("in_doubt/{}/{}", pass.step.name, pass.step.ordinal);
        let question = format!(
            "Did {} on {} happen before the crash? Its idempotency key is {}.",
            effect.action,
            effect.target,
            pass.key.as_str()
        );
        let mut request = cx.question(&name, &question, &["it happened", "repeat it", "give up"]);
        request.reject = Some("give up".to_owned());
        request.details = json!({ "effect": effect });
        match cx.put_question(request).await?.as_str() {
            "it happened" => Ok(Some(Value::Null)),
            "repeat it" => Ok(None),
            _ => Err(Error::InDoubt {
                action: effect.action.clone(),
                target: effect.target.clone(),
            }),
        }
    }

    async fn act<F, Fut>(&self, effect: &Effect, scope: Scope, act: F) -> Result<Acted<Value>>
    where
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<Value>>> + Send,
    {
        let fault = self.chaos.draw(self.env.entropy.as_ref());
        match fault {
            Some(Fault::LostRequest) => {
                return Err(Error::Agent(Fault::LostRequest.failure(Retry::Safe)));
            }
            Some(Fault::Crash) => std::panic::resume_unwind(Box::new(InjectedCrash)),
            Some(Fault::Slow) => self.env.clock.sleep(SLOW).await,
            Some(Fault::LostAnswer) | None => {}
        }
        let guarded = scope.clone();
        let acted = guarded.guard(self.env.clock.as_ref(), act(scope)).await??;
        if fault == Some(Fault::LostAnswer) {
            tracing::debug!(action = effect.action, "an answer is lost on purpose");
            return Err(Error::Agent(Fault::LostAnswer.failure(Retry::Unknown)));
        }
        Ok(acted)
    }

    /// Prices what was consumed and forms the record of the outcome.
    fn outcome(
        &self,
        cx: &Ctx,
        effect: &Effect,
        pass: &Pass,
        acted: Result<Acted<Value>>,
    ) -> Result<(Result<Value>, Outcome)> {
        let acted = match acted {
            Ok(acted) => acted,
            Err(error) => {
                let outcome = Outcome::new(Err(failure_of(&error)));
                return Ok((Err(error), outcome));
            }
        };
        let mut outcome = Outcome::new(Ok(acted.value.clone()));
        if let Some(max) = effect.cost_max {
            let mut cost = Amount::zero(max.asset());
            for (resource, usage) in &acted.usage {
                cost = cost.plus(self.rates.price(resource, usage)?)?;
            }
            // More than was held cannot be posted; the excess is the estimate's fault and stays
            // visible in the usage records.
            let over = cost.compare(&max)? == std::cmp::Ordering::Greater;
            outcome.cost = Some(if over { max } else { cost });
        }
        outcome.usage = (0..)
            .zip(acted.usage)
            .map(|(n, (resource, usage))| {
                let id = format!("{}.{}.{n}", pass.key.as_str(), pass.n_try);
                UsageRecord::new("agent-orch", id, resource, usage, self.now())
            })
            .collect::<Vec<_>>();
        tracing::trace!(task = %cx.lease.task, action = effect.action, "effect done");
        Ok((Ok(acted.value), outcome))
    }
}
