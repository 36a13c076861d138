//! The decision core: what becomes of a task when an attempt at it ends. Pure, without clock,
//! randomness or IO, so that it can be tried with any sequence of events.

use agent_core::{ErrorKind, Failure, Retry, Timestamp};
use serde_json::{Value, json};

use crate::fleet::{Escalation, Fallback, PoolRecovery};
use crate::inbox::{NewRequest, Severity};
use crate::recovery::{Action, Backoff, Class, RecoveryTable, Rung, climb, last};
use crate::task::{Alternative, Stage, Status, Task, Transition};

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
    /// The steps that have an undo action are undone, or were left to stand by a person.
    #[non_exhaustive]
    Undone {
        /// How many were undone.
        undone: u32,
        /// How many stand because a person said so.
        left: u32,
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

    /// Ends an attempt in a failure, which goes to the recovery table.
    #[must_use]
    pub const fn failed(failure: Failure) -> Self {
        Self::Failed { failure }
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
    /// The ladders of the task's pool, which come before those.
    pub own: Option<&'a RecoveryTable>,
    /// What the task's pool falls back on.
    pub fallback: Option<&'a Fallback>,
    /// How many failures, of all classes together, the task may still meet before the last rung
    /// answers.
    pub retries_left: u32,
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
    /// A policy with the default waits and retries, nothing to fall back on, a pool of one and no
    /// lane, at the epoch.
    #[must_use]
    pub fn new(recovery: &'a RecoveryTable, verifier: &'a str, escalation: &'a Escalation) -> Self {
        Self {
            recovery,
            own: None,
            fallback: None,
            retries_left: PoolRecovery::RETRIES_MAX,
            backoff: Backoff::default(),
            verifier,
            lane: None,
            escalation,
            has_others: false,
            now: Timestamp::EPOCH,
            seed: 0,
        }
    }

    /// Returns the ladder of a class: the pool's, else the fleet's.
    fn ladder(&self, class: Class) -> &'a [Rung] {
        let own = self.own.map_or(&[][..], |own| own.ladder(class));
        if own.is_empty() {
            self.recovery.ladder(class)
        } else {
            own
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
        Ended::Undone { undone, left } => Next::only(Transition::Undone { undone, left }),
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
    let ladder = policy.ladder(class);
    // Falling back changes who works, or with what; it says nothing to a verifier or a lane.
    let fallback = policy.fallback.filter(|_| task.stage == Stage::Work);
    let n_fallbacks = fallback.map_or(0, Fallback::n_alternatives);
    if task.stage == Stage::Undo {
        return unwind_again(task, failure, climb(ladder, n, 0), n, policy);
    }
    let action = match policy.retries_left {
        0 => last(ladder),
        _ => climb(ladder, n, n_fallbacks),
    };
    // A verifier or lane that trips over its own feet says nothing about the author's work: only
    // a refusal or a conflict goes back to work.
    let concerns_author =
        task.stage == Stage::Work || feedback.is_some() || class == Class::Conflict;
    match action {
        Action::Repair | Action::Reassign if !concerns_author => retry(failure, n, policy),
        Action::Retry => retry(failure, n, policy),
        Action::Fallback => fall_back(task, failure, n, policy),
        Action::Repair | Action::Reassign => {
            let feedback = feedback.unwrap_or_else(|| as_feedback(&failure));
            let same_agent = action == Action::Repair || !policy.has_others;
            Next::only(Transition::Correct {
                feedback,
                failure,
                same_agent,
            })
        }
        Action::Park => ask(task, failure, n, TRY_AGAIN, policy),
        Action::Escalate => ask(task, failure, n, GIVE_UP, policy),
        Action::Compensate => Next::only(Transition::Unwind { failure }),
        Action::Fail => Next::only(Transition::End {
            status: Status::Failed,
            failure,
        }),
    }
}

fn as_feedback(failure: &Failure) -> Value {
    json!({ "code": failure.code, "message": failure.message, "fix": failure.fix })
}

fn wait(failure: &Failure, n: u32, policy: &Policy<'_>) -> Timestamp {
    let asked = failure
        .retry_after_ms
        .map(std::time::Duration::from_millis)
        .unwrap_or_default();
    policy
        .now
        .after(policy.backoff.wait(n, policy.seed).max(asked))
}

fn retry(failure: Failure, n: u32, policy: &Policy<'_>) -> Next {
    let at = wait(&failure, n, policy);
    Next::only(Transition::Retry { failure, at })
}

/// Moves on to the next choices of the pool, after the last of them to another pool.
fn fall_back(task: &Task, failure: Failure, n: u32, policy: &Policy<'_>) -> Next {
    let next = policy.fallback.and_then(|f| f.next(&task.choices));
    let pool = policy.fallback.and_then(|f| f.pool.clone());
    let to = match (next, pool) {
        (Some(choices), _) => Alternative::Choices(choices),
        (None, Some(pool)) => Alternative::Pool(pool),
        (None, None) => return retry(failure, n, policy),
    };
    // The alternative has not failed yet, so it need not wait for the one that has.
    Next::only(Transition::FallBack {
        feedback: as_feedback(&failure),
        failure,
        to,
    })
}

/// Decides about a failure while a task's steps are undone. Undoing cannot be done by halves: it is
/// tried again as the table says, and then a person decides.
fn unwind_again(
    task: &Task,
    failure: Failure,
    action: Action,
    n: u32,
    policy: &Policy<'_>,
) -> Next {
    match action {
        Action::Retry => retry(failure, n, policy),
        Action::Park => ask(task, failure, n, TRY_AGAIN, policy),
        _ => ask(task, failure, n, GIVE_UP, policy),
    }
}

/// Parks the task with a question; `default` is what its deadline answers.
fn ask(task: &Task, failure: Failure, n: u32, default: &str, policy: &Policy<'_>) -> Next {
    let class = Class::of(&failure).name();
    let question = format!(
        "{}: {} ({class}). {}",
        task.key, failure.message, failure.fix
    );
    let mut request = NewRequest::new(
        task.run,
        task.id,
        format!("recovery/{}/{}/{class}#{n}", task.round, task.stage),
        question,
        &[TRY_AGAIN, GIVE_UP],
        policy.now.after(policy.escalation.deadline),
    );
    if default == GIVE_UP {
        request.severity = Severity::High;
    }
    request.default = default.to_owned();
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

#[cfg(test)]
mod tests;
