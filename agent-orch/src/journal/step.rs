//! Steps as the journal is told of them: intents, what is answered, outcomes.

use std::sync::Arc;

use agent_core::{Amount, Digest, Effect, EffectClass, Failure, IdempotencyKey, UsageRecord};
use agent_identity::grant_store::Charge;
use agent_pay::BudgetPath;
use serde_json::Value;

use crate::error::Result;
use crate::outbox::NewMessage;
use crate::undo::NewUndo;

/// Which step of an attempt: its name and which of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StepKey {
    /// The name the agent's code gives the step.
    pub name: String,
    /// Counted from zero per name and round.
    pub ordinal: u32,
}

impl StepKey {
    /// Names a step.
    #[must_use]
    pub fn new(name: impl Into<String>, ordinal: u32) -> Self {
        Self {
            name: name.into(),
            ordinal,
        }
    }
}

/// An effect about to happen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Intent {
    /// Which step causes it.
    pub step: StepKey,
    /// What is about to happen.
    pub effect: Effect,
    /// The budget its `cost_max` is held on.
    pub budget: Option<BudgetPath>,
    /// What it counts against in the grants that permit it; counted once for all tries.
    pub charge: Option<Charge>,
    /// What undoes it if its task ends without success.
    pub undo: Option<NewUndo>,
}

impl Intent {
    /// Describes an intent that holds no money.
    #[must_use]
    pub const fn new(step: StepKey, effect: Effect) -> Self {
        Self {
            step,
            effect,
            budget: None,
            charge: None,
            undo: None,
        }
    }

    /// Sets the budget. Default: none, then nothing is held.
    #[must_use]
    pub fn with_budget(mut self, budget: BudgetPath) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets what undoes it. Default: nothing.
    #[must_use]
    pub fn with_undo(mut self, undo: NewUndo) -> Self {
        self.undo = Some(undo);
        self
    }
}

/// What the journal says to an intent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Intended {
    /// Go ahead, with this key.
    Go(Pass),
    /// The step is done: this is what it returned.
    Recorded(Value),
    /// An earlier holder of the task may have caused it; find out by this key before going on.
    InDoubt(Pass),
}

/// The permission to cause one effect.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pass {
    /// Which step.
    pub step: StepKey,
    /// The same for every try of the step.
    pub key: IdempotencyKey,
    /// What recovery may do with it.
    pub class: EffectClass,
    /// Which try this is, counted from one.
    pub n_try: u32,
    /// The audit record of the intent; none if the outcome will be recorded together with it.
    pub intent: Option<u64>,
    /// What was intended.
    pub effect: Arc<Effect>,
    /// The effect's digest.
    pub digest: Digest,
}

impl Pass {
    /// Permits the first try of an effect whose intent is not recorded apart.
    #[must_use]
    pub fn new(step: StepKey, key: IdempotencyKey, effect: Effect, digest: Digest) -> Self {
        Self {
            step,
            key,
            class: effect.class,
            n_try: 1,
            intent: None,
            effect: Arc::new(effect),
            digest,
        }
    }
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// What it returned, or how it failed.
    pub result: Result<Value, Failure>,
    /// What it consumed.
    pub usage: Vec<UsageRecord>,
    /// What that costs; at most what was held.
    pub cost: Option<Amount>,
    /// What goes out with it, if it did not fail; at most [`NewMessage::PER_EFFECT_MAX`].
    pub messages: Vec<NewMessage>,
}

impl Outcome {
    /// The largest recorded result in bytes: bulk data belongs in files or blobs.
    pub const RESULT_BYTES_MAX: usize = 4 << 20;

    /// Describes an effect that ended and cost nothing.
    #[must_use]
    pub const fn new(result: Result<Value, Failure>) -> Self {
        Self {
            result,
            usage: Vec::new(),
            cost: None,
            messages: Vec::new(),
        }
    }
}
