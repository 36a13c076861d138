//! Another configuration for a fleet that runs.

use std::collections::BTreeSet;

use serde_json::json;

use super::tree::{ROOT, agent_of, node_of};
use super::{RunHandle, throttle};
use crate::error::{Error, Result};
use crate::fleet::{ConfigError, Fleet, Remedy, ScheduleChange};
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
    /// finish their attempts and end; budgets get their limits. The run's record and the audit
    /// trail name both configurations.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration is wrong, has another name or asset, or moves what
    /// runs to another supervisor; `NotFound` if it names an agent that is not registered. Nothing
    /// is changed then. The store's.
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
        for (name, branch) in &fleet.supervisors {
            let node = format!("supervisor.{name}");
            self.tree.supervise(&node, branch.supervision).await;
        }
        for place in reloaded.changed.iter().chain(&reloaded.unchanged) {
            let node = node_of(&fleet, place);
            self.tree
                .supervise(&node, fleet.supervision_of(&node))
                .await;
        }
        for place in &reloaded.added {
            let node = node_of(&fleet, place);
            let above = fleet.supervisor_of(&node);
            let above = above.map_or_else(|| ROOT.to_owned(), |name| format!("supervisor.{name}"));
            let pool = Group::pool(node.as_str(), fleet.supervision_of(&node));
            self.tree.add_group(&above, pool).await?;
            crew.grow(&fleet, place, fleet.size_of(place)).await?;
        }
        for place in &reloaded.changed {
            if rolls.contains(place) {
                crew.roll(&fleet, place).await?;
            }
            crew.resize(&fleet, place, &self.tracker).await?;
        }
        for place in &reloaded.removed {
            crew.dissolve(old, place).await;
        }
        let schedules = fleet.schedules.clone();
        self.change(ScheduleChange::Manifest(schedules))
            .await
            .map(|_changed| ())
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
    let all = |fleet: &Fleet| -> BTreeSet<String> { fleet.supervisors.keys().cloned().collect() };
    if all(old) != all(fleet) {
        return keep("supervisor", "the supervisors there are".to_owned());
    }
    let nodes = places(fleet).into_iter().map(|place| node_of(fleet, place));
    let branches = fleet.supervisors.keys().map(|n| format!("supervisor.{n}"));
    for node in nodes.chain(branches) {
        let name = node.split_once('.').map_or("", |(_, name)| name);
        let was_there = node.starts_with("supervisor.") || node_of(old, name) == node;
        let is_old = node.starts_with("supervisor.")
            || old.pools.contains_key(name)
            || old.lanes.contains_key(name);
        if is_old && (!was_there || old.supervisor_of(&node) != fleet.supervisor_of(&node)) {
            return keep(&node, "it where it was".to_owned());
        }
    }
    Ok(())
}
