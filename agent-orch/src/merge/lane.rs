//! Changes, and which of them stand in one another's way.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{AgentId, TaskId};
use serde::{Deserialize, Serialize};

use super::object::{ObjectId, RepoPath};

/// A change that waits to land.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The task the change settles; it names the change.
    pub task: TaskId,
    /// The agent that made it.
    pub agent: AgentId,
    /// Its commit.
    pub head: ObjectId,
    /// The paths it touches.
    pub paths: BTreeSet<RepoPath>,
    /// 0 is the most urgent.
    pub priority: u8,
    /// The tasks whose changes must land first.
    pub after: Vec<TaskId>,
}

impl Change {
    /// The least urgent priority.
    pub const PRIORITY_MAX: u8 = 4;

    /// Describes a change: priority 2, after nothing.
    #[must_use]
    pub const fn new(
        task: TaskId,
        agent: AgentId,
        head: ObjectId,
        paths: BTreeSet<RepoPath>,
    ) -> Self {
        Self {
            task,
            agent,
            head,
            paths,
            priority: 2,
            after: Vec::new(),
        }
    }

    /// Sets the priority, 0 to 4. Default: 2. A larger number counts as 4.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(Self::PRIORITY_MAX);
        self
    }

    /// Sets the tasks whose changes must land first. Default: none.
    #[must_use]
    pub fn with_after(mut self, after: Vec<TaskId>) -> Self {
        self.after = after;
        self
    }
}

/// Groups changes into lanes: changes are in one lane if they touch a common path, or one waits for
/// the other, or a chain of such changes joins them. Changes keep their order in a lane; lanes are
/// in the order of their first changes.
#[must_use]
pub fn lanes(changes: &[&Change]) -> Vec<Vec<TaskId>> {
    let mut parents: Vec<usize> = (0..changes.len()).collect();
    let mut owners: BTreeMap<&RepoPath, usize> = BTreeMap::new();
    let position: BTreeMap<TaskId, usize> = changes
        .iter()
        .enumerate()
        .map(|(i, change)| (change.task, i))
        .collect();
    for (i, change) in changes.iter().enumerate() {
        let by_path = change
            .paths
            .iter()
            .map(|path| *owners.entry(path).or_insert(i));
        let by_path: Vec<usize> = by_path.collect();
        let by_task = change
            .after
            .iter()
            .filter_map(|task| position.get(task).copied());
        for other in by_path.into_iter().chain(by_task) {
            join(&mut parents, i, other);
        }
    }
    let mut lanes: BTreeMap<usize, Vec<TaskId>> = BTreeMap::new();
    for (i, change) in changes.iter().enumerate() {
        lanes
            .entry(root(&mut parents, i))
            .or_default()
            .push(change.task);
    }
    lanes.into_values().collect()
}

/// Joins two sets under the smaller root, so that a lane is named by its first change.
fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    if let Some(parent) = parents.get_mut(a.max(b)) {
        *parent = a.min(b);
    }
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while let Some(&parent) = parents.get(at) {
        if parent == at {
            break;
        }
        let grandparent = parents.get(parent).copied().unwrap_or(parent);
        if let Some(slot) = parents.get_mut(at) {
            *slot = grandparent;
        }
        at = parent;
    }
    at
}
