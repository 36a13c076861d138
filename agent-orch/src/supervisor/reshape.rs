//! How one supervision tree becomes another one while it runs: what stays, what goes and what is
//! built anew, in which order. Pure.
//!
//! Children start in order and restart with those after them, so a place among them is kept only if
//! those that stay are still first and in the same order; else their supervisor is built anew.

use super::tree::{node_of, places_under};
use crate::fleet::{Branch, Fleet};

/// What changes in a tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reshape {
    /// Pools and lanes that are in a place that goes: they finish their attempts before.
    pub(super) leaving: Vec<String>,
    /// The supervisors that go, with everything under them.
    pub(super) gone: Vec<String>,
    /// The supervisors, pools and lanes that come: those above first, siblings in order.
    pub(super) coming: Vec<String>,
}

impl Reshape {
    /// Compares two configurations.
    pub(super) fn new(old: &Fleet, fleet: &Fleet) -> Self {
        let mut reshape = Self::default();
        for place in old.pools.keys().chain(old.lanes.keys()) {
            let node = node_of(old, place);
            let is_kept_above = old
                .supervisor_of(&node)
                .is_none_or(|name| is_kept(old, fleet, &supervisor(name)));
            let goes_on = fleet.pools.contains_key(place) || fleet.lanes.contains_key(place);
            if !is_kept_above || (goes_on && !is_kept(old, fleet, &node)) {
                reshape.leaving.push(place.clone());
            }
        }
        let all = old.supervisors.keys().map(|name| supervisor(name));
        reshape.gone = all.filter(|node| !is_kept(old, fleet, node)).collect();
        for top in tops(fleet) {
            build(old, fleet, &top, &mut reshape.coming);
        }
        reshape
    }

    /// Returns whether a node is built anew.
    pub(super) fn comes(&self, node: &str) -> bool {
        self.coming.iter().any(|coming| coming == node)
    }
}

fn supervisor(name: &str) -> String {
    format!("supervisor.{name}")
}

/// Returns the supervisor of a node's name.
pub(super) fn branch<'a>(fleet: &'a Fleet, node: &str) -> Option<&'a Branch> {
    let name = node.strip_prefix("supervisor.")?;
    fleet.supervisors.get(name)
}

fn has(fleet: &Fleet, node: &str) -> bool {
    branch(fleet, node).is_some()
        || node.split_once('.').is_some_and(|(_, place)| {
            let is_known = fleet.pools.contains_key(place) || fleet.lanes.contains_key(place);
            is_known && node_of(fleet, place) == node
        })
}

/// What stands directly under the root.
fn tops(fleet: &Fleet) -> Vec<String> {
    let supervisors = fleet.supervisors.keys().map(|name| supervisor(name));
    let places = places_under(fleet, super::tree::ROOT).into_iter();
    let places = places.map(|place| node_of(fleet, &place));
    supervisors
        .chain(places)
        .filter(|node| fleet.supervisor_of(node).is_none())
        .collect()
}

/// Returns whether a node stays as it is, seen from itself: it has the same supervisor, and under it
/// those that stay are first and in order.
fn is_stable(old: &Fleet, fleet: &Fleet, node: &str) -> bool {
    if !has(old, node) || !has(fleet, node) || old.supervisor_of(node) != fleet.supervisor_of(node)
    {
        return false;
    }
    match (branch(old, node), branch(fleet, node)) {
        (Some(before), Some(after)) => {
            let stays =
                |child: &&String| after.children.contains(child) && is_stable(old, fleet, child);
            let stay: Vec<&String> = before.children.iter().filter(stays).collect();
            after.children.iter().take(stay.len()).eq(stay)
        }
        _ => true,
    }
}

/// Returns whether a node and all above it stay.
fn is_kept(old: &Fleet, fleet: &Fleet, node: &str) -> bool {
    is_stable(old, fleet, node)
        && fleet
            .supervisor_of(node)
            .is_none_or(|above| is_kept(old, fleet, &supervisor(above)))
}

/// Lists what comes under a node, the node first.
fn build(old: &Fleet, fleet: &Fleet, node: &str, coming: &mut Vec<String>) {
    if !is_kept(old, fleet, node) {
        coming.push(node.to_owned());
    }
    for child in branch(fleet, node).iter().flat_map(|b| &b.children) {
        build(old, fleet, child, coming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Pool, Supervision};

    /// A fleet of pools `a`, `b` and `c` under supervisors, each a name and its children.
    fn fleet(supervisors: &[(&str, &[&str])]) -> Fleet {
        let budget = agent_core::Amount::from_units(1, agent_core::Asset::USD);
        let mut fleet = Fleet::new("f", budget);
        for pool in ["a", "b", "c"] {
            fleet = fleet.with_pool(pool, Pool::new("worker", 1, budget));
        }
        for (name, children) in supervisors {
            let branch = Branch::new(Supervision::new(), children.iter().copied());
            fleet = fleet.with_supervisor(*name, branch);
        }
        fleet
    }

    fn change(old: &[(&str, &[&str])], new: &[(&str, &[&str])]) -> [Vec<String>; 3] {
        let shape = Reshape::new(&fleet(old), &fleet(new));
        [shape.leaving, shape.gone, shape.coming]
    }

    #[test]
    fn what_is_the_same_stays() {
        let same: &[(&str, &[&str])] = &[("s", &["pool.a", "supervisor.t"]), ("t", &["pool.b"])];
        assert_eq!(change(same, same), [const { Vec::<String>::new() }; 3]);
    }

    #[test]
    fn a_supervisor_takes_its_pools_with_it() {
        let [leaving, gone, coming] = change(&[], &[("s", &["pool.b", "pool.a"])]);
        assert_eq!(leaving, ["a", "b"]);
        assert!(gone.is_empty());
        assert_eq!(coming, ["supervisor.s", "pool.b", "pool.a"]);
        let [leaving, gone, coming] = change(&[("s", &["pool.a"])], &[]);
        assert_eq!(
            (leaving.as_slice(), gone.as_slice()),
            (&["a".to_owned()][..], &["supervisor.s".to_owned()][..])
        );
        assert_eq!(coming, ["pool.a"]);
    }

    #[test]
    fn children_may_be_added_last_and_removed_anywhere() {
        let old: &[(&str, &[&str])] = &[("s", &["pool.a", "pool.b"])];
        let [leaving, gone, coming] = change(old, &[("s", &["pool.a", "pool.b", "pool.c"])]);
        assert_eq!(leaving, ["c"], "it leaves the root");
        assert!(gone.is_empty());
        assert_eq!(coming, ["pool.c"]);
        let [leaving, gone, coming] = change(old, &[("s", &["pool.b"])]);
        assert_eq!((leaving, gone.len()), (vec!["a".to_owned()], 0));
        assert_eq!(coming, ["pool.a"]);
    }

    #[test]
    fn another_order_builds_the_supervisor_anew() {
        let old: &[(&str, &[&str])] = &[("s", &["pool.a", "pool.b"])];
        let [leaving, gone, coming] = change(old, &[("s", &["pool.b", "pool.a"])]);
        assert_eq!(leaving, ["a", "b"]);
        assert_eq!(gone, ["supervisor.s"]);
        assert_eq!(coming, ["supervisor.s", "pool.b", "pool.a"]);
    }

    #[test]
    fn a_nested_change_rebuilds_what_must_stay_in_order() {
        let old: &[(&str, &[&str])] = &[
            ("s", &["supervisor.t", "pool.c"]),
            ("t", &["pool.a", "pool.b"]),
        ];
        let new: &[(&str, &[&str])] = &[
            ("s", &["supervisor.t", "pool.c"]),
            ("t", &["pool.b", "pool.a"]),
        ];
        let [leaving, gone, coming] = change(old, new);
        assert_eq!(leaving, ["a", "b", "c"], "c comes after t");
        assert_eq!(gone, ["supervisor.s", "supervisor.t"]);
        let expected = ["supervisor.s", "supervisor.t", "pool.b", "pool.a", "pool.c"];
        assert_eq!(coming, expected);
    }
}
