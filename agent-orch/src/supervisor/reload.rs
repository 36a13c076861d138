//! Another configuration for a fleet that runs.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;

use super::reshape::{Reshape, branch};
use super::tree::{ROOT, agent_of, node_of};
use super::{RunHandle, throttle};
use crate::error::{Error, Result};
use crate::fleet::{ConfigError, Fleet, Remedy, ScheduleChange};
use crate::restart::Strategy;
use crate::supervise::Group;

/// What a reload did, by pool and lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Those configured otherwise; their agents were started anew if that concerns them.
    pub changed: Vec<String>,
    /// Those that were not there.
    pub added: Vec<String>,
    /// Those that are gone. Their open tasks go to a person, as those of any pool that nobody runs.
    pub removed: Vec<String>,
    /// Those as before.
    pub unchanged: Vec<String>,
}

fn places(fleet: &Fleet) -> BTreeSet<&String> {
    fleet.pools.keys().chain(fleet.lanes.keys()).collect()
}

impl RunHandle {
    /// Changes the configuration of the fleet while it runs. It is checked first, and nothing
    /// happens if it is wrong or the same. Agents of pools that are configured otherwise finish
    /// their attempt and start anew, a quarter of a pool at a time; added pools start, removed ones
    /// finish their attempts and end; budgets get their limits. A pool that has another supervisor
    /// finishes its attempts and starts under that one; a supervisor is built anew, with what is
    /// under it, if it has another one above it or its children another order, and stays if children
    /// are only removed or added after the others. The run's record and the audit trail name both
    /// configurations.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration is wrong or has another name or asset; `NotFound` if it
    /// names an agent that is not registered. Nothing is changed then. The store's.
    ///
    /// # Cancel safety
    /// Not cancel safe in that pools may be left with the old configuration; reloading the old one
    /// and then this one again continues.
    pub async fn reload(&self, fleet: Fleet) -> Result<Reloaded> {
        fleet.check()?;
        let crew = &self.crew;
        let _changing = crew.changing.lock().await;
        let old = self.shared.fleet();
        fits(&old, &fleet).map_err(Box::new)?;
        for place in places(&fleet) {
            let agent = agent_of(&fleet, place);
            if !crew.agents.contains_key(agent) {
                return Err(Error::not_found("registered agent", agent));
            }
        }
        let mut reloaded = Reloaded::default();
        let (from, to) = (old.digest()?, fleet.digest()?);
        let mut rolls = Vec::new();
        for place in places(&old).union(&places(&fleet)) {
            let list = match (old.spec_of(place)?, fleet.spec_of(place)?) {
                (None, _) => &mut reloaded.added,
                (_, None) => &mut reloaded.removed,
                (before, after) if before == after => &mut reloaded.unchanged,
                _ => {
                    if old.version_of(place)? != fleet.version_of(place)? {
                        rolls.push((*place).clone());
                    }
                    &mut reloaded.changed
                }
            };
            list.push((*place).clone());
        }
        if from == to {
            return Ok(reloaded);
        }
        let payload = json!({
            "from": from, "to": to, "changed": reloaded.changed, "added": reloaded.added,
            "removed": reloaded.removed,
        });
        let scope = self.host.clone().with_run(self.run.id);
        self.shared
            .journal
            .respec(&scope, self.run.id, to, payload)
            .await?;
        crew.stack.set_limits(&old, &fleet).await?;
        let scheduling = &fleet.scheduling;
        self.shared
            .journal
            .configure(&scope, self.run.id, scheduling)
            .await?;
        if old.scheduling.limits != scheduling.limits || old.breaker != fleet.breaker {
            let throttle = throttle(&crew.stack, &fleet);
            self.shared.door.reconfigure(throttle, fleet.breaker);
        }
        self.shared.set_fleet(fleet);
        self.follow(&old, &reloaded, &rolls).await?;
        self.shared.ring_all();
        Ok(reloaded)
    }

    /// Brings the tree to the new configuration.
    async fn follow(&self, old: &Fleet, reloaded: &Reloaded, rolls: &[String]) -> Result<()> {
        let (crew, fleet) = (&self.crew, self.shared.fleet());
        let shape = Reshape::new(old, &fleet);
        join_all(shape.leaving.iter().map(|place| crew.dissolve(old, place))).await;
        for node in &shape.gone {
            self.tree.remove(node, None).await;
        }
        self.supervise(&fleet, &shape).await;
        for node in &shape.coming {
            self.build(&fleet, node).await?;
        }
        for place in &reloaded.changed {
            if !shape.comes(&node_of(&fleet, place)) && rolls.contains(place) {
                crew.roll(&fleet, place).await?;
            }
            crew.resize(&fleet, place, &self.tracker).await?;
        }
        for place in &reloaded.removed {
            crew.dissolve(old, place).await;
        }
        self.forget_recovered().await?;
        let schedules = fleet.schedules.clone();
        self.change(ScheduleChange::Manifest(schedules))
            .await
            .map(|_changed| ())
    }

    /// Tells what stays how to supervise from now on.
    async fn supervise(&self, fleet: &Fleet, shape: &Reshape) {
        let root = fleet.supervisor.with_strategy(Strategy::OneForOne);
        self.tree.supervise(ROOT, root).await;
        for (name, branch) in &fleet.supervisors {
            let node = format!("supervisor.{name}");
            if !shape.comes(&node) {
                self.tree.supervise(&node, branch.supervision).await;
            }
        }
        for place in places(fleet) {
            let node = node_of(fleet, place);
            if !shape.comes(&node) {
                let supervision = fleet.supervision_of(&node);
                self.tree.supervise(&node, supervision).await;
            }
        }
    }

    /// Puts a supervisor, or a pool or lane with its agents, where the configuration has it.
    async fn build(&self, fleet: &Fleet, node: &str) -> Result<()> {
        let above = fleet.supervisor_of(node);
        let above = above.map_or_else(|| ROOT.to_owned(), |name| format!("supervisor.{name}"));
        if let Some(branch) = branch(fleet, node) {
            let group = Group::new(node, branch.supervision);
            return self.tree.add_group(&above, group).await;
        }
        let place = node.split_once('.').map_or(node, |(_, place)| place);
        let pool = Group::pool(node, fleet.supervision_of(node));
        self.tree.add_group(&above, pool).await?;
        self.crew.grow(fleet, place, fleet.size_of(place)).await
    }
}

/// Checks that a fleet can become another one without an end of the run.
fn fits(old: &Fleet, fleet: &Fleet) -> Result<(), ConfigError> {
    let keep = |key: &str, was: String| {
        let reason = "it cannot change while the run goes on";
        Err(ConfigError::new(key, reason, Remedy::Write(was)))
    };
    if old.name != fleet.name {
        return keep("fleet.name", format!("`{}`", old.name));
    }
    if old.budget.asset() != fleet.budget.asset() {
        return keep(
            "fleet.budget",
            format!("an amount of {}", old.budget.asset()),
        );
    }
    Ok(())
}
