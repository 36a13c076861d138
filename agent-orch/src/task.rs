//! A task: a unit of work on its road from submission to a terminal state.
//!
//! ```text
//!            ┌──────────────── correct (new round, with feedback) ───────────────┐
//!            ▼                                                                   │
//! submit ─► work ──► verify (another identity) ──► merge (only with a change) ──► completed
//!            │ each stage: ready → leased → … ; delayed after a retry; parked while it waits; paused on demand
//!            └──► (undo, if steps have an undo action) ──► failed · canceled · rejected
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{
    AgentId, Amount, AttemptId, Digest, Failure, Fence, RunId, Scope, TaskId, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fleet::Scheduling;
use crate::recovery::Class;

/// Which part of the road a task is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// A worker does it.
    Work,
    /// An agent with another identity checks it.
    Verify,
    /// The merge queue lands its change.
    Merge,
    /// What its steps did is undone, before it ends without success.
    Undo,
}

/// What is happening to a task in its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// Waits for an agent.
    Ready,
    /// Waits for a moment, then becomes ready.
    Delayed,
    /// An agent holds the lease.
    Leased,
    /// Waits for a person, a child or a moment, without a lease.
    Parked,
    /// Held back by somebody, without a lease, until it is resumed.
    Paused,
    /// Ended: done and verified.
    Completed,
    /// Ended: given up.
    Failed,
    /// Ended: stopped by somebody.
    Canceled,
    /// Ended: a person or policy said no.
    Rejected,
}

impl Status {
    /// Returns whether the task has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected
        )
    }
}

macro_rules! stored_names {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            /// Returns the name it is stored and reported under.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(Error::invalid(stringify!($name), format!("`{text}` is unknown"))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

stored_names!(Stage { Work = "work", Verify = "verify", Merge = "merge", Undo = "undo" });
stored_names!(Status {
    Ready = "ready",
    Delayed = "delayed",
    Leased = "leased",
    Parked = "parked",
    Paused = "paused",
    Completed = "completed",
    Failed = "failed",
    Canceled = "canceled",
    Rejected = "rejected",
});

/// A task to submit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewTask {
    /// Names the task within its run: submitting the same key again changes nothing.
    pub key: String,
    /// The pool whose agents do it.
    pub pool: String,
    /// 0 is the most urgent, 4 the least.
    pub priority: u8,
    /// What is to be done.
    pub input: Value,
    /// Whose turn it takes among tasks of its priority; the tenant of the submitting scope if
    /// none.
    pub fair_key: Option<String>,
    /// The limits its work counts against.
    pub limit_keys: Vec<String>,
    /// What its work may cost; it is not begun while the budget has less.
    pub cost_estimate: Option<Amount>,
    /// When it ends whatever its state.
    pub deadline: Option<Timestamp>,
    /// How long it may take in all, not counting the time in which it waits for somebody.
    pub wall: Option<Duration>,
    /// The most that it and everything it delegates may cost.
    pub tree_budget: Option<Amount>,
    /// How often it and everything it delegates may be tried again.
    pub tree_retries: Option<u32>,
    /// Whether a child goes on when its parent ends.
    pub is_detached: bool,
}

impl NewTask {
    /// The least urgent priority.
    pub const PRIORITY_MAX: u8 = 4;
    /// The most limits of one task: a model, a few tools, a tenant.
    pub const LIMIT_KEYS_MAX: usize = 8;
    /// The longest key in bytes: a path and a check's name fit.
    pub const KEY_BYTES_MAX: usize = 8_192;
    /// How often a task and everything it delegates may be retried unless it says otherwise.
    pub const TREE_RETRIES: u32 = 64;
    /// The largest input in bytes; bulk data belongs in a file or blob the input names.
    pub const INPUT_BYTES_MAX: usize = 1 << 20;

    /// Describes a task of priority 2.
    #[must_use]
    pub fn new(key: impl Into<String>, pool: impl Into<String>, input: Value) -> Self {
        Self {
            key: key.into(),
            pool: pool.into(),
            priority: 2,
            input,
            fair_key: None,
            limit_keys: Vec::new(),
            cost_estimate: None,
            deadline: None,
            wall: None,
            tree_budget: None,
            tree_retries: None,
            is_detached: false,
        }
    }

    /// Sets the moment at which the task fails if it has not ended, whatever its state. Default:
    /// `limits.life` of the pool from its submission to a running fleet; else none.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how long the task may take in all; time in which it is parked or paused does not
    /// count. Default: `limits.wall` of the pool, if it is submitted to a running fleet; else none.
    #[must_use]
    pub const fn with_wall(mut self, wall: Duration) -> Self {
        self.wall = Some(wall);
        self
    }

    /// Caps what the task and everything it delegates may cost together. Each agent's own budget
    /// still holds. A child has the cap of its root. Default: none.
    #[must_use]
    pub const fn with_tree_budget(mut self, most: Amount) -> Self {
        self.tree_budget = Some(most);
        self
    }

    /// Caps how often the task and everything it delegates may be retried or corrected together.
    /// A child has the cap of its root. Default: `limits.tree_retries` of the pool, else
    /// [`Self::TREE_RETRIES`].
    #[must_use]
    pub const fn with_tree_retries(mut self, most: u32) -> Self {
        self.tree_retries = Some(most);
        self
    }

    /// Lets a child go on when its parent ends, is canceled or begins anew. Default: it is
    /// canceled with its parent.
    #[must_use]
    pub const fn detached(mut self) -> Self {
        self.is_detached = true;
        self
    }

    /// Sets the priority. Default: 2.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Returns the task as it stands in a run once it is submitted.
    #[must_use]
    pub fn as_task(&self, run: RunId) -> Task {
        Task {
            id: self.id(run),
            run,
            key: self.key.clone(),
            input: self.input.clone(),
            stage: Stage::Work,
            status: Status::Ready,
            pool: self.pool.clone(),
            home: self.pool.clone(),
            priority: self.priority,
            fair_key: self
                .fair_key
                .clone()
                .unwrap_or_else(|| Scope::TENANT_DEFAULT.to_owned()),
            round: 0,
            attempts: 0,
            author: None,
            output: None,
            feedback: Vec::new(),
            failures: BTreeMap::new(),
            retries: 0,
            choices: BTreeMap::new(),
            ends_as: None,
            failure: None,
            parent: None,
            root: self.id(run),
            depth: 0,
            is_detached: self.is_detached,
            deadline: self.deadline,
            not_before: None,
            avoid: None,
            paused_from: None,
            is_pausing: false,
        }
    }

    /// Sets whose turn it takes: tasks of a priority are claimed by weighted turns of their keys.
    /// Default: the tenant of the submitting scope.
    #[must_use]
    pub fn with_fair_key(mut self, key: impl Into<String>) -> Self {
        self.fair_key = Some(key.into());
        self
    }

    /// Adds a limit its work counts against: while as many tasks of the key are worked on as the
    /// fleet's `[limit.KEY]` allows, it waits and others go first. Default: none.
    #[must_use]
    pub fn with_limit_key(mut self, key: impl Into<String>) -> Self {
        self.limit_keys.push(key.into());
        self
    }

    /// Sets what its work may cost. It is begun only if the budget has that much; otherwise a
    /// person is asked and others go first. Default: none, it is begun.
    #[must_use]
    pub const fn with_cost_estimate(mut self, estimate: Amount) -> Self {
        self.cost_estimate = Some(estimate);
        self
    }

    /// Checks the sizes.
    pub(crate) fn check(&self, input_bytes: usize) -> Result<()> {
        if self.key.is_empty() || self.key.len() > Self::KEY_BYTES_MAX {
            return Err(Error::invalid("task.key", "a key has 1 to 8192 bytes"));
        }
        if input_bytes > Self::INPUT_BYTES_MAX || self.priority > Self::PRIORITY_MAX {
            return Err(Error::invalid(
                "task",
                "the input is over 1 MiB or the priority over 4",
            ));
        }
        if self.limit_keys.len() > Self::LIMIT_KEYS_MAX {
            return Err(Error::invalid(
                "task.limit_keys",
                "a task has at most 8 limits",
            ));
        }
        for key in self.limit_keys.iter().chain(&self.fair_key) {
            if !(1..=Scheduling::KEY_BYTES_MAX).contains(&key.len()) {
                let reason = "a fairness or limit key has 1 to 256 bytes";
                return Err(Error::invalid("task.fair_key or task.limit_keys", reason));
            }
        }
        Ok(())
    }

    /// Returns the id the task has in a run, the same for every submission.
    #[must_use]
    pub fn id(&self, run: RunId) -> TaskId {
        let mut named = run.to_string().into_bytes();
        named.push(b'/');
        named.extend_from_slice(self.key.as_bytes());
        TaskId::from_bits(Digest::of_bytes(&named).to_bits())
    }
}

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

/// The right to act on a task until a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// Rises with every lease of the task; each write is checked against it.
    pub fence: Fence,
    /// Who holds it.
    pub owner: AgentId,
    /// The attempt it makes possible.
    pub attempt: AttemptId,
    /// The stage it was taken in.
    pub stage: Stage,
    /// The round it was taken in.
    pub round: u32,
    /// When it ends unless it is renewed, in the store's time.
    pub until: Timestamp,
    /// How often the task had been woken when the lease was taken; what wakes it
    /// afterwards keeps it from parking.
    pub wakes: u64,
}

impl Lease {
    /// Describes a lease on a task as it stands, for backends that hand it out.
    #[must_use]
    pub const fn new(
        task: &Task,
        fence: Fence,
        owner: AgentId,
        attempt: AttemptId,
        until: Timestamp,
    ) -> Self {
        Self {
            task: task.id,
            fence,
            owner,
            attempt,
            stage: task.stage,
            round: task.round,
            until,
            wakes: 0,
        }
    }
}

/// A task and the lease on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The task as it stood when it was claimed.
    pub task: Task,
    /// The lease.
    pub lease: Lease,
}

impl Claim {
    /// Joins a task and the lease on it.
    #[must_use]
    pub const fn new(task: Task, lease: Lease) -> Self {
        Self { task, lease }
    }
}

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
