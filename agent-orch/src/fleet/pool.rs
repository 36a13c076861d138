//! Pools: agents that do the same kind of work.

use std::time::Duration;

use agent_core::Amount;

use super::limits::Limits;
use super::recovery::PoolRecovery;
use super::{Probes, Scale, Supervision};

/// A pool of agents that do the same kind of work.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pool {
    /// The agent's name in the host's registry.
    pub agent: String,
    /// How many agents; the least if it scales.
    pub size: u32,
    /// How it grows with its backlog. Default: not at all.
    pub scale: Option<Scale>,
    /// How its agents are supervised. Default: as the fleet's supervisor says; if the pool is the
    /// child of a supervisor of its own, too many restarts are that one's to decide about.
    pub supervision: Option<Supervision>,
    /// How its agents show that they work. Default: no probes.
    pub probes: Probes,
    /// Who answers for its agents. Default: nobody.
    pub owner: Option<String>,
    /// What its agents are for. Default: unsaid.
    pub purpose: Option<String>,
    /// The most the pool may spend; each agent's own budget is the same, narrowed by the pool's.
    pub budget: Amount,
    /// The pool that verifies this one's work; verifying pools have none.
    pub verifier: Option<String>,
    /// The lane its changes land in.
    pub lane: Option<String>,
    /// What its agents may do, each `action:target` with an optional `*` at the end of either, and
    /// optional limits: `pay.refund:*; calls 3; spend 5.00 USD`. A limit counts what all agents of
    /// the pool do in the whole run.
    pub grants: Vec<String>,
    /// How long one attempt may take. Default: 5 min.
    pub attempt_max: Duration,
    /// How many steps one attempt may take. Default: 200.
    pub steps_max: u32,
    /// How its tasks recover, where that differs from the fleet.
    pub recovery: PoolRecovery,
    /// What its tasks may use in all, with what they delegate.
    pub limits: Limits,
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
            scale: None,
            supervision: None,
            probes: Probes::new(),
            owner: None,
            purpose: None,
            budget,
            verifier: None,
            lane: None,
            grants: Vec::new(),
            attempt_max: Duration::from_secs(300),
            steps_max: 200,
            recovery: PoolRecovery::default(),
            limits: Limits::default(),
        }
    }

    /// Sets the verifying pool and the lane of changes. Default: none.
    #[must_use]
    pub fn with_verifier(mut self, verifier: impl Into<String>, lane: Option<&str>) -> Self {
        self.verifier = Some(verifier.into());
        self.lane = lane.map(str::to_owned);
        self
    }

    /// Lets it grow. Default: it keeps its size.
    #[must_use]
    pub const fn with_scale(mut self, scale: Scale) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Sets how its agents are supervised. Default: as the fleet's supervisor says.
    #[must_use]
    pub const fn with_supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = Some(supervision);
        self
    }

    /// Sets how its agents show that they work. Default: no probes.
    #[must_use]
    pub const fn with_probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// Sets who answers for its agents, and what they are for. Default: neither is said.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>, purpose: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self.purpose = Some(purpose.into());
        self
    }

    /// Returns the most agents it may have.
    #[must_use]
    pub fn size_max(&self) -> u32 {
        self.scale
            .map_or(self.size, |scale| scale.max.max(self.size))
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
