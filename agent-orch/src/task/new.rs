//! A task to submit: what is to be done, by when, and at what cost.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Amount, Digest, RunId, Scope, TaskId, Timestamp};
use serde_json::Value;

use super::Task;
use super::stage::{Stage, Status};
use crate::error::{Error, Result};
use crate::fleet::Scheduling;

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
