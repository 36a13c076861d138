//! A task: a unit of work on its road from submission to a terminal state.
//!
//! ```text
//!            ┌──────────────── correct (new round, with feedback) ───────────────┐
//!            ▼                                                                   │
//! submit ─► work ──► verify (another identity) ──► merge (only with a change) ──► completed
//!            │ each stage: ready → leased → … ; delayed after a retry; parked while it waits; paused on demand
//!            └──► (undo, if steps have an undo action) ──► failed · canceled · rejected
//! ```

mod lease;
mod new;
mod stage;
mod transition;

use std::collections::BTreeMap;

use agent_core::{AgentId, Failure, RunId, TaskId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::recovery::Class;

pub use lease::{Claim, Lease};
pub use new::NewTask;
pub use stage::{Stage, Status};
pub use transition::{Alternative, Transition};

/// A task as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Task {
    /// The task.
    pub id: TaskId,
    /// Its run.
    pub run: RunId,
    /// Its name within the run.
    pub key: String,
    /// What is to be done.
    pub input: Value,
    /// The part of the road it is on.
    pub stage: Stage,
    /// What is happening to it.
    pub status: Status,
    /// The pool whose agents may claim it in this stage.
    pub pool: String,
    /// The pool that does the work stage.
    pub home: String,
    /// Its priority by now: the submitted one, raised with its age.
    pub priority: u8,
    /// Whose turn it takes among tasks of its priority.
    pub fair_key: String,
    /// How often the work began anew.
    pub round: u32,
    /// How often a lease was taken, over all stages.
    pub attempts: u32,
    /// Who did the work of this round.
    pub author: Option<AgentId>,
    /// What the work of this round produced.
    pub output: Option<Value>,
    /// What a verifier, the merge queue or an error said about earlier rounds, latest last.
    pub feedback: Vec<Value>,
    /// How many failures of each class it met, in its pool.
    pub failures: BTreeMap<Class, u32>,
    /// How many failures it met at all.
    pub retries: u32,
    /// What was fallen back on, by what is chosen.
    pub choices: BTreeMap<String, String>,
    /// How it ends once its steps are undone.
    pub ends_as: Option<Status>,
    /// Why it ended or waits.
    pub failure: Option<Failure>,
    /// The task that delegated it.
    pub parent: Option<TaskId>,
    /// The task at the top of its delegation tree: itself, if nobody delegated it.
    pub root: TaskId,
    /// How many delegations it is away from its root.
    pub depth: u32,
    /// Whether it goes on when its parent ends.
    pub is_detached: bool,
    /// When it fails unless it has ended.
    pub deadline: Option<Timestamp>,
    /// When a delayed task becomes ready.
    pub not_before: Option<Timestamp>,
    /// Who does not get it next.
    pub avoid: Option<AgentId>,
    /// What a paused task goes back to.
    pub paused_from: Option<Status>,
    /// Whether it pauses as soon as its holder gives it back.
    pub is_pausing: bool,
}

impl Task {
    /// The most feedback kept: older notes stop helping and would grow the record for ever.
    pub const FEEDBACK_MAX: usize = 8;
}
