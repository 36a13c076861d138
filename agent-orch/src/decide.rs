//! The decision core: what becomes of a task when an attempt at it ends. Pure, without clock,
//! randomness or IO, so that it can be tried with any sequence of events.

use agent_core::{ErrorKind, Failure, Retry, Timestamp};
use serde_json::{Value, json};

use crate::fleet::Escalation;
use crate::inbox::{NewRequest, Severity};
use crate::recovery::{Action, Backoff, Class, RecoveryTable};
use crate::task::{Stage, Status, Task, Transition};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ended {
    /// The worker produced something.
    #[non_exhaustive]
    Done {
        /// What.
        output: Value,
    },
    /// The verifier accepts it.
    #[non_exhaustive]
    Accepted {
        /// What the verifier saw.
        evidence: Value,
    },
    /// The verifier refuses it.
    #[non_exhaustive]
    Refused {
        /// What is wrong, for the author.
        feedback: Value,
    },
    /// The merge queue landed the change.
    #[non_exhaustive]
    Landed {
        /// The commit and tree that landed.
        evidence: Value,
    },
    /// A request waits for an answer.
    Waiting,
    /// The attempt failed.
    #[non_exhaustive]
    Failed {
        /// How.
        failure: Failure,
    },
}

impl Ended {
    /// Ends a worker's attempt; an output with a non-null `change` goes to the pool's merge lane
    /// once it is verified.
    #[must_use]
    pub const fn done(output: Value) -> Self {
        Self::Done { output }
    }

    /// Ends a verifier's attempt: the work is good.
    #[must_use]
    pub const fn accepted(evidence: Value) -> Self {
        Self::Accepted { evidence }
    }

    /// Ends a verifier's or lane's attempt: the work goes back with feedback.
    #[must_use]
    pub const fn refused(feedback: Value) -> Self {
        Self::Refused { feedback }
    }

    /// Ends a lane's attempt: the change landed.
    #[must_use]
    pub const fn landed(evidence: Value) -> Self {
        Self::Landed { evidence }
    }
}

/// What the decision depends on beside the task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy<'a> {
    /// The ladders by class.
    pub recovery: &'a RecoveryTable,
    /// The waits between retries.
    pub backoff: Backoff,
    /// The pool that verifies.
    pub verifier: &'a str,
    /// The lane changes land in.
    pub lane: Option<&'a str>,
    /// Who is asked, until when, and what applies then.
    pub escalation: &'a Escalation,
    /// Whether another agent of the pool could take the task.
    pub has_others: bool,
    /// The time.
    pub now: Timestamp,
    /// A random number for the jitter.
    pub seed: u64,
}

impl<'a> Policy<'a> {
    /// A policy with the default waits, a pool of one and no lane, at the epoch.
    #[must_use]
    pub fn new(recovery: &'a RecoveryTable, verifier: &'a str, escalation: &'a Escalation) -> Self {
        Self {
            recovery,
            backoff: Backoff::default(),
            verifier,
            lane: None,
            escalation,
            has_others: false,
            now: Timestamp::EPOCH,
            seed: 0,
        }
    }
}

/// What is to be done: the end of the lease and, where a person decides, the question to ask
/// first.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Next {
    /// How the lease ends.
    pub transition: Transition,
    /// The question to ask before.
    pub request: Option<NewRequest>,
}

impl Next {
    const fn only(transition: Transition) -> Self {
        Self {
            transition,
            request: None,
        }
    }
}

/// The option of a recovery question that tries again.
pub const TRY_AGAIN: &str = "retry";
/// The option of a recovery question that gives up.
pub const GIVE_UP: &str = "fail";

/// Decides what becomes of a task.
#[must_use]
pub fn decide(task: &Task, ended: Ended, policy: &Policy<'_>) -> Next {
    match ended {
        Ended::Done { output } => Next::only(Transition::Verify {
            output,
            pool: policy.verifier.to_owned(),
        }),
        Ended::Accepted { evidence } => {
            let has_change = task
                .output
                .as_ref()
                .is_some_and(|o| o.get("change").is_some_and(|c| !c.is_null()));
            let lane = policy.lane.filter(|_| has_change).map(str::to_owned);
            Next::only(Transition::Accept { evidence, lane })
        }
        Ended::Landed { evidence } => Next::only(Transition::Land { evidence }),
        Ended::Waiting => Next::only(Transition::Park { failure: None }),
        Ended::Refused { feedback } => {
            let failure = Failure::new(
                ErrorKind::Invalid,
                Retry::Never,
                "orch.refused_by_verifier",
                "the verifier refused the work",
                "read the feedback and do it again",
            );
            recover(task, failure, Some(feedback), policy)
        }
        Ended::Failed { failure } => recover(task, failure, None, policy),
    }
}

/// Looks the failure up in the table.
fn recover(task: &Task, failure: Failure, feedback: Option<Value>, policy: &Policy<'_>) -> Next {
    let class = Class::of(&failure);
    let n = task
        .failures
        .get(&class)
        .copied()
        .unwrap_or(0)
        .saturating_add(1);
    let action = policy.recovery.action(class, n);
    // A verifier or lane that trips over its own feet says nothing about the author's work: only
    // a refusal or a conflict goes back to work.
    let concerns_author =
        task.stage == Stage::Work || feedback.is_some() || class == Class::Conflict;
    match action {
        Action::Repair | Action::Reassign if !concerns_author => retry(failure, n, policy),
        Action::Retry => retry(failure, n, policy),
        Action::Repair | Action::Reassign => {
            let feedback = feedback.unwrap_or_else(
                || json!({ "code": failure.code, "message": failure.message, "fix": failure.fix }),
            );
            let same_agent = action == Action::Repair || !policy.has_others;
            Next::only(Transition::Correct {
                feedback,
                failure,
                same_agent,
            })
        }
        Action::Escalate => escalate(task, failure, n, policy),
        Action::Fail => Next::only(Transition::End {
            status: Status::Failed,
            failure,
        }),
    }
}

fn retry(failure: Failure, n: u32, policy: &Policy<'_>) -> Next {
    let asked = failure
        .retry_after_ms
        .map(std::time::Duration::from_millis)
        .unwrap_or_default();
    let wait = policy.backoff.wait(n, policy.seed).max(asked);
    Next::only(Transition::Retry {
        failure,
        at: policy.now.after(wait),
    })
}

fn escalate(task: &Task, failure: Failure, n: u32, policy: &Policy<'_>) -> Next {
    let class = Class::of(&failure).name();
    let question = format!(
        "{}: {} ({class}). {}",
        task.key, failure.message, failure.fix
    );
    let mut request = NewRequest::new(
        task.run,
        task.id,
        format!("recovery/{}/{class}#{n}", task.round),
        question,
        &[TRY_AGAIN, GIVE_UP],
        policy.now.after(policy.escalation.deadline),
    );
    request.severity = Severity::High;
    request.route.clone_from(&policy.escalation.route);
    request.reject = Some(GIVE_UP.to_owned());
    request.details = json!({ "failure": failure, "stage": task.stage, "round": task.round });
    Next {
        transition: Transition::Park {
            failure: Some(failure),
        },
        request: Some(request),
    }
}
