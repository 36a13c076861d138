//! Agents get their identities, wallets and grants: the same at every start.

use std::sync::Arc;
use std::time::Duration;

use agent_core::Timestamp;
use agent_identity::{Capability, CapabilityGate, GrantChain, Key, KeyName, Terms};
use agent_pay::backend::sqlite as ledger;
use agent_pay::{BudgetPath, OpenBudget};

use super::place::{member, member_name, places};
use super::{Stack, agent_id, one_key};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, GrantText};
use crate::journal::Run;
use crate::registry::NewAgent;
use crate::runner::Member;

/// The agents of a fleet and the gate of their grants.
pub(crate) struct Enlisted {
    pub(crate) members: Vec<Member>,
    pub(crate) grants: Arc<CapabilityGate>,
}

/// How long the grants of a run hold at least; opening it again renews them.
const GRANTS_LAST: Duration = Duration::from_secs(7 * DAY_S);

/// How long grants with limits hold from the start of their run, longer than runs last.
const LIMITED_GRANTS_LAST: Duration = Duration::from_secs(365 * DAY_S);

/// A day in seconds. Grants end at midnight, so that those issued again on the same day are the
/// same grants.
const DAY_S: u64 = 86_400;

impl Stack {
    /// Gives the agents of a fleet their identities, wallets and grants: the same at every start.
    pub(crate) async fn enlist(&self, fleet: &Fleet, run: &Run) -> Result<Enlisted> {
        let root = OpenBudget::new(BudgetPath::new(&fleet.name)?, fleet.budget);
        self.open_budgets(vec![root]).await?;
        let gate = Arc::new(CapabilityGate::new(
            vec![self.inner.host.did],
            Arc::clone(&self.inner.grants),
            &self.inner.env,
        ));
        let mut members = Vec::new();
        for place in places(fleet) {
            let retired = self.retired(fleet, place.name).await?;
            let size = usize::try_from(place.size).unwrap_or(usize::MAX);
            let numbers = (1_u32..).filter(|n| !retired.contains(n)).take(size);
            let numbers: Vec<u32> = numbers.collect();
            members.extend(
                self.enlist_some(&gate, fleet, run.started, (place.name, &numbers))
                    .await?,
            );
        }
        Ok(Enlisted {
            members,
            grants: gate,
        })
    }

    /// Gives agents of a pool or lane their identities, wallets and grants, and enters them into
    /// the registry. `started` is when the run started.
    pub(crate) async fn enlist_some(
        &self,
        gate: &CapabilityGate,
        fleet: &Fleet,
        started: Timestamp,
        (name, numbers): (&str, &[u32]),
    ) -> Result<Vec<Member>> {
        let place = places(fleet)
            .find(|place| place.name == name)
            .ok_or_else(|| Error::not_found("pool or lane", name))?;
        let path = BudgetPath::new(&fleet.name)?.child(place.name)?;
        let mut budgets = vec![OpenBudget::new(path.clone(), place.budget)];
        let (holder, keys) = self.keys_of(&path, numbers).await?;
        let grants = self.grants(place.grants, started)?;
        let mut chains = Vec::new();
        for (capabilities, expires) in &grants {
            chains.push(self.pool_grant(&holder, capabilities, *expires).await?);
        }
        let version = fleet.version_of(place.name)?;
        let (mut members, mut agents) = (Vec::new(), Vec::new());
        for (number, key) in numbers.iter().zip(&keys) {
            let budget = path.child(&member_name(*number))?;
            budgets.push(OpenBudget::new(budget.clone(), place.budget));
            let (id, did) = (agent_id(&key.did), key.did.to_string());
            let mut agent = NewAgent::new(id, did, budget.as_str(), place.name, version);
            if let Some(pool) = fleet.pools.get(place.name) {
                (agent.owner, agent.purpose) = (pool.owner.clone(), pool.purpose.clone());
            }
            for (chain, (capabilities, expires)) in chains.iter().zip(&grants) {
                let terms = Terms::new(key.did, capabilities.clone(), *expires);
                let scope = self.host_scope();
                let own = chain.delegate(self.inner.keys.as_ref(), &scope, &holder, &terms);
                let own = gate.admit(&own.await?.to_string())?;
                let last = own.ids().last();
                agent.grants.extend(last.map(|id| (id, own.expires())));
            }
            agents.push(agent);
            members.push(member(place, key, budget, *number)?);
        }
        self.open_budgets(budgets).await?;
        let scope = self.host_scope();
        self.inner.journal.enroll(&scope, agents).await?;
        Ok(members)
    }

    async fn open_budgets(&self, budgets: Vec<OpenBudget>) -> Result<()> {
        self.inner
            .db
            .write(move |tx| {
                budgets
                    .iter()
                    .try_for_each(|open| ledger::open_budget(tx, open).map(|_| ()))
            })
            .await?;
        Ok(())
    }

    /// Returns the key of a pool's supervisor and those of its agents.
    async fn keys_of(&self, path: &BudgetPath, numbers: &[u32]) -> Result<(Key, Vec<Key>)> {
        let scope = self.host_scope();
        let holder = one_key(self.inner.keys.as_ref(), &scope, path.as_str()).await?;
        let names: Vec<KeyName> = numbers
            .iter()
            .map(|n| KeyName::new(format!("{}/{}", path.as_str(), member_name(*n))))
            .collect::<Result<_, _>>()?;
        let mut keys = Vec::with_capacity(names.len());
        for batch in names.chunks(agent_identity::key_store::NAMES_MAX) {
            keys.extend(self.inner.keys.generate(&scope, batch.to_vec()).await?);
        }
        Ok((holder, keys))
    }

    async fn pool_grant(
        &self,
        holder: &Key,
        capabilities: &[Capability],
        expires: Timestamp,
    ) -> Result<GrantChain> {
        let terms = Terms::new(holder.did, capabilities.to_vec(), expires).with_depth(1);
        let (keys, host) = (self.inner.keys.as_ref(), &self.inner.host);
        Ok(GrantChain::issue(keys, &self.host_scope(), host, &terms).await?)
    }

    /// Returns the capabilities of grants and when they end: those without limits are renewed by
    /// the day. What counts is counted per grant, so those with limits must be the same grants
    /// whenever the run is opened.
    pub(super) fn grants(
        &self,
        grants: &[String],
        started: Timestamp,
    ) -> Result<Vec<(Vec<Capability>, Timestamp)>> {
        let (mut free, mut limited) = (Vec::new(), Vec::new());
        for text in grants {
            let grant = GrantText::parse(text).map_err(|e| Error::invalid("grants", e))?;
            let mut capability = Capability::new(grant.action, grant.target)?;
            (capability.calls_max, capability.spend_max) = (grant.calls_max, grant.spend_max);
            let group = if grant.is_limited() {
                &mut limited
            } else {
                &mut free
            };
            group.push(capability);
        }
        let day_ms = i64::try_from(DAY_S * 1_000).unwrap_or(i64::MAX);
        let until_ms = self.inner.env.clock.now().after(GRANTS_LAST).as_unix_ms();
        let midnight = Timestamp::from_unix_ms(until_ms - until_ms.rem_euclid(day_ms) + day_ms);
        let groups = [
            (free, midnight),
            (limited, started.after(LIMITED_GRANTS_LAST)),
        ];
        let filled = groups.into_iter().filter(|(group, _)| !group.is_empty());
        Ok(filled.collect())
    }
}
