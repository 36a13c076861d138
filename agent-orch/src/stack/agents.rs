//! The registry of agents at the host: what there is, what should not be, and retirement.

use std::collections::BTreeSet;
use std::time::Duration;

use agent_core::{AgentId, IdempotencyKey};
use agent_pay::backend::sqlite as ledger;
use agent_pay::{BudgetPath, SetLimit};

use super::Stack;
use crate::error::Result;
use crate::fleet::Fleet;
use crate::registry::{AgentQuery, AgentRecord, AgentState, Sprawl};

impl Stack {
    /// Returns agents by name, at most [`AgentQuery::PAGE_MAX`], with what they spent of the
    /// fleet's asset.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn agents(&self, query: &AgentQuery, fleet: &Fleet) -> Result<Vec<AgentRecord>> {
        let asset = fleet.budget.asset();
        self.inner.journal.agents(query.clone(), asset).await
    }

    /// Returns the agents that should not be, or not be so: those whose pool is not in the fleet,
    /// those that did nothing for `idle`, and those started under another configuration.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn sprawl(&self, fleet: &Fleet, idle: Duration) -> Result<Sprawl> {
        let now = self.inner.env.clock.now();
        let mut sprawl = Sprawl::default();
        for record in self.all_agents(AgentQuery::new(), fleet).await? {
            if record.is_idle(now, idle) {
                sprawl.idle.push(record.clone());
            }
            if record.is_orphan(fleet) {
                sprawl.orphans.push(record);
            } else if record.has_drifted(fleet) {
                sprawl.drifted.push(record);
            }
        }
        Ok(sprawl)
    }

    async fn all_agents(&self, mut query: AgentQuery, fleet: &Fleet) -> Result<Vec<AgentRecord>> {
        let mut all = Vec::new();
        loop {
            let page = self.agents(&query, fleet).await?;
            let Some(last) = page.last() else {
                return Ok(all);
            };
            query.after = Some(last.agent.name.clone());
            all.extend(page);
        }
    }

    /// Retires an agent that does not run: its identity cannot claim from then on, its grants are
    /// revoked, and what is left of its budget stays with its pool. One that runs is retired with
    /// [`crate::RunHandle::retire`].
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it holds a task; the store's, the ledger's and the grants'.
    ///
    /// # Cancel safety
    /// It is retired first; retiring it again does the rest.
    pub async fn retire(&self, id: AgentId, fleet: &Fleet, reason: &str) -> Result<AgentRecord> {
        let (scope, asset) = (self.host_scope(), fleet.budget.asset());
        let record = self
            .inner
            .journal
            .retire(&scope, id, asset, reason.to_owned())
            .await?;
        let grants = record.agent.grants.clone();
        if !grants.is_empty() {
            let why = "the agent is retired".to_owned();
            self.inner.grants.revoke(&scope, grants, why).await?;
        }
        let path = BudgetPath::new(&record.agent.name)?;
        let key = IdempotencyKey::new(format!("retire/{id}"))?;
        self.inner
            .db
            .write(move |tx| {
                let balance = ledger::balance(tx, asset, &path)?;
                let used = balance.spent.plus(balance.held)?;
                ledger::set_limit(tx, &SetLimit::new(key, path, used))
            })
            .await?;
        Ok(record)
    }

    /// Returns the numbers of a pool's or lane's agents that are retired.
    pub(crate) async fn retired(&self, fleet: &Fleet, place: &str) -> Result<BTreeSet<u32>> {
        let query = AgentQuery::new().of_pool(place).with_retired();
        let all = self.all_agents(query, fleet).await?;
        let retired = all.iter().filter(|r| r.state == AgentState::Retired);
        let numbers = retired.filter_map(|r| r.agent.name.rsplit('/').next()?.parse().ok());
        Ok(numbers.collect())
    }

    /// Gives the budgets of a fleet the limits of another one, where they differ.
    pub(crate) async fn set_limits(&self, old: &Fleet, fleet: &Fleet) -> Result<()> {
        let (now, root) = (self.inner.env.clock.now(), BudgetPath::new(&fleet.name)?);
        let mut limits = Vec::new();
        if old.budget != fleet.budget {
            limits.push((root.clone(), fleet.budget));
        }
        for (name, pool) in &fleet.pools {
            let before = old.pools.get(name).map(|pool| pool.budget);
            if before.is_some_and(|before| before != pool.budget) {
                limits.push((root.child(name)?, pool.budget));
                let query = AgentQuery::new().of_pool(name);
                for record in self.all_agents(query, fleet).await? {
                    limits.push((BudgetPath::new(&record.agent.name)?, pool.budget));
                }
            }
        }
        let mut sets = Vec::new();
        for (path, limit) in limits {
            let key = format!("limit/{}/{}", now.as_unix_ms(), path.as_str());
            let key = IdempotencyKey::new(key)?;
            sets.push(SetLimit::new(key, path, limit));
        }
        self.inner
            .db
            .write(move |tx| sets.iter().try_for_each(|set| ledger::set_limit(tx, set)))
            .await?;
        Ok(())
    }
}
