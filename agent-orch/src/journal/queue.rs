//! Who asks for work, what there is, and what time changed.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{AgentId, RunId};
use agent_pay::BudgetPath;

use crate::task::{Stage, Status};

/// Who asks for work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// The run to work on.
    pub run: RunId,
    /// The pool whose tasks are wanted.
    pub pool: String,
    /// Who will hold the lease.
    pub owner: AgentId,
    /// How long the lease lasts unless it is renewed.
    pub lease: Duration,
    /// The budget that must have what a task may cost, and who is asked if it has not.
    pub admission: Option<Admission>,
}

/// Which budget must have what a task may cost before it is begun, and who is asked if it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admission {
    /// The budget; those above it count as well.
    pub budget: BudgetPath,
    /// Who is asked to raise it.
    pub route: String,
    /// How long the question waits; then the task is rejected.
    pub deadline: Duration,
}

impl Admission {
    /// Names the budget, and who is asked for how long.
    #[must_use]
    pub fn new(budget: BudgetPath, route: impl Into<String>, deadline: Duration) -> Self {
        Self {
            budget,
            route: route.into(),
            deadline,
        }
    }
}

impl ClaimRequest {
    /// The lease a worker gets by default; heartbeats come three times as often.
    pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

    /// Asks for a task of a pool with a lease of 30 s.
    #[must_use]
    pub fn new(run: RunId, pool: impl Into<String>, owner: AgentId) -> Self {
        Self {
            run,
            pool: pool.into(),
            owner,
            lease: Self::LEASE_DEFAULT,
            admission: None,
        }
    }

    /// Sets the budget that must have what a task may cost. Default: none, every task is begun.
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }
}

/// The tasks of one priority that agents of a pool could claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// The pool or lane.
    pub pool: String,
    /// Their priority by now.
    pub priority: u8,
    /// How many; those that wait for a limit are not among them.
    pub n_ready: u64,
}

/// What a sweep changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Leases that had ended and were taken back.
    pub leases: u64,
    /// Requests whose deadline passed.
    pub requests: u64,
    /// Waits whose moment came.
    pub waits: u64,
    /// Delayed tasks whose time had come.
    pub delayed: u64,
    /// Tasks that waited long and moved up one priority.
    pub raised: u64,
    /// Tasks that schedules submitted.
    pub fired: u64,
    /// What nothing else would have moved: overdue tasks, tasks that waited for nothing, questions
    /// of ended tasks.
    pub reaped: u64,
}

impl Swept {
    /// The most tasks of one kind that one sweep changes, so that a large backlog does not keep
    /// other writes waiting.
    pub const BATCH_MAX: u32 = 256;

    /// Returns whether nothing was due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Tasks of a run by stage and status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts(pub BTreeMap<(Stage, Status), u64>);

impl Counts {
    /// Returns how many tasks have the status, over all stages.
    #[must_use]
    pub fn of(&self, status: Status) -> u64 {
        self.0
            .iter()
            .filter(|((_, s), _)| *s == status)
            .map(|(_, n)| n)
            .sum()
    }

    /// Returns how many tasks there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns how many tasks have neither ended nor wait for somebody.
    #[must_use]
    pub fn moving(&self) -> u64 {
        let still = |s: &Status| s.is_terminal() || matches!(s, Status::Parked | Status::Paused);
        self.0
            .iter()
            .filter(|((_, s), _)| !still(s))
            .map(|(_, n)| n)
            .sum()
    }
}
