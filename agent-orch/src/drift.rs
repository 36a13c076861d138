//! What follows when code that changed meets steps that other code recorded.
//!
//! A resumed step with another effect than the recorded one drifts. Without a rule that is a
//! failure, which the recovery table handles. A host that changed its code on purpose registers a
//! [`Migrate`]: for each such step it keeps a value, has the step done again, or forks the attempt
//! there, so that the new code does everything from that step on.

use std::sync::Arc;

use agent_core::{Digest, Effect};
use serde_json::Value;

use crate::journal::StepKey;
use crate::task::Lease;

/// A step that is done, as it was recorded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordedStep {
    /// The digest of the effect it recorded.
    pub digest: Digest,
    /// What it returned.
    pub value: Value,
    /// The configuration of the host that recorded it: what the run was opened with.
    pub spec: Option<Digest>,
}

impl RecordedStep {
    /// Describes a recorded step.
    #[must_use]
    pub const fn new(digest: Digest, value: Value, spec: Option<Digest>) -> Self {
        Self {
            digest,
            value,
            spec,
        }
    }
}

/// A step whose effect is not the recorded one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Drifted {
    /// The attempt that met it.
    pub lease: Lease,
    /// Which step.
    pub step: StepKey,
    /// What the code causes instead.
    pub effect: Effect,
    /// What was recorded.
    pub recorded: RecordedStep,
}

impl Drifted {
    pub(crate) const fn new(
        lease: Lease,
        step: StepKey,
        effect: Effect,
        recorded: RecordedStep,
    ) -> Self {
        Self {
            lease,
            step,
            effect,
            recorded,
        }
    }
}

/// What becomes of a step that drifted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Migration {
    /// It stays done and returns this; often the recorded value, in the form the code expects.
    Keep(Value),
    /// It is done again, with the code's effect, under a key of its own. What the recorded one did
    /// stays done, and its undo action stays armed.
    Redo,
    /// As [`Migration::Redo`] for it and for every step that was recorded after it in the round and
    /// stage. Waits that began later begin anew and give the signals they took back; questions asked
    /// later are asked again. Tasks delegated later are not: their names find them as they are.
    ///
    /// While one of those steps is in doubt, or where an erased record hides their order, the step
    /// is a failure of class conflict instead.
    Fork,
    /// It is a failure of class conflict, as without a rule.
    Fail,
}

/// Decides about steps that drifted. Called for steps that are done; one that is in doubt is never
/// migrated, since nobody knows yet what it did.
pub type Migrate = Arc<dyn Fn(&Drifted) -> Migration + Send + Sync>;
