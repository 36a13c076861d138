//! The task that runs a tree: spawns what is to start, signals what is to stop, keeps the waits.

mod command;
mod timer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, EntropyExt, Env, ErrorKind, Failure, Retry};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::handle::{Command, Handle};
use super::tree::{Action, Event, NodeId, Tree};
use super::{Child, Group, Notice, Part, Signal, Watch};
use crate::error::{Error, Result};
use crate::fleet::Supervision;
use timer::{Timer, wait_for};

/// How many requests may wait for the tree: it answers at once, so this only spreads a burst.
const COMMANDS_MAX: usize = 64;

type Joined = Result<(Id, Result<(), Failure>), JoinError>;

/// What belongs to a node beside its place in the tree.
#[derive(Debug, Default)]
struct Slot {
    name: Arc<str>,
    child: Option<Child>,
    running: Option<(Signal, AbortHandle)>,
    /// How it last ended, until that was told.
    failure: Option<Failure>,
    /// Who waits until it is gone.
    gone: Vec<oneshot::Sender<()>>,
}

/// What the tree's task woke up for.
enum Input {
    Canceled,
    Command(Option<Command>),
    Joined(Joined),
    Timer,
}

/// A tree of children, to be run.
pub struct Supervise {
    tree: Tree,
    slots: Vec<Slot>,
    names: HashMap<Arc<str>, NodeId>,
    tasks: JoinSet<Result<(), Failure>>,
    runs: HashMap<Id, NodeId>,
    timers: BTreeMap<(Duration, u64), Timer>,
    n_timers: u64,
    commands: mpsc::Receiver<Command>,
    watch: Arc<dyn Watch>,
    env: Env,
    has_ended: bool,
}

impl fmt::Debug for Supervise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervise")
            .field("running", &self.runs.len())
            .finish_non_exhaustive()
    }
}

impl Supervise {
    /// Prepares a tree that `watch` sees. Nothing starts before [`Supervise::run`].
    ///
    /// # Errors
    /// `Invalid` if two nodes have the same name.
    pub fn new(root: Group, env: &Env, watch: Arc<dyn Watch>) -> Result<(Self, Handle)> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let mut supervise = Self {
            tree: Tree::new(root.supervision),
            slots: Vec::new(),
            names: HashMap::new(),
            tasks: JoinSet::new(),
            runs: HashMap::new(),
            timers: BTreeMap::new(),
            n_timers: 0,
            commands,
            watch,
            env: env.clone(),
            has_ended: false,
        };
        supervise.name(NodeId::ROOT, root.name, None)?;
        for part in root.parts {
            supervise.add(NodeId::ROOT, part)?;
        }
        Ok((supervise, Handle { commands: sender }))
    }

    fn name(&mut self, node: NodeId, name: Arc<str>, child: Option<Child>) -> Result<()> {
        if self.names.contains_key(&name) {
            return Err(Error::invalid(&*name, "the name is taken in this tree"));
        }
        while self.slots.len() <= node.index() {
            self.slots.push(Slot::default());
        }
        if let Some(slot) = self.slots.get_mut(node.index()) {
            *slot = Slot {
                name: Arc::clone(&name),
                child,
                ..Slot::default()
            };
        }
        self.names.insert(name, node);
        Ok(())
    }

    fn add(&mut self, parent: NodeId, part: Part) -> Result<NodeId> {
        match part {
            Part::Child(child) => {
                let node = self.tree.add_worker(parent);
                self.name(node, Arc::clone(&child.name), Some(child))?;
                Ok(node)
            }
            Part::Group(group) => {
                let node = self
                    .tree
                    .add_group(parent, group.supervision, group.is_pool);
                self.name(node, group.name, None)?;
                for part in group.parts {
                    self.add(node, part)?;
                }
                Ok(node)
            }
        }
    }

    /// Runs the tree until it is canceled, all handles are gone, or it is stopped by name; returns
    /// when every child is down.
    ///
    /// # Cancel safety
    /// Dropping it aborts every child at its next await.
    pub async fn run(mut self, cancel: CancellationToken) {
        self.apply(Event::Start(NodeId::ROOT)).await;
        let clock = Arc::clone(&self.env.clock);
        let mut canceled = pin!(cancel.cancelled());
        let (mut is_open, mut is_stopping) = (true, false);
        while !self.has_ended {
            let due = self.timers.keys().next().map(|(due, _)| *due);
            let input = tokio::select! {
                biased;
                () = &mut canceled, if !is_stopping => Input::Canceled,
                command = self.commands.recv(), if is_open => Input::Command(command),
                Some(joined) = self.tasks.join_next_with_id() => Input::Joined(joined),
                () = wait_for(clock.as_ref(), due), if due.is_some() => Input::Timer,
            };
            match input {
                Input::Canceled => {
                    is_stopping = true;
                    self.apply(Event::Stop(NodeId::ROOT)).await;
                }
                Input::Command(Some(command)) => self.obey(command).await,
                Input::Command(None) => {
                    is_open = false;
                    self.apply(Event::Stop(NodeId::ROOT)).await;
                }
                Input::Joined(joined) => self.joined(joined).await,
                Input::Timer => self.timer().await,
            }
        }
    }

    async fn joined(&mut self, joined: Joined) {
        let (run, failure) = match joined {
            Ok((run, result)) => (run, result.err()),
            Err(error) => (error.id(), Some(panicked(&error))),
        };
        let Some(node) = self.runs.remove(&run) else {
            return;
        };
        let failed = failure.is_some();
        if let Some(slot) = self.slots.get_mut(node.index()) {
            (slot.running, slot.failure) = (None, failure);
        }
        self.apply(Event::Exited { node, failed }).await;
        let parent = self.tree.parent(node);
        if !parent.is_some_and(|parent| self.tree.is_up(parent)) {
            // If its supervisor melts down, the failure is told when that is over.
            return;
        }
        // What was restarted has told its failure, and what ended well has none.
        let left = self.slots.get_mut(node.index()).and_then(|slot| {
            let failure = slot.failure.take()?;
            Some((Arc::clone(&slot.name), failure))
        });
        if let Some((child, failure)) = left {
            self.watch.notice(Notice::Left { child, failure }).await;
        }
    }

    /// Does what follows from an event.
    async fn apply(&mut self, event: Event) {
        let seed = match event {
            Event::Exited { node, .. } if self.has_jitter(node) => self.env.entropy.next_u64(),
            _ => 0,
        };
        let now = self.env.clock.monotonic();
        for action in self.tree.apply(event, now, seed) {
            match action {
                Action::Start(node) => self.launch(node),
                Action::Stop(node) => self.stop(node, now),
                Action::Wait { node, turn, wait } => {
                    self.set_timer(now.saturating_add(wait), Timer::Due { node, turn });
                }
                Action::Removed(node) => self.forget(node),
                Action::Ended => self.has_ended = true,
                told => self.tell(told).await,
            }
        }
    }

    fn has_jitter(&self, node: NodeId) -> bool {
        let parent = self.tree.parent(node);
        let supervision = parent.and_then(|parent| self.tree.supervision(parent));
        supervision.is_some_and(|supervision| supervision.delay.jitter)
    }

    async fn tell(&mut self, action: Action) {
        let notice = match action {
            Action::Restarting { child, wait } => Notice::Restarting {
                failure: self.take_failure(child),
                child: self.name_of(child),
                wait,
            },
            Action::Escalated { group, child } => {
                let failure = self.take_failure(child);
                // It is the group's failure as a child of the one above.
                if let Some(slot) = self.slots.get_mut(group.index()) {
                    slot.failure = Some(failure.clone());
                }
                Notice::Escalated {
                    group: self.name_of(group),
                    child: self.name_of(child),
                    failure,
                }
            }
            Action::Quarantined { group, child } => Notice::Quarantined {
                failure: self.take_failure(child),
                group: self.name_of(group),
                child: self.name_of(child),
            },
            _ => return,
        };
        self.watch.notice(notice).await;
    }

    fn take_failure(&mut self, node: NodeId) -> Failure {
        let slot = self.slots.get_mut(node.index());
        slot.and_then(|slot| slot.failure.take())
            .unwrap_or_else(ended)
    }

    fn name_of(&self, node: NodeId) -> Arc<str> {
        let slot = self.slots.get(node.index());
        slot.map(|slot| Arc::clone(&slot.name)).unwrap_or_default()
    }

    fn launch(&mut self, node: NodeId) {
        let Some(slot) = self.slots.get_mut(node.index()) else {
            return;
        };
        let Some(child) = &slot.child else {
            return;
        };
        let (signal, start) = (Signal::default(), Arc::clone(&child.start));
        let told = signal.clone();
        // Made inside the task, so that a panic while making it is the child's.
        let handle = self.tasks.spawn(async move { start(told).await });
        self.runs.insert(handle.id(), node);
        slot.running = Some((signal, handle));
    }

    fn stop(&mut self, node: NodeId, now: Duration) {
        let shutdown = self.shutdown_of(node);
        let Some(slot) = self.slots.get(node.index()) else {
            return;
        };
        if let Some((signal, handle)) = &slot.running {
            signal.cancel();
            let run = handle.id();
            self.set_timer(now.saturating_add(shutdown), Timer::Abort { node, run });
        }
    }

    fn shutdown_of(&self, node: NodeId) -> Duration {
        let parent = self.tree.parent(node);
        let supervision = parent.and_then(|parent| self.tree.supervision(parent));
        supervision.map_or(Supervision::SHUTDOWN_DEFAULT, |s| s.shutdown)
    }

    fn forget(&mut self, node: NodeId) {
        if let Some(slot) = self.slots.get_mut(node.index()) {
            let slot = std::mem::take(slot);
            self.names.remove(&slot.name);
            for waiting in slot.gone {
                // Whoever asked may have gone away.
                let _unasked = waiting.send(());
            }
        }
    }
}

fn panicked(error: &JoinError) -> Failure {
    let (message, fix) = if error.is_cancelled() {
        let fix = "await in its code more often, or give it longer to stop";
        ("the agent was aborted", fix)
    } else {
        let fix = "look at the panic's message in the host's log";
        ("the agent panicked", fix)
    };
    let kind = ErrorKind::Internal;
    Failure::new(kind, Retry::Unknown, "orch.panicked", message, fix)
}

/// What is told of a permanent child that ended without a failure.
fn ended() -> Failure {
    let (message, fix) = ("a permanent agent ended", "make it transient if it may end");
    Failure::new(ErrorKind::Internal, Retry::Safe, "orch.ended", message, fix)
}
