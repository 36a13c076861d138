//! Sagas: a step may declare an undo action, and a task that ends without success is unwound by
//! running the undo actions of its steps, the latest first, through the one door.
//!
//! ```text
//!  reserve ──► charge ──► ship ✗         the task fails
//!                │          │
//!  release ◄── refund ◄─────┘            stage `undo`: each is a journaled step of its own
//!     │
//!     └──► failed, undone: 2
//! ```
//!
//! An undo action is an effect like any other: it passes the gate, is recorded before and after, is
//! repeated by its class, and a crash in the middle of unwinding goes on where it was. One that keeps
//! failing goes to a person; unwinding never gives up by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use agent_core::{Effect, EffectClass, IdempotencyKey, Scope};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::agent::{Acted, Agent, Ctx};
use crate::decide::Ended;
use crate::error::{Error, Result};
use crate::journal::StepKey;
use crate::task::{Stage, Task};

/// An undo action to keep with the intent of its step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewUndo {
    /// What undoes the step. It must be harmless where the step's own effect never happened.
    pub effect: Effect,
    /// Whether every end without success undoes it, or only a ladder that says `compensate`.
    pub on_end: bool,
}

impl NewUndo {
    /// Describes an undo action that every end without success runs.
    #[must_use]
    pub const fn new(effect: Effect) -> Self {
        Self {
            effect,
            on_end: true,
        }
    }
}

/// A step to undo.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Undo {
    /// The round it was made in.
    pub round: u32,
    /// The stage it was made in.
    pub stage: Stage,
    /// The step.
    pub step: StepKey,
    /// The class of the step's own effect.
    pub class: EffectClass,
    /// The idempotency key under which the step's own effect happened.
    pub key: IdempotencyKey,
    /// What undoes it.
    pub effect: Effect,
    /// What the step returned; none if it is not known whether its effect happened.
    pub result: Option<Value>,
    /// The audit record of its intent, if code that changed did the step anew since then.
    pub forgotten: Option<u64>,
}

impl Undo {
    /// Names the step that undoes it.
    fn name(&self) -> String {
        let Self { round, stage, .. } = self;
        let (name, ordinal) = (&self.step.name, self.step.ordinal);
        let own = format!("undo/{round}/{stage}/{name}/{ordinal}");
        self.forgotten
            .map_or(own.clone(), |intent| format!("{own}/{intent}"))
    }

    /// Returns whether a person must say if it is to be undone: its effect may not have happened,
    /// and nobody can repeat it to be sure.
    fn is_open(&self) -> bool {
        let repeats = matches!(self.class, EffectClass::Pure | EffectClass::Idempotent);
        self.result.is_none() && !repeats
    }
}

/// What a host does to undo the effects of one action.
pub(crate) type UndoHandler =
    Arc<dyn Fn(Scope, Undo) -> BoxFuture<'static, Result<Acted<Value>>> + Send + Sync>;

/// The answer that undoes a step in doubt.
pub(crate) const UNDO_IT: &str = "undo it";
/// The answer that lets a step in doubt stand; what the deadline answers.
pub(crate) const LEAVE_IT: &str = "leave it";

/// The agent that unwinds tasks; it acts in the place of the member that claimed one.
#[derive(Default)]
pub(crate) struct Unwinder {
    handlers: BTreeMap<String, UndoHandler>,
}

impl fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwinder")
            .field("handlers", &self.handlers.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Unwinder {
    pub(crate) fn register(&mut self, action: String, handler: UndoHandler) {
        self.handlers.insert(action, handler);
    }

    async fn undo(&self, cx: &Ctx, undo: Undo) -> Result<bool> {
        if undo.is_open() {
            let question = format!(
                "It is not known whether {} happened. Undo it by {} on {}?",
                undo.step.name, undo.effect.action, undo.effect.target
            );
            let details = json!({ "effect": undo.effect, "key": undo.key });
            let options = [UNDO_IT, LEAVE_IT];
            if cx.ask(&undo.name(), &question, &options, details).await? == LEAVE_IT {
                return Ok(false);
            }
        }
        let action = undo.effect.action.as_str();
        let handler = self
            .handlers
            .get(action)
            .ok_or_else(|| Error::not_found("undo handler", action))?;
        let (name, effect) = (undo.name(), undo.effect.clone());
        let _said: Value = cx
            .effect(&name, effect, |scope| handler(scope, undo))
            .await?;
        Ok(true)
    }
}

#[async_trait]
impl Agent for Unwinder {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let (mut undone, mut left) = (0_u32, 0_u32);
        for undo in cx.door.journal().undos(task.id).await? {
            let counter = if self.undo(cx, undo).await? {
                &mut undone
            } else {
                &mut left
            };
            *counter = counter.saturating_add(1);
        }
        Ok(Ended::Undone { undone, left })
    }
}
