//! What a host writes: agents, and the context through which they cause effects.

mod children;
mod hedge;
mod mail;
mod steps;
mod waits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use agent_core::{Digest, Effect, Failure, Scope, Unit, Usage};
use agent_pay::BudgetPath;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::alarm::Alarm;
use crate::decide::Ended;
use crate::door::Door;
use crate::error::{Error, Result};
use crate::inbox::NewRequest;
use crate::journal::StepKey;
use crate::outbox::NewMessage;
use crate::probe::Pulse;
use crate::runner::Shared;
use crate::task::{Lease, Task};
use crate::wait::Awaited;

pub use waits::Awakeable;

pub(crate) use steps::Course;
pub use steps::Step;

/// An agent: the host's own code for one kind of work.
///
/// A worker returns [`Ended::Done`], a verifier [`Ended::Accepted`] or [`Ended::Refused`], the
/// agent of a merge lane [`Ended::Landed`]. An error goes to the recovery table.
///
/// The code is not replayed after a crash: it runs again from its start, and each step that was
/// recorded returns what it returned before. Steps are recognized by name, order and effect.
#[async_trait]
pub trait Agent: fmt::Debug + Send + Sync + 'static {
    /// Makes one attempt at a task.
    ///
    /// # Errors
    /// Of any kind; the recovery table decides by its class.
    ///
    /// # Cancel safety
    /// Dropped at any await when the lease is lost or the attempt is stopped; what steps recorded
    /// stays recorded.
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended>;

    /// Says whether the agent is ready for a task, or why not: it is asked before each claim, and
    /// gets no task until it is. Default: it always is.
    ///
    /// # Errors
    /// The reason, which is recorded.
    ///
    /// # Cancel safety
    /// Dropped at any await when the agent is stopped.
    async fn ready(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// What an effect returned and consumed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Acted<T> {
    /// What it returned.
    pub value: T,
    /// What it consumed, by resource.
    pub usage: Vec<(String, Usage)>,
    /// What goes out with it.
    pub messages: Vec<NewMessage>,
}

impl<T> Acted<T> {
    /// An effect that consumed nothing that is metered.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self {
            value,
            usage: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// Adds what was consumed of a resource. Default: nothing.
    #[must_use]
    pub fn with_usage(mut self, resource: impl Into<String>, usage: Usage) -> Self {
        self.usage.push((resource.into(), usage));
        self
    }

    /// Adds a message to the outside, written in the commit that records the effect as done and
    /// delivered at least once. Default: none.
    ///
    /// An effect that recovery found out about by its probe, or by asking a person, has no messages:
    /// where they must not be lost, write them with [`Ctx::send`].
    #[must_use]
    pub fn with_message(mut self, message: NewMessage) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds one call of a resource.
    #[must_use]
    pub fn with_call(self, resource: impl Into<String>) -> Self {
        self.with_usage(resource, Usage::new().with(Unit::Calls, 1))
    }
}

/// One attempt at a task: who acts, and the one door its effects pass.
#[derive(Debug)]
pub struct Ctx {
    pub(crate) scope: Scope,
    pub(crate) lease: Lease,
    /// The pool that does the task's work.
    pub(crate) home: String,
    pub(crate) budget: BudgetPath,
    /// Whose limits apply to its effects.
    pub(crate) fair_key: String,
    pub(crate) door: Arc<Door>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) mail: Arc<tokio::sync::Notify>,
    pub(crate) steps_max: u32,
    pub(crate) question_deadline: std::time::Duration,
    pub(crate) question_route: String,
    pub(crate) steps: Mutex<BTreeMap<String, u32>>,
    /// What recovery chose for this attempt.
    pub(crate) course: Course,
    /// How often each effect was asked for.
    pub(crate) calls: Mutex<BTreeMap<Digest, u32>>,
    /// Whether the task is wanted back at the next step.
    pub(crate) yields: Arc<AtomicBool>,
    /// When the lease ends as far as this process knows, in milliseconds since 1970.
    pub(crate) until_ms: Arc<AtomicI64>,
    /// The run it is an attempt of.
    pub(crate) shared: Arc<Shared>,
    /// What the attempt showed of itself.
    pub(crate) pulse: Pulse,
}

impl Ctx {
    /// Shows that the agent lives: for work that takes longer between two steps than the pool's
    /// `probes.liveness`.
    pub fn alive(&self) {
        self.pulse.alive();
    }

    /// Returns the scope to call layers with outside of an effect, for reading.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the lease of this attempt.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Causes one effect through the door: intent, gate, act, meter, outcome, event. A step that
    /// was recorded returns its recorded value and does not act.
    ///
    /// `act` gets a scope that carries the step's idempotency key.
    ///
    /// # Errors
    /// `Denied` if a gate refuses; `Exhausted` if the budget does; `Conflict` if the lease is over
    /// or the step drifted; those of `act`. [`Error::Waiting`] if a person must approve first:
    /// return it, the attempt continues when they have.
    ///
    /// # Cancel safety
    /// If dropped while acting, the effect is in doubt and resolved by its class.
    pub async fn effect<T, F, Fut>(&self, step: &str, effect: Effect, act: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<T>>> + Send,
    {
        self.probed(step, effect, |_scope| std::future::ready(Ok(None)), act)
            .await
    }

    /// As [`Ctx::effect`], for effects of class `Probeable`: when it is not known whether the
    /// effect happened, `probe` asks the other side by the idempotency key of the scope and
    /// returns what the effect returned, if it did.
    ///
    /// # Errors
    /// As [`Ctx::effect`], and those of `probe`.
    ///
    /// # Cancel safety
    /// As [`Ctx::effect`].
    pub async fn probed<T, P, PFut, F, Fut>(
        &self,
        step: &str,
        effect: Effect,
        probe: P,
        act: F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        P: FnOnce(Scope) -> PFut + Send,
        PFut: Future<Output = Result<Option<T>>> + Send,
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = Result<Acted<T>>> + Send,
    {
        self.probed_step(Step::new(step, effect), probe, act).await
    }

    /// Asks a person and returns the chosen option once there is one.
    ///
    /// # Errors
    /// [`Error::Waiting`] while there is no answer: return it, the task waits without a lease.
    ///
    /// # Cancel safety
    /// Atomic: the question is asked or not.
    pub async fn ask(
        &self,
        name: &str,
        question: &str,
        options: &[&str],
        details: Value,
    ) -> Result<String> {
        let mut request = self.question(name, question, options);
        request.details = details;
        self.put_question(request).await
    }

    pub(crate) fn question(&self, name: &str, question: &str, options: &[&str]) -> NewRequest {
        let run = self
            .scope
            .run
            .unwrap_or_else(|| agent_core::RunId::from_bits(0));
        let deadline = self.door.now().after(self.question_deadline);
        let name = format!("{}/{}/{name}", self.lease.round, self.lease.stage);
        let mut request = NewRequest::new(run, self.lease.task, name, question, options, deadline);
        request.route.clone_from(&self.question_route);
        request
    }

    pub(crate) async fn put_question(&self, request: NewRequest) -> Result<String> {
        let request = self.door.journal().ask(&self.scope, request).await?;
        match request.answer {
            Some(answer) => Ok(answer.choice),
            None => Err(Error::Waiting {
                on: Awaited::Request(request.id),
            }),
        }
    }

    /// Names the next step and counts it against the pool's limit. Between two steps is where a
    /// task can be given back with nothing in doubt.
    fn next_step(&self, name: &str) -> Result<StepKey> {
        if self.yields.load(Ordering::Acquire) {
            let task = self.lease.task;
            return Err(Error::Yielded { task });
        }
        self.pulse.event();
        let mut steps = self.steps.lock();
        let total: u32 = steps.values().sum();
        if total >= self.steps_max {
            let limit = u64::from(self.steps_max);
            return Err(Error::LimitReached {
                what: "steps of one attempt",
                limit,
            });
        }
        let next = steps.entry(name.to_owned()).or_default();
        let ordinal = *next;
        *next = next.saturating_add(1);
        Ok(StepKey::new(name, ordinal))
    }
}

fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::invalid("result of an effect", e.to_string()))
}
