//! The agents that run: which there are of each pool, and how they become more, fewer or other
//! ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{AgentId, CancellationToken, ClockExt, Event, Scope};
use agent_identity::CapabilityGate;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::tree::{agent_of, child, node_of};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Pool, Scaler};
use crate::registry::AgentQuery;
use crate::runner::{AgentFactory, Member, Shared};
use crate::stack::Stack;
use crate::supervise::Handle;

/// How often pools are looked at that may scale.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks there are between two rounds of retirement: once in a minute is soon enough for
/// what is idle for days.
const LOOKS_PER_RETIREMENT: u64 = 60;

/// The agents of one pool or lane that run in this process, by number.
#[derive(Debug, Default)]
struct Squad {
    names: BTreeMap<u32, String>,
    /// Those that finish their attempt and then are gone.
    leaving: BTreeSet<u32>,
    scaler: Scaler,
}

/// All agents that run in this process.
pub(super) struct Crew {
    pub(super) shared: Arc<Shared>,
    pub(super) stack: Stack,
    pub(super) gate: Arc<CapabilityGate>,
    pub(super) agents: BTreeMap<String, AgentFactory>,
    pub(super) tree: Handle,
    pub(super) host: Scope,
    squads: Mutex<BTreeMap<String, Squad>>,
    ids: Mutex<BTreeMap<AgentId, String>>,
    /// Held by whoever changes the crew, so that one change follows the other.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("squads", &*self.squads.lock())
            .finish_non_exhaustive()
    }
}

impl Crew {
    pub(super) fn new(
        shared: Arc<Shared>,
        stack: Stack,
        gate: Arc<CapabilityGate>,
        agents: BTreeMap<String, AgentFactory>,
        tree: Handle,
        host: Scope,
    ) -> Self {
        Self {
            shared,
            stack,
            gate,
            agents,
            tree,
            host,
            squads: Mutex::default(),
            ids: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the agents by id, with their names.
    pub(super) fn ids(&self) -> BTreeMap<AgentId, String> {
        self.ids.lock().clone()
    }

    /// Takes in agents that run.
    pub(super) fn enter(&self, members: &[Member]) {
        let (mut squads, mut ids) = (self.squads.lock(), self.ids.lock());
        for member in members {
            let name = member.budget.as_str().to_owned();
            ids.insert(member.id, name.clone());
            let squad = squads.entry(member.pool.clone()).or_default();
            squad.names.insert(member.number, name);
        }
    }

    fn size(&self, place: &str) -> u32 {
        let squads = self.squads.lock();
        let n = squads.get(place).map_or(0, |squad| squad.names.len());
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    /// Starts agents of a pool or lane until it has a size.
    pub(super) async fn grow(&self, fleet: &Fleet, place: &str, size: u32) -> Result<()> {
        let missing = size.saturating_sub(self.size(place));
        if missing == 0 {
            return Ok(());
        }
        let retired = self.stack.retired(fleet, place).await?;
        let numbers: Vec<u32> = {
            let mut squads = self.squads.lock();
            let squad = squads.entry(place.to_owned()).or_default();
            let free = (1_u32..).filter(|n| {
                !squad.names.contains_key(n) && !squad.leaving.contains(n) && !retired.contains(n)
            });
            free.take(usize::try_from(missing).unwrap_or(usize::MAX))
                .collect()
        };
        self.start(fleet, place, &numbers).await
    }

    /// Starts the agents of these numbers.
    async fn start(&self, fleet: &Fleet, place: &str, numbers: &[u32]) -> Result<()> {
        let agent = agent_of(fleet, place);
        let factory = self
            .agents
            .get(agent)
            .ok_or_else(|| Error::not_found("registered agent", agent))?;
        let members = self
            .stack
            .enlist_some(&self.gate, fleet, self.shared.started, (place, numbers))
            .await?;
        let children = members
            .iter()
            .map(|member| child(&self.shared, member.clone(), factory))
            .collect();
        self.tree.add(&node_of(fleet, place), children).await?;
        self.enter(&members);
        Ok(())
    }

    /// Lets the agents of the highest numbers finish their attempt and go, until a size is left.
    fn shrink(self: &Arc<Self>, fleet: &Fleet, place: &str, size: u32, tracker: &TaskTracker) {
        let drain = drain_of(fleet, place);
        let mut going = Vec::new();
        if let Some(squad) = self.squads.lock().get_mut(place) {
            while squad.names.len() > usize::try_from(size).unwrap_or(usize::MAX) {
                let Some((number, name)) = squad.names.pop_last() else {
                    break;
                };
                squad.leaving.insert(number);
                going.push((number, name));
            }
        }
        for (number, name) in going {
            let (crew, place) = (Arc::clone(self), place.to_owned());
            tracker.spawn(async move {
                crew.tree.remove(&name, Some(drain)).await;
                crew.ids.lock().retain(|_, known| *known != name);
                if let Some(squad) = crew.squads.lock().get_mut(&place) {
                    squad.leaving.remove(&number);
                }
            });
        }
    }

    /// Lets every agent of a pool finish its attempt and starts it anew, a quarter of them at a
    /// time, so that the pool goes on working.
    pub(super) async fn roll(&self, fleet: &Fleet, place: &str) -> Result<()> {
        let drain = drain_of(fleet, place);
        let all: Vec<(u32, String)> = {
            let squads = self.squads.lock();
            let names = squads.get(place).map(|squad| squad.names.clone());
            names.unwrap_or_default().into_iter().collect()
        };
        for some in all.chunks(all.len().div_ceil(4).max(1)) {
            join_all(
                some.iter()
                    .map(|(_, name)| self.tree.remove(name, Some(drain))),
            )
            .await;
            let numbers: Vec<u32> = some.iter().map(|(number, _)| *number).collect();
            self.start(fleet, place, &numbers).await?;
        }
        Ok(())
    }

    /// Brings a pool to the size it is configured with, at least or at most.
    pub(super) async fn resize(
        self: &Arc<Self>,
        fleet: &Fleet,
        place: &str,
        tracker: &TaskTracker,
    ) -> Result<()> {
        let least = fleet.size_of(place);
        let most = fleet.pools.get(place).map_or(least, Pool::size_max);
        self.grow(fleet, place, least).await?;
        self.shrink(fleet, place, most, tracker);
        Ok(())
    }

    /// Lets every agent of a pool finish its attempt and takes the pool out of the tree.
    pub(super) async fn dissolve(&self, fleet: &Fleet, place: &str) {
        let drain = drain_of(fleet, place);
        let squad = self.squads.lock().remove(place).unwrap_or_default();
        let leaving = squad.names.values();
        join_all(leaving.map(|name| self.tree.remove(name, Some(drain)))).await;
        self.tree.remove(&node_of(fleet, place), None).await;
        let names: BTreeSet<&String> = squad.names.values().collect();
        self.ids.lock().retain(|_, name| !names.contains(name));
    }

    /// Takes one agent out of the tree, after its attempt, and returns its pool.
    pub(super) async fn dismiss(&self, id: AgentId) -> Option<String> {
        let name = self.ids.lock().get(&id).cloned()?;
        let place = {
            let mut squads = self.squads.lock();
            let mut all = squads.iter_mut();
            let (place, squad) = all.find(|(_, s)| s.names.values().any(|n| *n == name))?;
            squad.names.retain(|_, known| *known != name);
            place.clone()
        };
        let drain = drain_of(&self.shared.fleet(), &place);
        self.tree.remove(&name, Some(drain)).await;
        self.ids.lock().remove(&id);
        Some(place)
    }

    /// Brings a pool to the size its backlog wants.
    pub(super) async fn scale(self: &Arc<Self>, tracker: &TaskTracker) -> Result<()> {
        let _changing = self.changing.lock().await;
        let fleet = self.shared.fleet();
        if fleet.pools.values().all(|pool| pool.scale.is_none()) {
            return Ok(());
        }
        let run = self.shared.run;
        let mut backlog = self.shared.journal.held(run).await?;
        for queue in self.shared.journal.queues(run).await? {
            let n = backlog.entry(queue.pool).or_default();
            *n = n.saturating_add(queue.n_ready);
        }
        let now = self.shared.env.clock.monotonic();
        for (place, pool) in &fleet.pools {
            let Some(scale) = &pool.scale else { continue };
            let n_tasks = backlog.get(place).copied().unwrap_or(0);
            let current = self.size(place);
            let desired = {
                let mut squads = self.squads.lock();
                let scaler = &mut squads.entry(place.clone()).or_default().scaler;
                scaler.desired(scale, pool.size, n_tasks, current, now)
            };
            if desired == current {
                continue;
            }
            let payload = json!({
                "pool": place, "from": current, "to": desired, "backlog": n_tasks,
            });
            self.note("pool.scaled", payload).await?;
            if desired > current {
                self.grow(&fleet, place, desired).await?;
            } else {
                self.shrink(&fleet, place, desired, tracker);
            }
        }
        Ok(())
    }

    pub(super) async fn note(&self, kind: &str, payload: serde_json::Value) -> Result<()> {
        let event = Event::new(&self.host, self.shared.env.clock.now(), kind, payload);
        self.shared.journal.note(event).await.map(|_seq| ())
    }

    /// Retires whom the fleet's policy says, among those that run nowhere in this process.
    pub(super) async fn retire(&self) -> Result<()> {
        let fleet = self.shared.fleet();
        let policy = fleet.registry;
        if policy.idle.is_none() && !policy.orphans {
            return Ok(());
        }
        let now = self.shared.env.clock.now();
        let mut query = AgentQuery::new();
        loop {
            let page = self.stack.agents(&query, &fleet).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            query.after = Some(last.agent.name.clone());
            for record in &page {
                let runs = self.ids.lock().contains_key(&record.agent.id);
                let reason = match policy.idle {
                    _ if runs => continue,
                    _ if policy.orphans && record.is_orphan(&fleet) => "its pool is gone",
                    Some(longer) if record.is_idle(now, longer) => "idle for too long",
                    _ => continue,
                };
                self.stack.retire(record.agent.id, &fleet, reason).await?;
            }
        }
    }

    /// Keeps pools at their size until the run is stopped.
    pub(super) async fn keep(self: Arc<Self>, cancel: CancellationToken, tracker: TaskTracker) {
        for n in 0_u64.. {
            if let Err(error) = self.scale(&tracker).await {
                tracing::warn!(%error, "a pool was not scaled");
            }
            if n % LOOKS_PER_RETIREMENT == 0
                && let Err(error) = self.retire().await
            {
                tracing::warn!(%error, "no agents were retired");
            }
            tokio::select! {
                () = self.shared.env.clock.sleep(LOOK) => {}
                () = self.shared.submitted.notified() => {}
                () = cancel.cancelled() => return,
            }
        }
    }
}

/// How long an agent may take to finish its attempt.
fn drain_of(fleet: &Fleet, place: &str) -> Duration {
    let pool = fleet.pools.get(place);
    pool.map_or(Duration::from_secs(300), |pool| pool.attempt_max)
}
