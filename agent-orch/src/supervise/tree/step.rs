//! One event worked off: what a group does about its children, and what that means above it.

use std::time::Duration;

use super::{Action, Node, NodeId, Phase, Sweep, Then, Tree};
use crate::fleet::Supervision;
use crate::restart::{OnMeltdown, Restart, Strategy};

/// One event being worked off.
pub(super) struct Step<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) now: Duration,
    pub(super) seed: u64,
    pub(super) actions: Vec<Action>,
}

impl Step<'_> {
    /// Returns whether the group above a node runs and is not about to start it itself.
    pub(super) fn may_start(&self, id: NodeId) -> bool {
        self.tree.parent(id).is_none_or(|parent| {
            let is_swept = self.tree.group(parent).is_some_and(|g| g.sweep.is_some());
            self.tree.is_up(parent) && !is_swept
        })
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.tree.nodes.get_mut(id.index()) else {
            return;
        };
        if !matches!(node.phase, Phase::Down | Phase::Waiting) || node.is_leaving {
            return;
        }
        (node.phase, node.started) = (Phase::Up, now);
        node.turn = node.turn.wrapping_add(1);
        let Some(group) = node.group.as_deref_mut() else {
            self.actions.push(Action::Start(id));
            return;
        };
        group.restarts.clear();
        let n_children = group.children.len();
        self.start_children(id, 0, n_children);
    }

    fn start_children(&mut self, group: NodeId, from: usize, to: usize) {
        for n in from..to {
            if let Some(child) = self.child(group, n) {
                self.start(child);
            }
        }
    }

    fn child(&self, group: NodeId, n: usize) -> Option<NodeId> {
        self.tree.group(group)?.children.get(n).copied()
    }

    pub(super) fn stop(&mut self, id: NodeId) {
        match self.tree.phase(id) {
            Phase::Up if self.tree.group(id).is_none() => {
                self.tree.set_phase(id, Phase::Stopping);
                self.actions.push(Action::Stop(id));
            }
            Phase::Up | Phase::Stopping if self.tree.group(id).is_some() => {
                self.tree.set_phase(id, Phase::Stopping);
                self.sweep(id, 0, Then::Down);
            }
            Phase::Waiting => self.down(id, false),
            _ if id == NodeId::ROOT => self.actions.push(Action::Ended),
            _ => {}
        }
    }

    /// Stops the children of a group from a position on.
    fn sweep(&mut self, id: NodeId, from: usize, then: Then) {
        let Some(group) = self.tree.group(id) else {
            return;
        };
        let wanted = group.children.get(from..).unwrap_or_default().to_vec();
        let n_left = wanted.iter().filter(|c| !self.tree.is_down(**c)).count();
        for child in &wanted {
            // Whoever waits for a restart of its own goes with the others.
            if self.tree.phase(*child) == Phase::Waiting {
                self.tree.set_phase(*child, Phase::Down);
            }
        }
        let Some(group) = self.tree.group_mut(id) else {
            return;
        };
        let is_pool = group.is_pool;
        // One more than there are, so that the sweep does not end while it is being asked for.
        let n_held = n_left.saturating_add(usize::from(is_pool));
        group.sweep = Some(Sweep {
            from,
            n_left: n_held,
            then,
        });
        if is_pool {
            for child in wanted {
                self.stop(child);
            }
            if let Some(sweep) = self.tree.group_mut(id).and_then(|g| g.sweep.as_mut()) {
                sweep.n_left = sweep.n_left.saturating_sub(1);
            }
        }
        self.go_on(id);
    }

    /// Stops the next child of a sweep, or ends it.
    fn go_on(&mut self, id: NodeId) {
        let Some((sweep, is_pool)) = self
            .tree
            .group(id)
            .and_then(|group| Some((group.sweep?, group.is_pool)))
        else {
            return;
        };
        if sweep.n_left > 0 {
            let next = self.tree.group(id).and_then(|group| {
                let children = group.children.get(sweep.from..).unwrap_or_default();
                let mut running = children.iter().rev();
                running.find(|child| !self.tree.is_down(**child)).copied()
            });
            if let (false, Some(next)) = (is_pool, next) {
                self.stop(next);
            }
            return;
        }
        match sweep.then {
            Then::Start(wait) if wait.is_zero() => self.start_swept(id, sweep.from),
            Then::Start(wait) => self.wait(id, wait),
            Then::Down => {
                self.end_sweep(id);
                self.down(id, true);
            }
            Then::Melt(child) => {
                self.end_sweep(id);
                self.melted(id, child);
            }
        }
    }

    fn end_sweep(&mut self, id: NodeId) {
        if let Some(group) = self.tree.group_mut(id) {
            group.sweep = None;
        }
    }

    fn start_swept(&mut self, id: NodeId, from: usize) {
        self.end_sweep(id);
        let to = self.tree.group(id).map_or(0, |group| group.children.len());
        self.start_children(id, from, to);
    }

    fn wait(&mut self, id: NodeId, wait: Duration) {
        if let Some(node) = self.tree.nodes.get_mut(id.index()) {
            node.turn = node.turn.wrapping_add(1);
            let turn = node.turn;
            self.actions.push(Action::Wait {
                node: id,
                turn,
                wait,
            });
        }
    }

    pub(super) fn due(&mut self, id: NodeId, turn: u32) {
        let Some(node) = self.tree.nodes.get(id.index()) else {
            return;
        };
        if node.turn != turn {
            return;
        }
        let sweep = node.group.as_ref().and_then(|group| group.sweep);
        match (node.phase, sweep) {
            (Phase::Waiting, _) => self.start(id),
            (Phase::Up, Some(sweep)) if sweep.n_left == 0 => self.start_swept(id, sweep.from),
            _ => {}
        }
    }

    pub(super) fn exited(&mut self, id: NodeId, failed: bool) {
        match self.tree.phase(id) {
            Phase::Up => {
                self.tree.set_phase(id, Phase::Down);
                self.ended(id, failed);
            }
            Phase::Stopping => self.down(id, true),
            _ => {}
        }
    }

    /// A node is down because it was stopped, or is left so. `was_up` says whether it ran until
    /// then.
    fn down(&mut self, id: NodeId, was_up: bool) {
        self.tree.set_phase(id, Phase::Down);
        match self.tree.parent(id) {
            Some(parent) => self.settle(parent, id, was_up),
            None => self.actions.push(Action::Ended),
        }
    }

    /// Tells a group that a child is down for now.
    fn settle(&mut self, parent: NodeId, child: NodeId, was_up: bool) {
        let is_leaving = self.node(child).is_some_and(|node| node.is_leaving);
        let Some(group) = self.tree.group_mut(parent) else {
            return;
        };
        if group.sweep.is_none() && !is_leaving {
            // The usual case, in which a pool of thousands need not be looked through.
            return;
        }
        let at = group.children.iter().position(|one| *one == child);
        let mut counts = false;
        if let (Some(sweep), Some(at)) = (&mut group.sweep, at) {
            counts = was_up && at >= sweep.from;
            sweep.n_left = sweep.n_left.saturating_sub(usize::from(counts));
            if is_leaving && at < sweep.from {
                sweep.from -= 1;
            }
        }
        if let (true, Some(at)) = (is_leaving, at) {
            group.children.remove(at);
            self.remove(child);
        }
        if counts {
            self.go_on(parent);
        }
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.tree.nodes.get(id.index())
    }

    /// Takes a node and what is under it out of the tree.
    fn remove(&mut self, id: NodeId) {
        let children = self
            .tree
            .group_mut(id)
            .map(|group| std::mem::take(&mut group.children));
        for child in children.unwrap_or_default() {
            self.remove(child);
        }
        if let Some(node) = self.tree.nodes.get_mut(id.index()) {
            (node.parent, node.group, node.phase) = (None, None, Phase::Down);
            node.turn = node.turn.wrapping_add(1);
        }
        self.tree.free.push(id);
        self.actions.push(Action::Removed(id));
    }

    pub(super) fn leave(&mut self, id: NodeId) {
        let Some(node) = self.tree.nodes.get_mut(id.index()) else {
            return;
        };
        node.is_leaving = true;
        let is_group = node.group.is_some();
        if self.tree.is_down(id) {
            self.down(id, false);
        } else if is_group {
            self.stop(id);
        }
    }

    pub(super) fn release(&mut self, id: NodeId) {
        let was_quarantined = self.tree.is_quarantined(id);
        if was_quarantined {
            self.tree.set_phase(id, Phase::Down);
        }
        let children = self.tree.group(id).map(|group| group.children.clone());
        for child in children.unwrap_or_default() {
            self.release(child);
        }
        if was_quarantined && self.may_start(id) {
            self.start(id);
        }
    }

    /// A child ended by itself, or melted down.
    fn ended(&mut self, child: NodeId, failed: bool) {
        let Some(parent) = self.tree.parent(child) else {
            return;
        };
        let Some(supervision) = self.tree.supervision(parent).copied() else {
            return;
        };
        let is_leaving = self.node(child).is_some_and(|node| node.is_leaving);
        let wanted = match supervision.restart {
            Restart::Permanent => true,
            Restart::Transient => failed,
            Restart::Temporary => false,
        };
        if !self.tree.is_up(parent) || is_leaving || !wanted {
            self.settle(parent, child, true);
            return;
        }
        let position = self.place(parent, child, &supervision);
        let is_swept = self
            .tree
            .group(parent)
            .and_then(|group| group.sweep)
            .is_some_and(|sweep| position >= sweep.from);
        if is_swept {
            // It was about to be stopped, and is to be started with the others anyway.
            self.settle(parent, child, true);
            return;
        }
        if self.is_one_too_many(parent, &supervision) {
            self.tree.set_phase(parent, Phase::Stopping);
            self.sweep(parent, 0, Then::Melt(child));
            return;
        }
        let wait = self.next_wait(child, &supervision);
        self.actions.push(Action::Restarting { child, wait });
        match supervision.strategy {
            Strategy::OneForOne if wait.is_zero() => self.start(child),
            Strategy::OneForOne => {
                self.tree.set_phase(child, Phase::Waiting);
                self.wait(child, wait);
            }
            Strategy::OneForAll => self.sweep(parent, 0, Then::Start(wait)),
            Strategy::RestForOne => self.sweep(parent, position, Then::Start(wait)),
        }
    }

    /// Returns the place of a child among its siblings, as far as the strategy cares.
    fn place(&self, parent: NodeId, child: NodeId, supervision: &Supervision) -> usize {
        match supervision.strategy {
            Strategy::OneForOne | Strategy::OneForAll => 0,
            Strategy::RestForOne => self
                .tree
                .group(parent)
                .and_then(|group| group.children.iter().position(|one| *one == child))
                .unwrap_or(0),
        }
    }

    /// Counts a restart and returns whether that makes a meltdown.
    fn is_one_too_many(&mut self, id: NodeId, supervision: &Supervision) -> bool {
        let (now, intensity) = (self.now, supervision.intensity);
        let Some(group) = self.tree.group_mut(id) else {
            return false;
        };
        while group
            .restarts
            .front()
            .is_some_and(|at| now.saturating_sub(*at) > intensity.period)
        {
            group.restarts.pop_front();
        }
        group.restarts.push_back(now);
        let limit = usize::try_from(intensity.restarts).unwrap_or(usize::MAX);
        group.restarts.len() > limit
    }

    fn next_wait(&mut self, child: NodeId, supervision: &Supervision) -> Duration {
        let (now, seed) = (self.now, self.seed);
        let Some(node) = self.tree.nodes.get_mut(child.index()) else {
            return Duration::ZERO;
        };
        let delay = supervision.delay;
        if now.saturating_sub(node.started) >= delay.cap {
            node.n_failures = 0;
        }
        node.n_failures = node.n_failures.saturating_add(1);
        delay.wait(node.n_failures, seed)
    }

    /// All children of a group with too many restarts are down.
    fn melted(&mut self, group: NodeId, child: NodeId) {
        let escalates = self
            .tree
            .supervision(group)
            .is_some_and(|supervision| supervision.on_meltdown == OnMeltdown::Escalate);
        let parent = self.tree.parent(group).filter(|parent| {
            let above = self.tree.supervision(*parent);
            above.is_some_and(|above| above.restart != Restart::Temporary)
        });
        match parent {
            Some(_) if escalates => {
                self.actions.push(Action::Escalated { group, child });
                self.tree.set_phase(group, Phase::Down);
                self.ended(group, true);
            }
            _ => {
                self.tree.set_phase(group, Phase::Quarantined);
                self.actions.push(Action::Quarantined { group, child });
                if let Some(parent) = self.tree.parent(group) {
                    self.settle(parent, group, true);
                }
            }
        }
    }
}
