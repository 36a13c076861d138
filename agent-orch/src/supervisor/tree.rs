//! The fleet as a supervision tree: the root, its supervisors, and a pool of agents for each pool
//! and lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::restart::Strategy;
use crate::runner::{AgentFactory, Member, Shared, work};
use crate::supervise::{Child, Group};

/// The name of the root of the tree.
pub(super) const ROOT: &str = "supervisor";

/// Returns the name of a pool's or lane's node in the tree.
pub(super) fn node_of(fleet: &Fleet, place: &str) -> String {
    let kind = if fleet.lanes.contains_key(place) {
        "lane"
    } else {
        "pool"
    };
    format!("{kind}.{place}")
}

/// Returns the host's name of the agents of a pool or lane.
pub(super) fn agent_of<'a>(fleet: &'a Fleet, place: &str) -> &'a str {
    let pool = fleet.pools.get(place).map(|pool| &pool.agent);
    let lane = fleet.lanes.get(place).map(|lane| &lane.agent);
    pool.or(lane).map_or("", String::as_str)
}

/// Makes one agent a child of the tree.
pub(super) fn child(shared: &Arc<Shared>, member: Member, factory: &AgentFactory) -> Child {
    let (shared, factory) = (Arc::clone(shared), Arc::clone(factory));
    let name = member.budget.as_str().to_owned();
    Child::new(name, move |signal| {
        work(
            Arc::clone(&shared),
            member.clone(),
            Arc::clone(&factory),
            signal,
        )
    })
}

/// Makes the whole tree of a fleet.
pub(super) fn tree(
    shared: &Arc<Shared>,
    fleet: &Fleet,
    members: Vec<Member>,
    agents: &BTreeMap<String, AgentFactory>,
) -> Result<Group> {
    let mut pools: BTreeMap<String, Group> = BTreeMap::new();
    for place in fleet.pools.keys().chain(fleet.lanes.keys()) {
        let node = node_of(fleet, place);
        let group = Group::pool(node.as_str(), fleet.supervision_of(&node));
        pools.insert(node, group);
    }
    for member in members {
        let agent = agent_of(fleet, &member.pool);
        let factory = agents
            .get(agent)
            .ok_or_else(|| Error::not_found("registered agent", agent))?;
        let node = node_of(fleet, &member.pool);
        if let Some(group) = pools.remove(&node) {
            let child = child(shared, member, factory);
            pools.insert(node, group.with_child(child));
        }
    }
    // What is under the root has nothing to do with its neighbors.
    let root = fleet.supervisor.with_strategy(Strategy::OneForOne);
    let mut root = Group::new(ROOT, root);
    let all = fleet.supervisors.keys().map(|n| format!("supervisor.{n}"));
    for top in all.chain(pools.keys().cloned().collect::<Vec<_>>()) {
        if fleet.supervisor_of(&top).is_none()
            && let Some(group) = take(fleet, &mut pools, &top)
        {
            root = root.with_group(group);
        }
    }
    Ok(root)
}

/// Takes a pool, or a supervisor with everything under it.
fn take(fleet: &Fleet, pools: &mut BTreeMap<String, Group>, node: &str) -> Option<Group> {
    let branch = node
        .strip_prefix("supervisor.")
        .and_then(|name| fleet.supervisors.get(name));
    let Some(branch) = branch else {
        return pools.remove(node);
    };
    let mut group = Group::new(node, branch.supervision);
    for child in &branch.children {
        if let Some(child) = take(fleet, pools, child) {
            group = group.with_group(child);
        }
    }
    Some(group)
}

/// Returns the pools and lanes under a node of the tree.
pub(super) fn places_under(fleet: &Fleet, node: &str) -> Vec<String> {
    if node == ROOT {
        let all = fleet.pools.keys().chain(fleet.lanes.keys());
        return all.cloned().collect();
    }
    match node.split_once('.') {
        Some(("supervisor", name)) => {
            let branch = fleet.supervisors.get(name);
            let children = branch.iter().flat_map(|branch| &branch.children);
            children
                .flat_map(|child| places_under(fleet, child))
                .collect()
        }
        Some((_, name)) => vec![name.to_owned()],
        None => Vec::new(),
    }
}
