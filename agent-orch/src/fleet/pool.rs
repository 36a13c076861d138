//! Pools: agents that do the same kind of work.

use std::time::Duration;

use agent_core::Amount;

use super::recovery::PoolRecovery;

/// A pool of agents that do the same kind of work.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pool {
    /// The agent's name in the host's registry.
    pub agent: String,
    /// How many agents.
    pub size: u32,
    /// The most the pool may spend; each agent's own budget is the same, narrowed by the pool's.
    pub budget: Amount,
    /// The pool that verifies this one's work; verifying pools have none.
    pub verifier: Option<String>,
    /// The lane its changes land in.
    pub lane: Option<String>,
    /// What its agents may do, each `action:target` with an optional `*` at the end of either.
    pub grants: Vec<String>,
    /// How long one attempt may take. Default: 5 min.
    pub attempt_max: Duration,
    /// How many steps one attempt may take. Default: 200.
    pub steps_max: u32,
    /// How its tasks recover, where that differs from the fleet.
    pub recovery: PoolRecovery,
}

impl Pool {
    /// The most agents of one pool in one process.
    pub const SIZE_MAX: u32 = 10_000;

    /// Describes a pool without grants: its agents may do nothing until some are added.
    #[must_use]
    pub fn new(agent: impl Into<String>, size: u32, budget: Amount) -> Self {
        Self {
            agent: agent.into(),
            size,
            budget,
            verifier: None,
            lane: None,
            grants: Vec::new(),
            attempt_max: Duration::from_secs(300),
            steps_max: 200,
            recovery: PoolRecovery::default(),
        }
    }

    /// Sets the verifying pool and the lane of changes. Default: none.
    #[must_use]
    pub fn with_verifier(mut self, verifier: impl Into<String>, lane: Option<&str>) -> Self {
        self.verifier = Some(verifier.into());
        self.lane = lane.map(str::to_owned);
        self
    }

    /// Adds a grant `action:target`. Default: none, which denies everything.
    #[must_use]
    pub fn with_grant(mut self, grant: impl Into<String>) -> Self {
        self.grants.push(grant.into());
        self
    }

    /// Sets how its tasks recover. Default: as the fleet's do.
    #[must_use]
    pub fn with_recovery(mut self, recovery: PoolRecovery) -> Self {
        self.recovery = recovery;
        self
    }
}
