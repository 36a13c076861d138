//! The event loop: virtual time, messages that get lost or come twice, crashes and pauses.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use agent_core::{AgentId, RunId, Timestamp};
use agent_orch::supervise::{self, NodeId, Tree};
use agent_orch::{
    Class, Escalation, NewTask, RecoveryTable, Restart, Strategy, Supervision, TRY_AGAIN,
};
use serde_json::json;

use crate::simulation::bug::Bug;
use crate::simulation::chance::Chance;
use crate::simulation::event::{Due, Event};
use crate::simulation::money::Money;
use crate::simulation::oracle::{self, Oracle};
use crate::simulation::outside::Outside;
use crate::simulation::store::{Answer, Command, Store};
use crate::simulation::worker::Worker;

/// How long faults last, in virtual milliseconds.
const FAULTS_MS: u64 = 240_000;
/// How long a simulation goes on once every task has ended: zombies may still try something.
const REST_MS: u64 = 60_000;
/// How many events a simulation may take: one that needs more does not come to rest.
const EVENTS_MAX: u64 = 40_000;
const N_WORKERS: u64 = 4;

/// An answer that waits for its batch to be on disk.
type Owed = (usize, u64, u64, Answer);

/// One simulation.
pub(crate) struct Sim {
    pub(crate) chance: Chance,
    pub(crate) bug: Option<Bug>,
    pub(crate) store: Store,
    pub(crate) outside: Outside,
    pub(crate) oracle: Oracle,
    pub(crate) workers: Vec<Worker>,
    pub(crate) recovery: RecoveryTable,
    pub(crate) escalation: Escalation,
    tree: Tree,
    nodes: Vec<NodeId>,
    owed: Vec<Owed>,
    is_syncing: bool,
    /// Whether the store crashes as soon as it took a write.
    crashes_soon: bool,
    /// How long a sync takes.
    sync_ms: u64,
    now_ms: u64,
    /// Since when every task has ended.
    rests_since_ms: u64,
    n_events: u64,
    queue: BinaryHeap<Reverse<Due>>,
    is_traced: bool,
}

/// Runs one seed to its end and returns what it did, as a number to compare by.
pub(crate) fn run(seed: u64, bug: Option<Bug>, is_traced: bool) -> Result<(u64, u64), String> {
    let mut sim = Sim::new(seed, bug, is_traced);
    let ended = sim.run();
    let events = sim.n_events;
    let drawn = sim.chance.next();
    ended.map(|()| (events, drawn))
}

impl Sim {
    fn new(seed: u64, bug: Option<Bug>, is_traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let run = RunId::from_bits(7);
        let n_tasks = 1 + chance.below(4);
        let task = |n: u64| NewTask::new(format!("t{n}"), "work", json!(n)).as_task(run);
        let limit = if chance.percent(10) { 5 } else { 10_000 };
        let store = Store::new((0..n_tasks).map(task).collect(), Money::new(limit), bug);
        let agents = (0..N_WORKERS).map(|n| Worker::new(AgentId::from_bits(u128::from(n) + 1)));
        let mut recovery = RecoveryTable::default();
        if chance.percent(50) {
            let long = ["retry:40".parse().unwrap(), "escalate".parse().unwrap()];
            recovery = recovery.with(Class::Transient, long.to_vec()).unwrap();
        }
        let mut tree = Tree::new(supervision(&mut chance));
        let nodes = (0..N_WORKERS).map(|_| tree.add_worker(NodeId::ROOT));
        let nodes = nodes.collect();
        let mut sim = Self {
            bug,
            store,
            outside: Outside::default(),
            oracle: Oracle::default(),
            workers: agents.collect(),
            recovery,
            escalation: Escalation::default(),
            tree,
            nodes,
            owed: Vec::new(),
            is_syncing: false,
            crashes_soon: false,
            sync_ms: if chance.percent(30) { 300 } else { 12 },
            rests_since_ms: 0,
            now_ms: 0,
            n_events: 0,
            queue: BinaryHeap::new(),
            is_traced,
            chance,
        };
        sim.supervise(supervise::Event::Start(NodeId::ROOT));
        for event in [Event::Sweep, Event::Person, Event::Fault] {
            sim.after(5_000, event);
        }
        sim
    }

    pub(crate) const fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.now_ms.cast_signed())
    }

    pub(crate) const fn has_faults(&self) -> bool {
        self.now_ms < FAULTS_MS
    }

    /// Lets something happen at a random moment within the next milliseconds.
    pub(crate) fn after(&mut self, within_ms: u64, event: Event) {
        let at = self.now_ms + 1 + self.chance.below(within_ms);
        let n = self.n_events + self.queue.len() as u64;
        // The number breaks ties, so that a seed is repeated exactly.
        let tie = (n << 20) | self.chance.below(1 << 20);
        self.queue.push(Reverse(Due(at, tie, event)));
    }

    pub(crate) fn at(&mut self, ms: u64, event: Event) {
        self.queue
            .push(Reverse(Due(ms, self.chance.next() >> 1, event)));
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse(Due(at, _, event))) = self.queue.pop() {
            self.now_ms = self.now_ms.max(at);
            self.n_events += 1;
            if self.is_traced {
                println!("{:>8} ms  {event:?}", self.now_ms);
            }
            self.happen(event)?;
            oracle::always(&self.store)?;
            let mut rows = self.store.tables.rows.values();
            if rows.any(|row| !row.task.status.is_terminal()) {
                self.rests_since_ms = self.now_ms;
            } else if self.now_ms > self.rests_since_ms + REST_MS {
                break;
            }
            if self.n_events > EVENTS_MAX {
                break;
            }
        }
        oracle::in_the_end(&self.store)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Reach { from, command } => self.reach(from, &command),
            Event::Sync => self.sync(),
            Event::Sweep => {
                self.after(2_000, Event::Sweep);
                self.reach(None, &Command::Sweep)
            }
            Event::Person => self.person(),
            Event::Fault => self.fault(),
            Event::Due { node, turn } => {
                self.supervise(supervise::Event::Due { node, turn });
                Ok(())
            }
            Event::Hear { worker, .. }
            | Event::GiveUp { worker, .. }
            | Event::Look { worker, .. }
            | Event::Act { worker, .. }
            | Event::Renew { worker, .. } => {
                let until = self.workers[worker].paused_until_ms;
                if until > self.now_ms {
                    self.at(until + 1, event);
                    return Ok(());
                }
                self.worker_event(worker, event)
            }
        }
    }

    /// A worker calls the store: the request may be lost, doubled or late, and the answer lost.
    pub(crate) fn call(&mut self, worker: usize, command: Command) {
        let call = self.workers[worker].next_call(command.clone());
        let life = self.workers[worker].life;
        let from = Some((worker, life, call));
        let breaks = self.has_faults();
        if breaks && self.chance.percent(5) {
            let command = command.clone();
            self.after(
                60_000,
                Event::Reach {
                    from: None,
                    command,
                },
            );
        }
        if !breaks || !self.chance.percent(5) {
            self.after(20, Event::Reach { from, command });
        }
        let at = self.now_ms + 5_000;
        self.at(at, Event::GiveUp { worker, life, call });
    }

    fn reach(&mut self, from: Option<(usize, u64, u64)>, command: &Command) -> Result<(), String> {
        let now = self.now();
        let rows = self.store.tables.rows.iter();
        let before: BTreeMap<_, _> = rows
            .map(|(id, row)| (*id, (row.fence, row.until, row.task.status)))
            .collect();
        let is_write = matches!(command, Command::Settle { .. } | Command::Finish { .. });
        let answer = self.store.take(command.clone(), now);
        oracle::took(&before, command, &answer, now)?;
        if let (Command::Finish { lease, .. }, Answer::Done) = (command, &answer) {
            let status = before[&lease.task].2;
            let tables = &self.store.tables;
            self.oracle
                .finished(lease.task, lease.owner, status, tables)?;
        }
        if let Some((worker, life, call)) = from {
            self.owed.push((worker, life, call, answer));
        }
        if self.bug == Some(Bug::AckBeforeSync) {
            self.pay();
        }
        if !self.is_syncing {
            self.is_syncing = true;
            self.after(self.sync_ms, Event::Sync);
        }
        if self.crashes_soon && is_write {
            self.crash_store()?;
        }
        Ok(())
    }

    /// The machine or process of the store goes down, with whatever was not on disk.
    fn crash_store(&mut self) -> Result<(), String> {
        self.crashes_soon = false;
        self.owed.clear();
        self.store.crash(&mut self.chance)?;
        if self.chance.percent(50) {
            for worker in 0..self.workers.len() {
                if self.tree.is_up(self.nodes[worker]) {
                    self.start_again(worker);
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        self.is_syncing = false;
        self.store.sync();
        self.pay();
        Ok(())
    }

    /// Sends the answers that are owed.
    fn pay(&mut self) {
        if !self.owed.is_empty() {
            self.store.ack();
        }
        for (worker, life, call, answer) in std::mem::take(&mut self.owed) {
            if !self.has_faults() || !self.chance.percent(5) {
                let hear = Event::Hear {
                    worker,
                    life,
                    call,
                    answer,
                };
                self.after(20, hear);
            }
        }
    }

    fn fault(&mut self) -> Result<(), String> {
        if !self.has_faults() {
            return Ok(());
        }
        self.after(8_000, Event::Fault);
        let worker = usize::try_from(self.chance.below(self.workers.len() as u64)).unwrap();
        match self.chance.below(10) {
            0 => return self.crash_store(),
            5 => self.crashes_soon = true,
            1 | 2 => {
                let pause = 1_000 + self.chance.below(70_000);
                self.workers[worker].paused_until_ms = self.now_ms + pause;
            }
            3 | 4 => self.crash_worker(worker),
            _ => {}
        }
        Ok(())
    }

    /// The supervisor decides about an event, and what it decides is done.
    fn supervise(&mut self, event: supervise::Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let (now, seed) = (Duration::from_millis(self.now_ms), self.chance.next());
            for action in self.tree.apply(event, now, seed) {
                match action {
                    supervise::Action::Start(node) => self.start_again(self.worker_at(node)),
                    supervise::Action::Stop(node) => {
                        let (worker, failed) = (self.worker_at(node), false);
                        self.workers[worker].stop();
                        events.push(supervise::Event::Exited { node, failed });
                    }
                    supervise::Action::Wait { node, turn, wait } => {
                        let at = self.now_ms + u64::try_from(wait.as_millis()).unwrap();
                        self.at(at, Event::Due { node, turn });
                    }
                    _ => {}
                }
            }
        }
    }

    fn worker_at(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|own| *own == node).unwrap()
    }

    /// An agent panics.
    fn crash_worker(&mut self, worker: usize) {
        let node = self.nodes[worker];
        if self.tree.is_up(node) {
            self.workers[worker].stop();
            self.supervise(supervise::Event::Exited { node, failed: true });
        }
    }

    fn start_again(&mut self, worker: usize) {
        self.workers[worker].stop();
        let life = self.workers[worker].life;
        self.after(500, Event::Look { worker, life });
    }

    /// A person answers what is open, having looked at the world, and starts a supervisor again
    /// that gave up.
    fn person(&mut self) -> Result<(), String> {
        self.after(20_000, Event::Person);
        if self.tree.is_quarantined(NodeId::ROOT) {
            self.supervise(supervise::Event::Release(NodeId::ROOT));
        }
        let open = self
            .store
            .tables
            .questions
            .values()
            .filter(|q| q.choice.is_none());
        let open: Vec<_> = open.map(|question| question.request.clone()).collect();
        for request in open {
            let key = request.details.get("key").and_then(|key| key.as_str());
            let choice = match key {
                Some(key) if self.outside.knows(key) => "it happened".to_owned(),
                Some(_) => "repeat it".to_owned(),
                None if self.chance.percent(70) => TRY_AGAIN.to_owned(),
                None => request.reject.clone().unwrap_or_default(),
            };
            if !self.has_faults() || !self.chance.percent(10) {
                let (id, from) = (request.id(), None);
                let command = Command::Answer { id, choice };
                self.after(3_000, Event::Reach { from, command });
            }
        }
        Ok(())
    }
}

fn supervision(chance: &mut Chance) -> Supervision {
    let strategies = [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ];
    let strategy = strategies[usize::try_from(chance.below(3)).unwrap()];
    Supervision::new()
        .with_strategy(strategy)
        .with_restart(Restart::Permanent)
        .with_intensity(5, Duration::from_secs(30))
}
