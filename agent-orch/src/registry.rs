//! The registry of agents: who there is, whose they are, what they are for and what they cost, so
//! that a fleet does not sprawl.

use std::fmt;
use std::time::Duration;

use agent_core::{AgentId, Amount, Digest, Timestamp};
use agent_identity::GrantId;

use crate::error::{Error, Result};
use crate::fleet::Fleet;

/// What an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentState {
    /// It has not asked for work since it was started.
    Starting,
    /// It has no task.
    Idle,
    /// It holds a task.
    Working,
    /// It crashed and has not asked for work since.
    Restarting,
    /// Its pool was given up.
    Quarantined,
    /// It does not work again: its grants are revoked and its identity cannot claim.
    Retired,
}

impl AgentState {
    const ALL: [Self; 6] = [
        Self::Starting,
        Self::Idle,
        Self::Working,
        Self::Restarting,
        Self::Quarantined,
        Self::Retired,
    ];

    /// Returns the name it is stored and reported under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Working => "working",
            Self::Restarting => "restarting",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for AgentState {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| Error::invalid("agent.state", format!("`{name}` is unknown")))
    }
}

/// An agent to enter into the registry, or to bring up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewAgent {
    /// The agent.
    pub id: AgentId,
    /// Its decentralized identifier.
    pub did: String,
    /// Its name, which is also the path of its budget.
    pub name: String,
    /// Its pool or lane.
    pub pool: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
    /// The hash of its pool's configuration.
    pub version: Digest,
    /// Its own grants and when they end, to be revoked when it retires.
    pub grants: Vec<(GrantId, Timestamp)>,
}

impl NewAgent {
    /// Describes an agent without an owner, a purpose or grants.
    #[must_use]
    pub fn new(
        id: AgentId,
        did: impl Into<String>,
        name: impl Into<String>,
        pool: impl Into<String>,
        version: Digest,
    ) -> Self {
        Self {
            id,
            did: did.into(),
            name: name.into(),
            pool: pool.into(),
            owner: None,
            purpose: None,
            version,
            grants: Vec::new(),
        }
    }
}

/// An agent as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentRecord {
    /// What it was entered with.
    pub agent: NewAgent,
    /// What it is doing.
    pub state: AgentState,
    /// When it was last started.
    pub started: Timestamp,
    /// When it last took, finished or lost a task; at first when it was started.
    pub active: Timestamp,
    /// How often it was restarted.
    pub restarts: u64,
    /// What it spent.
    pub spent: Amount,
}

impl AgentRecord {
    /// Returns whether its pool is not in a fleet.
    #[must_use]
    pub fn is_orphan(&self, fleet: &Fleet) -> bool {
        let pool = &self.agent.pool;
        !fleet.pools.contains_key(pool) && !fleet.lanes.contains_key(pool)
    }

    /// Returns whether its pool is configured otherwise than when it was started.
    #[must_use]
    pub fn has_drifted(&self, fleet: &Fleet) -> bool {
        !self.is_orphan(fleet)
            && !fleet
                .version_of(&self.agent.pool)
                .is_ok_and(|version| version == self.agent.version)
    }

    /// Returns whether it did nothing for a time.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp, longer: Duration) -> bool {
        let rests = !matches!(self.state, AgentState::Working | AgentState::Retired);
        rests && now.since(self.active) >= longer
    }
}

/// Which agents are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentQuery {
    /// Only those whose name is greater.
    pub after: Option<String>,
    /// Only those of a pool.
    pub pool: Option<String>,
    /// Whether also those that are retired. Default: no.
    pub retired: bool,
}

impl AgentQuery {
    /// The most agents of one answer; ask again with `after` for more.
    pub const PAGE_MAX: usize = 1_000;

    /// Asks for all agents that are not retired.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Narrows it to a pool. Default: all.
    #[must_use]
    pub fn of_pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Asks for those that are retired too. Default: no.
    #[must_use]
    pub const fn with_retired(mut self) -> Self {
        self.retired = true;
        self
    }
}

/// Agents that should not be, or not be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sprawl {
    /// Those whose pool is not in the fleet.
    pub orphans: Vec<AgentRecord>,
    /// Those that did nothing for long.
    pub idle: Vec<AgentRecord>,
    /// Those that were started under another configuration of their pool.
    pub drifted: Vec<AgentRecord>,
}
