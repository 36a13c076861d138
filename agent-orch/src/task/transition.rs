//! How a lease ends: what becomes of the task.

use std::collections::BTreeMap;

use agent_core::{Failure, Timestamp};
use serde_json::Value;

use super::stage::Status;

/// What a task falls back on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alternative {
    /// The same stage and round with these choices.
    Choices(BTreeMap<String, String>),
    /// A new round by the agents of this pool.
    Pool(String),
}

/// How a lease ends: the next state of the task.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Transition {
    /// The work is done; a verifier of the pool decides.
    #[non_exhaustive]
    Verify {
        /// What was produced.
        output: Value,
        /// The verifier's pool.
        pool: String,
    },
    /// The verifier accepts; the task completes, or its change goes to a merge lane.
    #[non_exhaustive]
    Accept {
        /// What the verifier saw.
        evidence: Value,
        /// The merge lane, if there is a change to land.
        lane: Option<String>,
    },
    /// The change landed.
    #[non_exhaustive]
    Land {
        /// The commit and tree that landed.
        evidence: Value,
    },
    /// Back to work in a new round.
    #[non_exhaustive]
    Correct {
        /// What was wrong, for the next author.
        feedback: Value,
        /// The failure behind it, counted against its class.
        failure: Failure,
        /// Whether the same agent may take it again.
        same_agent: bool,
    },
    /// The same stage and round again, later.
    #[non_exhaustive]
    Retry {
        /// Why.
        failure: Failure,
        /// Not before.
        at: Timestamp,
    },
    /// The work again at once, with what comes next where the first choice failed.
    #[non_exhaustive]
    FallBack {
        /// What was wrong, for agents that begin anew.
        feedback: Value,
        /// The failure behind it, counted against its class.
        failure: Failure,
        /// What comes next.
        to: Alternative,
    },
    /// The same stage and round again at once: the holder stops without having failed.
    Release,
    /// As [`Transition::Release`], because more urgent work wants the agent.
    Yield,
    /// Waits for the answer to a request.
    #[non_exhaustive]
    Park {
        /// The failure behind it, if any, counted against its class.
        failure: Option<Failure>,
    },
    /// What the steps did is undone, the latest first; then the task ends as failed. Without such
    /// steps it ends at once.
    #[non_exhaustive]
    Unwind {
        /// Why.
        failure: Failure,
    },
    /// The steps are undone; the task ends as it was to end.
    #[non_exhaustive]
    Undone {
        /// How many.
        undone: u32,
        /// How many stand because a person said so.
        left: u32,
    },
    /// Ends without success, after undoing its steps if its pool says so.
    #[non_exhaustive]
    End {
        /// `Failed`, `Canceled` or `Rejected`.
        status: Status,
        /// Why.
        failure: Failure,
    },
}
