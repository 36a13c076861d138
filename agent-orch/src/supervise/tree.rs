//! The decisions of a supervision tree, as a pure function: no clock, no tasks, no randomness, so
//! that every sequence of crashes can be tried.
//!
//! A node is a worker or a group. A group stops its children in reverse order, each when the one
//! after it is down; a pool, whose children are alike, stops them all at once.

mod step;

use std::collections::VecDeque;
use std::time::Duration;

use crate::fleet::Supervision;
use step::Step;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The root of every tree.
    pub const ROOT: Self = Self(0);

    /// Returns the position of what belongs to the node in a list.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What happened to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node is to run, with everything under it that is not quarantined.
    Start(NodeId),
    /// A worker ended.
    Exited {
        /// Which.
        node: NodeId,
        /// Whether by a failure.
        failed: bool,
    },
    /// A wait is over.
    Due {
        /// Whose.
        node: NodeId,
        /// Which of its waits.
        turn: u32,
    },
    /// A node is to stop, with everything under it.
    Stop(NodeId),
    /// A node is not to be restarted and goes out of the tree when it is down.
    Leave(NodeId),
    /// A quarantined node, and what is quarantined under it, is to run again.
    Release(NodeId),
}

/// What is to be done about it, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Start this worker.
    Start(NodeId),
    /// Stop this worker; it reports by exiting.
    Stop(NodeId),
    /// Report when this time has passed.
    Wait {
        /// Whose wait.
        node: NodeId,
        /// Which of its waits.
        turn: u32,
        /// How long.
        wait: Duration,
    },
    /// A child's end leads to a restart.
    Restarting {
        /// The child that ended.
        child: NodeId,
        /// How long after all to be stopped are down.
        wait: Duration,
    },
    /// A group had too many restarts; all its children are stopped.
    Quarantined {
        /// The group.
        group: NodeId,
        /// The child whose failure was one too many.
        child: NodeId,
    },
    /// A group had too many restarts and fails as a child of the one above it.
    Escalated {
        /// The group.
        group: NodeId,
        /// The child whose failure was one too many.
        child: NodeId,
    },
    /// A node went down and out of the tree.
    Removed(NodeId),
    /// The whole tree is down.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Up,
    Stopping,
    /// Down, and to be started when its wait is over.
    Waiting,
    Quarantined,
}

#[derive(Clone, Debug)]
struct Node {
    parent: Option<NodeId>,
    phase: Phase,
    is_leaving: bool,
    /// Tells waits that are over from those that matter.
    turn: u32,
    /// How often it failed in a row.
    n_failures: u32,
    started: Duration,
    group: Option<Box<Group>>,
}

#[derive(Clone, Debug)]
struct Group {
    supervision: Supervision,
    /// Whether its children are alike, so that their order does not matter.
    is_pool: bool,
    children: Vec<NodeId>,
    restarts: VecDeque<Duration>,
    sweep: Option<Sweep>,
}

/// Children being stopped, from a position to the end.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    from: usize,
    /// How many of them are not down.
    n_left: usize,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    /// Start them again after a wait.
    Start(Duration),
    /// The group is down.
    Down,
    /// The group has melted down because of a child.
    Melt(NodeId),
}

/// A supervision tree: who runs, and what each supervisor remembers.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Places of nodes that went out of the tree.
    free: Vec<NodeId>,
}

impl Tree {
    /// Creates a tree whose root has no children and is down.
    #[must_use]
    pub fn new(root: Supervision) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            free: Vec::new(),
        };
        tree.push(None, Some((root, false)));
        tree
    }

    fn push(&mut self, parent: Option<NodeId>, group: Option<(Supervision, bool)>) -> NodeId {
        let node = Node {
            parent,
            phase: Phase::Down,
            is_leaving: false,
            turn: 0,
            n_failures: 0,
            started: Duration::ZERO,
            group: group.map(|(supervision, is_pool)| {
                Box::new(Group {
                    supervision,
                    is_pool,
                    children: Vec::new(),
                    restarts: VecDeque::new(),
                    sweep: None,
                })
            }),
        };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.nodes.get_mut(id.index()) {
                    // The turns of a place go on, so that waits of who was there stay over.
                    let turn = place.turn;
                    *place = Node { turn, ..node };
                }
                id
            }
            None => {
                self.nodes.push(node);
                NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
            }
        };
        if let Some(group) = parent.and_then(|parent| self.group_mut(parent)) {
            group.children.push(id);
        }
        id
    }

    /// Adds a group as the last child of another, down. A pool's children are alike and stop all
    /// at once.
    pub fn add_group(&mut self, parent: NodeId, supervision: Supervision, is_pool: bool) -> NodeId {
        self.push(Some(parent), Some((supervision, is_pool)))
    }

    /// Adds a worker as the last child of a group, down.
    pub fn add_worker(&mut self, parent: NodeId) -> NodeId {
        self.push(Some(parent), None)
    }

    /// Changes how a group supervises its children from the next failure on.
    pub fn set_supervision(&mut self, group: NodeId, supervision: Supervision) {
        if let Some(group) = self.group_mut(group) {
            group.supervision = supervision;
        }
    }

    /// Returns whether a node runs.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.phase(node) == Phase::Up
    }

    /// Returns whether a group was given up.
    #[must_use]
    pub fn is_quarantined(&self, node: NodeId) -> bool {
        self.phase(node) == Phase::Quarantined
    }

    /// Returns the group a node belongs to.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.nodes.get(node.index()).and_then(|node| node.parent)
    }

    /// Returns how a group supervises its children.
    #[must_use]
    pub fn supervision(&self, group: NodeId) -> Option<&Supervision> {
        self.group(group).map(|group| &group.supervision)
    }

    /// Decides what follows from an event at `now`. `seed` decides about jitter.
    pub fn apply(&mut self, event: Event, now: Duration, seed: u64) -> Vec<Action> {
        let mut step = Step {
            tree: self,
            now,
            seed,
            actions: Vec::new(),
        };
        match event {
            Event::Start(node) if step.may_start(node) => step.start(node),
            Event::Start(_) => {}
            Event::Exited { node, failed } => step.exited(node, failed),
            Event::Due { node, turn } => step.due(node, turn),
            Event::Stop(node) => step.stop(node),
            Event::Leave(node) => step.leave(node),
            Event::Release(node) => step.release(node),
        }
        step.actions
    }

    fn phase(&self, node: NodeId) -> Phase {
        self.nodes
            .get(node.index())
            .map_or(Phase::Down, |node| node.phase)
    }

    fn set_phase(&mut self, id: NodeId, phase: Phase) {
        if let Some(node) = self.nodes.get_mut(id.index()) {
            node.phase = phase;
        }
    }

    fn group(&self, id: NodeId) -> Option<&Group> {
        self.nodes.get(id.index())?.group.as_deref()
    }

    fn group_mut(&mut self, id: NodeId) -> Option<&mut Group> {
        self.nodes.get_mut(id.index())?.group.as_deref_mut()
    }

    fn is_down(&self, id: NodeId) -> bool {
        matches!(
            self.phase(id),
            Phase::Down | Phase::Waiting | Phase::Quarantined
        )
    }
}
