//! What happened, for audit, consoles and telemetry.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::{AgentId, RunId, TaskId};
use crate::scope::{Fence, Principal, Scope};
use crate::time::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// What happened, `subject.verb_in_the_past`: `task.completed`, `effect.intended`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Principal,
    /// The agent, where the actor is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The task it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The fence the actor held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Details. No secrets.
    pub payload: serde_json::Value,
}

impl Event {
    /// Creates an event of the scope's actor and work.
    #[must_use]
    pub fn new(
        scope: &Scope,
        at: Timestamp,
        kind: impl Into<String>,
        payload: serde_json::Value,
    ) -> Self {
        Self {
            kind: kind.into(),
            at,
            actor: scope.actor.clone(),
            agent: scope.agent,
            run: scope.run,
            task: scope.task,
            fence: scope.fence,
            payload,
        }
    }
}

/// Takes events.
#[async_trait]
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Takes one event; on return it is as durable as the sink promises.
    ///
    /// # Errors
    /// Of any kind if the event was not taken.
    ///
    /// # Cancel safety
    /// Atomic: the event is taken whole or not at all.
    async fn emit(&self, event: Event) -> Result<()>;
}

#[async_trait]
impl<S: EventSink + ?Sized> EventSink for Arc<S> {
    async fn emit(&self, event: Event) -> Result<()> {
        (**self).emit(event).await
    }
}
