//! What becomes of a step: pure decisions about intents and outcomes.
//!
//! ```text
//!               intend                      settle
//!  nothing ──────────────► intended ──┬──► done      returns what it returned, for ever
//!     │                       │  ▲    ├──► failed    may be tried again: a new try
//!     │  pure, no money:      │  │    └──► unknown   in doubt
//!     └─ nothing is written ──┘  └─ found open by another attempt: repeat, or in doubt
//! ```

use agent_core::{Digest, EffectClass, Failure, IdempotencyKey, Retry, TaskId};
use serde_json::Value;

use crate::error::Result;
use crate::journal::{Intent, Pass, StepKey};
use crate::task::{Lease, Stage};

/// How far a recorded step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepState {
    /// The intent is recorded; whether the effect happened is not known here.
    Intended,
    /// The effect happened and its result is recorded.
    Done,
    /// The effect failed and did not happen.
    Failed,
    /// The effect was tried and nobody knows whether it happened.
    Unknown,
    /// The effect happened, but the code that caused it changed and does it anew. What it did stays
    /// done.
    Forgotten,
}

impl StepState {
    /// Returns the state an outcome leads to.
    #[must_use]
    pub const fn after(result: &Result<Value, Failure>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(failure) => match failure.retry {
                Retry::Unknown => Self::Unknown,
                _ => Self::Failed,
            },
        }
    }

    /// Returns the name in lower case, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Forgotten => "forgotten",
        }
    }

    /// Returns the state of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [
            Self::Intended,
            Self::Done,
            Self::Failed,
            Self::Unknown,
            Self::Forgotten,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }

    /// Returns the kind of the audit record of an outcome that leads here.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Intended => "effect.intended",
            Self::Done => "effect.done",
            Self::Failed => "effect.failed",
            Self::Unknown => "effect.in_doubt",
            Self::Forgotten => "step.migrated",
        }
    }

    /// Returns whether the next try may be another effect and begins from nothing.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Forgotten)
    }

    /// Returns whether an outcome may still be recorded.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Unknown)
    }
}

/// A step as a backend keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownStep {
    /// The digest of its effect.
    pub digest: Digest,
    /// How far it has come.
    pub state: StepState,
    /// Which try that is about, counted from one.
    pub n_try: u32,
    /// The audit record of its intent, if the intent was recorded apart.
    pub intent: Option<u64>,
    /// Whether money is held for the try.
    pub is_held: bool,
}

impl KnownStep {
    /// Describes a step without an intent of its own and without money.
    #[must_use]
    pub const fn new(digest: Digest, state: StepState, n_try: u32) -> Self {
        Self {
            digest,
            state,
            n_try,
            intent: None,
            is_held: false,
        }
    }
}

/// What a backend answers to an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntentDecision {
    /// Let it happen.
    #[non_exhaustive]
    Go {
        /// Which try it is.
        n_try: u32,
        /// Whether money is held for this try already.
        is_held: bool,
        /// Whether an earlier holder may have caused it: then it is in doubt until it is done.
        is_in_doubt: bool,
    },
    /// It happened: return the recorded result.
    Recorded,
    /// An earlier holder may have caused it, and it must not be repeated blindly.
    #[non_exhaustive]
    InDoubt {
        /// Which try is in doubt.
        n_try: u32,
        /// The audit record of the intent.
        intent: Option<u64>,
    },
    /// The agent's code does something else under this name.
    Drift,
}

/// Decides what to answer to an intent, from what is known of the step.
#[must_use]
pub fn decide_intent(
    known: Option<&KnownStep>,
    digest: &Digest,
    class: EffectClass,
) -> IntentDecision {
    let Some(known) = known else {
        return IntentDecision::Go {
            n_try: 1,
            is_held: false,
            is_in_doubt: false,
        };
    };
    let n_try = known.n_try;
    // A failed try had no effect, so another effect may take its place: the agent fell back on
    // another tool or model.
    if known.digest != *digest && !known.state.is_over() {
        return IntentDecision::Drift;
    }
    let may_repeat = matches!(class, EffectClass::Pure | EffectClass::Idempotent);
    match known.state {
        StepState::Done => IntentDecision::Recorded,
        // The try was settled with its money, so the next one begins from nothing.
        StepState::Failed | StepState::Forgotten => IntentDecision::Go {
            n_try: n_try.saturating_add(1),
            is_held: false,
            is_in_doubt: false,
        },
        StepState::Intended | StepState::Unknown if may_repeat => IntentDecision::Go {
            n_try,
            is_held: known.is_held,
            is_in_doubt: true,
        },
        StepState::Intended | StepState::Unknown => IntentDecision::InDoubt {
            n_try,
            intent: known.intent,
        },
    }
}

/// Returns whether an intent must be durable before its effect happens. It need not be if nothing
/// outside can tell that the effect happened, no money is held and no grant is charged for it, and it
/// has no undo action: then the outcome is recorded together with the intent.
#[must_use]
pub fn is_intent_durable(intent: &Intent) -> bool {
    let effect = &intent.effect;
    let is_paid = intent.budget.is_some() && effect.cost_max.is_some_and(|max| !max.is_zero());
    let is_counted = intent.charge.is_some() || intent.undo.is_some();
    effect.class != EffectClass::Pure || is_paid || is_counted
}

/// Returns the state an outcome leads a step to. An idempotent effect in doubt that fails when it is
/// repeated stays in doubt: the failure says nothing about the try before.
#[must_use]
pub fn state_after(
    known: Option<&KnownStep>,
    class: EffectClass,
    result: &Result<Value, Failure>,
) -> StepState {
    let was_in_doubt = known.is_some_and(|known| known.state == StepState::Unknown);
    match StepState::after(result) {
        StepState::Failed if was_in_doubt && class == EffectClass::Idempotent => StepState::Unknown,
        state => state,
    }
}

/// What a backend does with an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutcomeDecision {
    /// Record it.
    #[non_exhaustive]
    Record {
        /// Whether money is held for the try, to be settled unless the outcome is unknown.
        is_held: bool,
    },
    /// There is no open try it could belong to.
    NoTry,
}

/// Decides whether an outcome is recorded, from what is known of the step. The caller has checked
/// the lease.
#[must_use]
pub fn decide_outcome(known: Option<&KnownStep>, pass: &Pass) -> OutcomeDecision {
    let is_pass_light = pass.intent.is_none();
    match known {
        Some(known) if known.digest != pass.digest && !known.state.is_over() => {
            OutcomeDecision::NoTry
        }
        Some(known) if known.state.is_open() && known.n_try == pass.n_try => {
            OutcomeDecision::Record {
                is_held: known.is_held,
            }
        }
        Some(known)
            if is_pass_light
                && known.state.is_over()
                && known.n_try.checked_add(1) == Some(pass.n_try) =>
        {
            OutcomeDecision::Record { is_held: false }
        }
        None if is_pass_light && pass.n_try == 1 => OutcomeDecision::Record { is_held: false },
        _ => OutcomeDecision::NoTry,
    }
}

/// Returns the key of a step: the same for every try and in every process.
///
/// # Errors
/// Those of [`IdempotencyKey::new`]; none for any lease and step there is.
pub fn step_key(lease: &Lease, step: &StepKey, digest: &Digest) -> Result<IdempotencyKey> {
    step_key_at(lease.task, lease.round, lease.stage, step, digest)
}

/// Returns the key of a step that is done anew after it was forgotten, so that the other side does
/// not take it for the one before.
///
/// # Errors
/// As [`step_key`].
pub fn step_key_anew(key: &IdempotencyKey, n_try: u32) -> Result<IdempotencyKey> {
    let named = format!("{}/anew/{n_try}", key.as_str());
    Ok(IdempotencyKey::new(
        Digest::of_bytes(named.as_bytes()).to_string(),
    )?)
}

/// Returns the key of a step of a task's round and stage.
pub(crate) fn step_key_at(
    task: TaskId,
    round: u32,
    stage: Stage,
    step: &StepKey,
    digest: &Digest,
) -> Result<IdempotencyKey> {
    let named = format!(
        "{task}/{round}/{stage}/{}/{}/{digest}",
        step.name, step.ordinal
    );
    Ok(IdempotencyKey::new(
        Digest::of_bytes(named.as_bytes()).to_string(),
    )?)
}

#[cfg(test)]
mod tests;
