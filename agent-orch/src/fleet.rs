//! The fleet as configuration: pools, supervision, recovery, escalation and merge lanes, from
//! `fleet.toml` or built in Rust from the same types.
//!
//! ```toml
//! [fleet]
//! name = "hygiene"
//! budget = "2.00 USD"
//!
//! [supervisor]
//! strategy = "one_for_one"
//! intensity = 20
//! period = "60s"
//!
//! [pool.menders]
//! agent = "mender"
//! size = 40
//! budget = "1.50 USD"
//! verifier = "verifiers"
//! lane = "hygiene"
//! grants = ["sandbox.exec:checks", "tool.call:*"]
//!
//! [pool.verifiers]
//! agent = "verifier"
//! size = 10
//! budget = "0.50 USD"
//!
//! [lane.hygiene]
//! agent = "lander"
//! target = "agents/hygiene"
//!
//! [recovery]
//! transient = ["retry:5", "reassign:1", "fail"]
//! ```

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Amount, Digest};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::recovery::{Backoff, RecoveryTable};
use crate::restart::{Intensity, Restart, Strategy};

/// A whole fleet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fleet {
    /// Its name: the root of its budgets and memory scopes. Letters, digits, `-`, `_`.
    pub name: String,
    /// The most the whole fleet may spend.
    pub budget: Amount,
    /// How crashed agents are restarted.
    pub supervisor: Supervision,
    /// The pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// The merge lanes by name.
    pub lanes: BTreeMap<String, Lane>,
    /// What is done about each class of failure.
    pub recovery: RecoveryTable,
    /// The waits between retries.
    pub backoff: Backoff,
    /// Who is asked.
    pub escalation: Escalation,
}

/// How the agents of every pool are restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Supervision {
    /// Which siblings restart with a crashed agent. Default: one for one.
    pub strategy: Strategy,
    /// When a crashed agent restarts. Default: transient.
    pub restart: Restart,
    /// How many restarts are normal, per pool. Default: 1 in 5 s. A pool that exceeds it is
    /// quarantined; the host goes on.
    pub intensity: Intensity,
}

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
}

/// Where verified changes land: a pool of its own kind, whose agents hand changes to the merge
/// queue and wait for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lane {
    /// The agent's name in the host's registry.
    pub agent: String,
    /// How many changes are in the queue at once. Default: 64.
    pub size: u32,
    /// The branch, without `refs/heads/`.
    pub target: String,
    /// What its agents may do. Default: nothing.
    pub grants: Vec<String>,
}

impl Lane {
    /// How many changes are in the queue at once unless a manifest says otherwise: enough for
    /// batches, few enough to plan quickly.
    pub const SIZE_DEFAULT: u32 = 64;

    /// Describes a lane onto a branch.
    #[must_use]
    pub fn new(agent: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            size: Self::SIZE_DEFAULT,
            target: target.into(),
            grants: Vec::new(),
        }
    }

    /// Adds a grant `action:target`. Default: none.
    #[must_use]
    pub fn with_grant(mut self, grant: impl Into<String>) -> Self {
        self.grants.push(grant.into());
        self
    }
}

/// Who is asked when no rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Escalation {
    /// Who. Default: `owner`.
    pub route: String,
    /// How long the question waits before its default applies. Default: 24 h.
    pub deadline: Duration,
}

impl Default for Escalation {
    fn default() -> Self {
        Self {
            route: "owner".to_owned(),
            deadline: Duration::from_secs(86_400),
        }
    }
}

impl Fleet {
    /// Describes a fleet without pools; recovery, waits and escalation as their defaults say.
    #[must_use]
    pub fn new(name: impl Into<String>, budget: Amount) -> Self {
        Self {
            name: name.into(),
            budget,
            supervisor: Supervision::default(),
            pools: BTreeMap::new(),
            lanes: BTreeMap::new(),
            recovery: RecoveryTable::default(),
            backoff: Backoff::default(),
            escalation: Escalation::default(),
        }
    }

    /// Adds a pool.
    #[must_use]
    pub fn with_pool(mut self, name: impl Into<String>, pool: Pool) -> Self {
        self.pools.insert(name.into(), pool);
        self
    }

    /// Adds a lane.
    #[must_use]
    pub fn with_lane(mut self, name: impl Into<String>, lane: Lane) -> Self {
        self.lanes.insert(name.into(), lane);
        self
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// `Invalid` with the line, the key and what is expected.
    pub fn from_toml(text: &str) -> Result<Self> {
        let fleet = text::parse(text)?;
        fleet.check()?;
        Ok(fleet)
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// `Invalid` naming the key.
    pub fn check(&self) -> Result<()> {
        check_name("fleet.name", &self.name)?;
        if self.pools.is_empty() {
            return Err(Error::invalid("pool", "a fleet has at least one pool"));
        }
        for (name, pool) in &self.pools {
            self.check_pool(name, pool)?;
            check_grants(&format!("pool.{name}.grants"), &pool.grants)?;
        }
        for (name, lane) in &self.lanes {
            check_name(&format!("lane.{name}"), name)?;
            check_grants(&format!("lane.{name}.grants"), &lane.grants)?;
            if self.pools.contains_key(name) {
                let reason = "a pool and a lane cannot have the same name";
                return Err(Error::invalid(format!("lane.{name}"), reason));
            }
            if lane.size == 0 || lane.size > Pool::SIZE_MAX {
                let reason = "a lane has 1 to 10000 agents";
                return Err(Error::invalid(format!("lane.{name}.size"), reason));
            }
        }
        Ok(())
    }

    fn check_pool(&self, name: &str, pool: &Pool) -> Result<()> {
        let key = |field: &str| format!("pool.{name}.{field}");
        check_name(&format!("pool.{name}"), name)?;
        if pool.size == 0 || pool.size > Pool::SIZE_MAX {
            return Err(Error::invalid(key("size"), "a pool has 1 to 10000 agents"));
        }
        if pool.budget.asset() != self.budget.asset() || pool.budget.is_negative() {
            let reason = format!("expected a positive amount of {}", self.budget.asset());
            return Err(Error::invalid(key("budget"), reason));
        }
        if let Some(verifier) = &pool.verifier {
            if !self.pools.contains_key(verifier) {
                let reason = format!("there is no pool `{verifier}`: add `[pool.{verifier}]`");
                return Err(Error::invalid(key("verifier"), reason));
            }
            if verifier == name && pool.size < 2 {
                let reason = "a pool that verifies itself needs two agents";
                return Err(Error::invalid(key("verifier"), reason));
            }
        }
        if let Some(lane) = &pool.lane
            && !self.lanes.contains_key(lane)
        {
            let reason = format!("there is no lane `{lane}`: add `[lane.{lane}]`");
            return Err(Error::invalid(key("lane"), reason));
        }
        Ok(())
    }

    /// Returns the hash of the whole configuration; a run records it, so that drift is seen.
    ///
    /// # Errors
    /// `Invalid` if a value has no canonical form.
    pub fn digest(&self) -> Result<Digest> {
        #[derive(Serialize)]
        struct Hashed {
            v: u32,
            fleet: String,
        }
        // The debug form names every field of every part in a fixed order.
        Ok(Digest::of_json(&Hashed {
            v: 1,
            fleet: format!("{self:?}"),
        })?)
    }
}

fn check_grants(key: &str, grants: &[String]) -> Result<()> {
    match grants.iter().find(|grant| !grant.contains(':')) {
        Some(grant) => Err(Error::invalid(
            key,
            format!("`{grant}` is not `action:target`"),
        )),
        None => Ok(()),
    }
}

fn check_name(key: &str, name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits {
        Ok(())
    } else {
        Err(Error::invalid(
            key,
            "a name has 1 to 64 letters, digits, `-` or `_`",
        ))
    }
}
