//! What a handle asks of a running tree: adding, removing, releasing, looking.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Supervise;
use super::timer::Timer;
use crate::error::{Error, Result};
use crate::supervise::Part;
use crate::supervise::handle::Command;
use crate::supervise::tree::{Event, NodeId};

impl Supervise {
    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::AddChildren {
                group,
                children,
                reply,
            } => {
                let parts = children.into_iter().map(Part::Child).collect();
                let added = self.add_all(&group, parts).await;
                let _unasked = reply.send(added);
            }
            Command::AddGroup {
                parent,
                group,
                reply,
            } => {
                let added = self.add_all(&parent, vec![Part::Group(group)]).await;
                let _unasked = reply.send(added);
            }
            Command::Remove { name, drain, reply } => self.remove(&name, drain, reply).await,
            Command::Release { name, reply } => {
                let node = self.names.get(name.as_str()).copied();
                let node = node.filter(|node| self.tree.is_quarantined(*node));
                if let Some(node) = node {
                    self.apply(Event::Release(node)).await;
                }
                let _unasked = reply.send(node.is_some());
            }
            Command::Supervise { name, supervision } => {
                if let Some(node) = self.names.get(name.as_str()) {
                    self.tree.set_supervision(*node, supervision);
                }
            }
            Command::Running { reply } => {
                let _unasked = reply.send(self.names_where(|node| self.is_running(node)));
            }
            Command::Quarantined { reply } => {
                let _unasked = reply.send(self.names_where(|node| self.tree.is_quarantined(node)));
            }
        }
    }

    fn is_running(&self, node: NodeId) -> bool {
        let slot = self.slots.get(node.index());
        slot.is_some_and(|slot| slot.running.is_some())
    }

    fn names_where(&self, is_wanted: impl Fn(NodeId) -> bool) -> Vec<String> {
        let nodes = self.names.values().filter(|node| is_wanted(**node));
        let mut names: Vec<_> = nodes.map(|node| self.name_of(*node).to_string()).collect();
        names.sort_unstable();
        names
    }

    async fn add_all(&mut self, group: &str, parts: Vec<Part>) -> Result<()> {
        let parent = self.names.get(group).copied();
        let parent = parent.filter(|parent| self.tree.supervision(*parent).is_some());
        let Some(parent) = parent else {
            return Err(Error::not_found("supervisor", group));
        };
        let mut fresh = Vec::new();
        for part in &parts {
            part.names(&mut fresh);
        }
        fresh.sort_unstable();
        let is_double = fresh.windows(2).any(|pair| pair.first() == pair.last());
        if let Some(taken) = fresh.iter().find(|name| self.names.contains_key(**name)) {
            return Err(Error::invalid(*taken, "the name is taken in this tree"));
        }
        if is_double {
            return Err(Error::invalid(group, "two children have the same name"));
        }
        for part in parts {
            let node = self.add(parent, part)?;
            self.apply(Event::Start(node)).await;
        }
        Ok(())
    }

    pub(super) async fn remove(
        &mut self,
        name: &str,
        drain: Option<Duration>,
        reply: oneshot::Sender<()>,
    ) {
        let node = self.names.get(name).copied();
        let Some(node) = node.filter(|node| *node != NodeId::ROOT) else {
            let _unasked = reply.send(());
            return;
        };
        let Some(slot) = self.slots.get_mut(node.index()) else {
            return;
        };
        slot.gone.push(reply);
        let running = slot.running.as_ref().map(|(signal, handle)| {
            signal.drain();
            handle.id()
        });
        self.apply(Event::Leave(node)).await;
        match (running, drain) {
            (Some(run), Some(drain)) => {
                let due = self.env.clock.monotonic().saturating_add(drain);
                self.set_timer(due, Timer::Drained { node, run });
            }
            (Some(_), None) => self.apply(Event::Stop(node)).await,
            (None, _) => {}
        }
    }
}

impl Part {
    /// Collects the names of a part and of what is under it.
    pub(super) fn names<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Child(child) => into.push(&child.name),
            Self::Group(group) => {
                into.push(&group.name);
                for part in &group.parts {
                    part.names(into);
                }
            }
        }
    }
}
