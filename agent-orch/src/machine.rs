//! The pure core: what a transition makes of a task, and what is answered to an intent and an
//! outcome. No clock, no store, no randomness, so that every backend has the same rules and a
//! simulation can try them all.
//!
//! A backend loads a task, has [`apply`] compute the next state, and writes it with the audit
//! record that [`Moved`] describes, under a fence it checked in the same transaction. It loads a
//! step as [`KnownStep`] and does what [`decide_intent`] and [`decide_outcome`] say.

mod recover;
mod step;

use agent_core::{AgentId, Failure, Timestamp};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::recovery::Class;
use crate::task::{Lease, Stage, Status, Task, Transition};

pub(crate) use recover::unwind;
pub(crate) use step::step_key_at;
pub use step::{
    IntentDecision, KnownStep, OutcomeDecision, StepState, decide_intent, decide_outcome,
    is_intent_durable, state_after, step_key, step_key_anew,
};

/// What a transition writes beside the task itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Moved {
    /// The kind of the audit record.
    pub event: &'static str,
    /// Its payload.
    pub payload: Value,
    /// The failure behind the transition.
    pub failure: Option<Failure>,
    /// When the task becomes ready, if not at once.
    pub not_before: Option<Timestamp>,
    /// The agent that must not have the task next.
    pub avoid: Option<AgentId>,
}

impl Moved {
    fn new(event: &'static str, payload: Value) -> Self {
        Self {
            event,
            payload,
            failure: None,
            not_before: None,
            avoid: None,
        }
    }

    fn failed(event: &'static str, failure: Failure) -> Self {
        let payload = json!({ "failure": failure });
        Self {
            failure: Some(failure),
            ..Self::new(event, payload)
        }
    }
}

/// Computes the next state of a task whose lease ends. The caller has checked the lease.
///
/// # Errors
/// [`Error::WrongState`] if the task is not in a stage that allows the transition; `Denied` if an
/// author would accept its own work. The task is unchanged then.
pub fn apply(task: &mut Task, lease: &Lease, transition: Transition) -> Result<Moved> {
    let wrong = |verb| Error::WrongState {
        task: lease.task,
        verb,
        state: task.stage.to_string(),
    };
    let stage = task.stage;
    Ok(match transition {
        Transition::Verify { output, pool } if stage == Stage::Work => {
            let payload = json!({ "output": output });
            task.output = Some(output);
            task.author = Some(lease.owner);
            (task.stage, task.status, task.pool) = (Stage::Verify, Status::Ready, pool);
            Moved::new("task.done", payload)
        }
        Transition::Verify { .. } => return Err(wrong("be handed to a verifier")),
        Transition::Accept { .. } if task.author == Some(lease.owner) => {
            let target = task.id.to_string();
            return Err(
                agent_core::Error::denied(target, "an author accepted its own work").into(),
            );
        }
        Transition::Accept { evidence, lane } if stage == Stage::Verify => {
            match lane {
                Some(lane) => {
                    (task.stage, task.status, task.pool) = (Stage::Merge, Status::Ready, lane);
                }
                None => task.status = Status::Completed,
            }
            Moved::new("task.verified", json!({ "evidence": evidence }))
        }
        Transition::Accept { .. } => return Err(wrong("be accepted")),
        Transition::Land { evidence } if stage == Stage::Merge => {
            task.status = Status::Completed;
            Moved::new("task.landed", json!({ "evidence": evidence }))
        }
        Transition::Land { .. } => return Err(wrong("land")),
        Transition::Unwind { .. } if stage == Stage::Undo => return Err(wrong("unwind again")),
        Transition::Unwind { failure } => unwind(task, Status::Failed, failure),
        Transition::Undone { undone, left } if stage == Stage::Undo => {
            recover::undone(task, undone, left)
        }
        Transition::Undone { .. } => return Err(wrong("be undone")),
        Transition::FallBack { .. } if stage != Stage::Work => return Err(wrong("fall back")),
        Transition::FallBack {
            feedback,
            failure,
            to,
        } => recover::fall_back(task, feedback, failure, to),
        Transition::End { status, .. } if !status.is_terminal() => {
            return Err(wrong("end in a state that is no end"));
        }
        other => stop(task, lease, other),
    })
}

/// Computes the next state of a task that does not go forward.
fn stop(task: &mut Task, lease: &Lease, transition: Transition) -> Moved {
    match transition {
        Transition::Correct {
            feedback,
            failure,
            same_agent,
        } => {
            let avoid = if same_agent {
                None
            } else {
                task.author.or(Some(lease.owner))
            };
            correct(task, feedback, &failure);
            Moved {
                avoid,
                ..Moved::failed("task.corrected", failure)
            }
        }
        Transition::Retry { failure, at } => {
            note(task, &failure);
            task.status = Status::Delayed;
            Moved {
                not_before: Some(at),
                ..Moved::failed("task.retried", failure)
            }
        }
        Transition::Release => {
            task.status = Status::Ready;
            Moved::new("task.released", Value::Null)
        }
        Transition::Yield => {
            task.status = Status::Ready;
            Moved::new("task.preempted", Value::Null)
        }
        Transition::Park { failure } => {
            task.status = Status::Parked;
            match failure {
                Some(failure) => {
                    note(task, &failure);
                    Moved::failed("task.parked", failure)
                }
                None => Moved::new("task.parked", Value::Null),
            }
        }
        Transition::End { status, failure } => {
            note(task, &failure);
            task.status = status;
            Moved::failed(end_event(status), failure)
        }
        // Going forward is decided before.
        _ => Moved::new("task.unchanged", Value::Null),
    }
}

pub(crate) const fn end_event(status: Status) -> &'static str {
    match status {
        Status::Canceled => "task.canceled",
        Status::Rejected => "task.rejected",
        _ => "task.failed",
    }
}

/// Counts a failure against its class and keeps it as the reason.
fn note(task: &mut Task, failure: &Failure) {
    let n = task.failures.entry(Class::of(failure)).or_default();
    *n = n.saturating_add(1);
    task.retries = task.retries.saturating_add(1);
    task.failure = Some(failure.clone());
}

/// Sends a task back to work in a new round.
fn correct(task: &mut Task, feedback: Value, failure: &Failure) {
    note(task, failure);
    task.round = task.round.saturating_add(1);
    (task.stage, task.status) = (Stage::Work, Status::Ready);
    task.pool.clone_from(&task.home);
    (task.author, task.output) = (None, None);
    task.feedback.push(feedback);
    let excess = task.feedback.len().saturating_sub(Task::FEEDBACK_MAX);
    task.feedback.drain(..excess);
}

/// Makes a task that nobody holds paused if somebody wants that; pure.
pub(crate) const fn rest(task: &mut Task) {
    let rests = matches!(
        task.status,
        Status::Ready | Status::Delayed | Status::Parked
    );
    if task.is_pausing && rests {
        task.paused_from = Some(task.status);
        task.status = Status::Paused;
    }
    if !matches!(task.status, Status::Leased) {
        task.is_pausing = false;
    }
}
