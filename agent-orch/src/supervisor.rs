//! The fleet at work: one supervisor per pool and lane, a sweeper, and the handle a host drives
//! the run with.

mod clock;
mod control;
mod crew;
mod record;
mod reload;
mod sweeper;
mod tree;
mod waits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_core::{
    AgentId, CancellationToken, ClockExt, Event, Failure, Gate, RunId, Scope, Timestamp,
};
use agent_identity::CapabilityGate;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::agent::{Acted, Agent};
use crate::attempts::Attempts;
use crate::audit::{Root, Sealer};
use crate::door::{BreakerState, Chaos, Door, Gates};
use crate::drift::{Drifted, Migrate, Migration};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::inbox::{Answer, Request, RequestId};
use crate::journal::{Counts, Run};
use crate::outbox::{Deliver, Handlers};
use crate::registry::AgentRecord;
use crate::runner::{AgentFactory, Shared};
use crate::stack::{Enlisted, Stack};
use crate::supervise::{Handle, Supervise};
use crate::task::{NewTask, Status};
use crate::throttle::Throttle;
use crate::undo::{Undo, UndoHandler, Unwinder};
use crate::wait::Wait;
use crew::Crew;

pub use reload::Reloaded;

/// How often whoever waits for a run looks for what nobody announced.
const SWEEP: Duration = Duration::from_secs(1);

/// Builds and starts a fleet on a stack.
pub struct Supervisor {
    stack: Stack,
    fleet: Fleet,
    agents: BTreeMap<String, AgentFactory>,
    unwinder: Unwinder,
    outbox: Handlers,
    policies: Vec<Arc<dyn Gate>>,
    migrate: Option<Migrate>,
    chaos: Chaos,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("fleet", &self.fleet.name)
            .field("agents", &self.agents.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Prepares a fleet: no agents registered, no faults injected.
    #[must_use]
    pub fn new(stack: Stack, fleet: Fleet) -> Self {
        Self {
            stack,
            fleet,
            agents: BTreeMap::new(),
            unwinder: Unwinder::default(),
            policies: Vec::new(),
            chaos: Chaos::new(0),
            outbox: Handlers::new(),
            migrate: None,
        }
    }

    /// Registers the code of the agents that pools and lanes name. `make` is called at every start
    /// and restart of an agent.
    #[must_use]
    pub fn with_agent<A: Agent>(
        mut self,
        name: impl Into<String>,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self {
        let factory: AgentFactory = Arc::new(move || Arc::new(make()));
        self.agents.insert(name.into(), factory);
        self
    }

    /// Registers what runs the undo actions of one kind, `layer.verb` as in [`agent_core::Effect`].
    /// It gets a scope that carries the undo step's own idempotency key, and the step to undo with
    /// what that returned; it must do nothing where the step's effect never happened. Pools need a
    /// grant for the action. Default: none, then a task that has such a step to undo waits for a
    /// person.
    #[must_use]
    pub fn with_undo<F, Fut>(mut self, action: impl Into<String>, undo: F) -> Self
    where
        F: Fn(Scope, Undo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Acted<Value>>> + Send + 'static,
    {
        let handler: UndoHandler = Arc::new(move |scope, step| Box::pin(undo(scope, step)));
        self.unwinder.register(action.into(), handler);
        self
    }

    /// Registers what delivers the messages of a topic. Default: none; then a message to the topic
    /// is a dead letter at once, and a person is asked.
    #[must_use]
    pub fn with_outbox(mut self, topic: impl Into<String>, deliver: impl Deliver) -> Self {
        self.outbox.insert(topic.into(), Arc::new(deliver));
        self
    }

    /// Adds a policy of the host's own, asked about every effect that the grants permit. One that
    /// asks sends to a person, whose answer covers that step alone. Default: none.
    #[must_use]
    pub fn with_policy(mut self, policy: Arc<dyn Gate>) -> Self {
        self.policies.push(policy);
        self
    }

    /// Registers what decides about steps whose effect is not the recorded one, after the host
    /// changed its agents' code. Default: none, then such a step is a failure of class conflict.
    #[must_use]
    pub fn with_migration(
        mut self,
        migrate: impl Fn(&Drifted) -> Migration + Send + Sync + 'static,
    ) -> Self {
        self.migrate = Some(Arc::new(migrate));
        self
    }

    /// Injects faults into effects. Default: none.
    #[must_use]
    pub fn with_chaos(mut self, chaos: Chaos) -> Self {
        self.chaos = chaos;
        self
    }

    /// Starts all agents on a run that [`Stack::open_run`] opened.
    ///
    /// # Errors
    /// `NotFound` if a pool or lane names an agent that is not registered; `Invalid` if the
    /// manifest does not fit; the store's, the ledger's and the key store's.
    ///
    /// # Cancel safety
    /// Cancel safe: starting again continues.
    pub async fn start(self, run: Run) -> Result<RunHandle> {
        self.fleet.check()?;
        let members = self.stack.enlist(&self.fleet, &run).await?;
        let host = self.stack.host_scope();
        let journal = self.stack.journal();
        let door = self.door(Arc::clone(&members.grants));
        let scheduling = &self.fleet.scheduling;
        journal.configure(&host, run.id, scheduling).await?;
        let places = self.fleet.pools.keys().chain(self.fleet.lanes.keys());
        let shared = Arc::new(Shared {
            run: run.id,
            started: run.started,
            journal,
            door: Arc::new(door),
            env: self.stack.env().clone(),
            attempts: Attempts::default(),
            unwinder: Box::new(self.unwinder),
            alarm: Arc::default(),
            mail: Arc::default(),
            bells: RwLock::new(places.map(|p| (p.clone(), Arc::default())).collect()),
            migrate: self.migrate,
            moved: Notify::new(),
            submitted: Notify::new(),
            current: RwLock::new(Arc::new(self.fleet)),
        });
        let health = Arc::new(Health::default());
        let Enlisted {
            members,
            grants: gate,
        } = members;
        let entered = members.clone();
        let root = tree::tree(&shared, &shared.fleet(), members, &self.agents)?;
        let (recorder, recording) = record::recorder(&health);
        let (tree, handle) = Supervise::new(root, &shared.env, Arc::new(recorder))?;
        let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
        let scope = host.clone().with_run(run.id);
        let crew = Arc::new(Crew::new(
            Arc::clone(&shared),
            self.stack.clone(),
            gate,
            self.agents,
            handle.clone(),
            scope.clone(),
        ));
        crew.enter(&entered);
        tracker.spawn(tree.run(cancel.clone()));
        tracker.spawn(recording.run(Arc::clone(&shared), scope));
        tracker.spawn(Arc::clone(&crew).keep(cancel.clone(), tracker.clone()));
        let handle = RunHandle {
            shared,
            run,
            host,
            crew,
            cancel,
            tracker,
            health,
            tree: handle,
            sealer: self.stack.sealer(),
        };
        let shared = Arc::clone(&handle.shared);
        let host = handle.host.clone().with_run(handle.run.id);
        let sealer = handle.sealer.clone();
        let sweeping = sweeper::sweep(shared, host, sealer, handle.cancel.clone());
        handle.tracker.spawn(sweeping);
        handle.start_by_the_clock(self.outbox).await?;
        handle.tracker.close();
        Ok(handle)
    }

    fn door(&self, grants: Arc<CapabilityGate>) -> Door {
        let gates = Gates {
            grants,
            policies: self.policies.clone(),
        };
        Door::new(
            self.stack.journal(),
            gates,
            self.stack.rates(),
            self.stack.env().clone(),
            self.chaos.clone(),
            self.fleet.breaker,
        )
        .with_throttle(throttle(&self.stack, &self.fleet))
    }
}

fn throttle(stack: &Stack, fleet: &Fleet) -> Throttle {
    let clock = Arc::clone(&stack.env().clock);
    Throttle::new(&fleet.scheduling.limits, clock)
}

/// What supervision did so far in this process.
#[derive(Debug, Default)]
struct Health {
    restarts: AtomicU64,
    quarantined: Mutex<BTreeMap<String, Failure>>,
}

/// A running fleet. Dropping it stops the agents without waiting; what they recorded stays.
#[derive(Debug)]
pub struct RunHandle {
    shared: Arc<Shared>,
    run: Run,
    host: Scope,
    crew: Arc<Crew>,
    cancel: CancellationToken,
    tracker: TaskTracker,
    health: Arc<Health>,
    tree: Handle,
    sealer: Sealer,
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl RunHandle {
    /// Returns the run.
    #[must_use]
    pub const fn run(&self) -> &Run {
        &self.run
    }

    /// Returns the id of the run.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.run.id
    }

    /// Returns the agents that run by id, with their budget paths as names.
    #[must_use]
    pub fn agents(&self) -> BTreeMap<AgentId, String> {
        self.crew.ids()
    }

    /// Retires an agent: it finishes its attempt and does not work again. Another one takes its
    /// place. See [`Stack::retire`].
    ///
    /// # Errors
    /// As [`Stack::retire`].
    ///
    /// # Cancel safety
    /// As [`Stack::retire`].
    pub async fn retire(&self, id: AgentId, reason: &str) -> Result<AgentRecord> {
        let _changing = self.crew.changing.lock().await;
        let (fleet, place) = (self.shared.fleet(), self.crew.dismiss(id).await);
        let record = self.crew.stack.retire(id, &fleet, reason).await?;
        if let Some(place) = place {
            self.crew
                .grow(&fleet, &place, fleet.size_of(&place))
                .await?;
        }
        Ok(record)
    }

    /// Adds tasks and returns how many were not there yet.
    ///
    /// # Errors
    /// `Invalid` for a task without a known pool, an oversized key or input; the store's.
    ///
    /// # Cancel safety
    /// Atomic: all or none.
    pub async fn submit(&self, mut tasks: Vec<NewTask>) -> Result<u64> {
        let fleet = self.shared.fleet();
        for task in &mut tasks {
            let pool = fleet.pools.get(&task.pool);
            let pool = pool.ok_or_else(|| Error::not_found("pool", task.pool.as_str()))?;
            pool.limits.bound(task, self.shared.env.clock.now());
        }
        let added = self
            .shared
            .journal
            .submit(&self.host, self.run.id, tasks)
            .await?;
        self.shared.ring_all();
        self.shared.submitted.notify_one();
        Ok(added)
    }

    /// Returns the state of the run.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn progress(&self) -> Result<Progress> {
        Ok(Progress {
            counts: self.shared.journal.counts(self.run.id).await?,
            restarts: self.health.restarts.load(Ordering::Relaxed),
            quarantined: self.health.quarantined.lock().clone(),
            breakers: self.shared.door.tripped(),
            at: self.shared.env.clock.now(),
        })
    }

    /// Waits until every task has ended or waits for the outside, a person or a signal, or nobody is
    /// left to do the rest. A task that waits for a moment alone goes on by itself and is waited for.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn settled(&self) -> Result<Progress> {
        loop {
            let moved = self.shared.moved.notified();
            let progress = self.progress().await?;
            let is_still = progress.counts.moving() == 0 && !self.is_asleep(&progress).await?;
            if is_still || !progress.quarantined.is_empty() {
                return Ok(progress);
            }
            tokio::select! {
                () = moved => {}
                () = self.shared.env.clock.sleep(SWEEP) => {}
            }
        }
    }

    /// Returns whether a parked task goes on by itself when its moment comes.
    async fn is_asleep(&self, progress: &Progress) -> Result<bool> {
        if progress.counts.of(Status::Parked) == 0 {
            return Ok(false);
        }
        let waits = self.shared.journal.open_waits(self.run.id).await?;
        Ok(waits.iter().any(Wait::is_timer))
    }

    /// Returns the questions that wait for an answer.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_requests(&self) -> Result<Vec<Request>> {
        self.shared.journal.open_requests(self.run.id).await
    }

    /// Answers a question; its task goes on.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Conflict` as [`crate::Journal::answer`] says.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn answer(&self, id: RequestId, answer: Answer) -> Result<Request> {
        let request = self.shared.journal.answer(&self.host, id, answer).await?;
        self.shared.ring_all();
        self.shared.mail.notify_one();
        Ok(request)
    }

    /// Runs a quarantined pool, lane or supervisor again, with what is quarantined under it, and
    /// records that. Supervisors are named as in the tree: `supervisor.NAME`.
    ///
    /// # Errors
    /// `NotFound` if nothing of that name is quarantined; the store's.
    ///
    /// # Cancel safety
    /// Atomic, but for the record.
    pub async fn release(&self, name: &str) -> Result<()> {
        let fleet = self.shared.fleet();
        let is_place = fleet.pools.contains_key(name) || fleet.lanes.contains_key(name);
        let node = if is_place {
            tree::node_of(&fleet, name)
        } else {
            name.to_owned()
        };
        if !self.tree.release(&node).await {
            return Err(Error::not_found("quarantined pool", name));
        }
        let left = self.tree.quarantined().await?;
        let is_left = |name: &str| left.iter().any(|node| record::place(node) == name);
        self.health
            .quarantined
            .lock()
            .retain(|name, _| is_left(name));
        let payload = json!({ "pool": name, "pools": tree::places_under(&fleet, &node) });
        let scope = self.host.clone().with_run(self.run.id);
        let event = Event::new(
            &scope,
            self.shared.env.clock.now(),
            "pool.released",
            payload,
        );
        self.shared.journal.note(event).await?;
        Ok(())
    }

    /// Stops all agents and waits for them. Their tasks are released; opening the run again
    /// Stops all agents, waits for them and signs the audit chain. Their tasks are released;
    /// opening the run again
    /// resumes them.
    ///
    /// # Cancel safety
    /// Cancel safe: the agents stop whether or not this is awaited to its end.
    pub async fn stop(&self) {
        self.halt().await;
        signed(self.sealer.seal().await);
    }

    async fn halt(&self) {
        self.cancel.cancel();
        self.tracker.wait().await;
    }

    /// Stops all agents, ends the run, so that the next one of the subject starts afresh, and signs
    /// the audit chain.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// As [`RunHandle::stop`].
    pub async fn end(&self) -> Result<()> {
        self.halt().await;
        self.shared.journal.end_run(&self.host, self.run.id).await?;
        self.sealer.seal().await?;
        Ok(())
    }
}

/// Work goes on when the audit chain cannot be signed; what is not signed is signed later.
fn signed(root: Result<Option<Root>>) {
    if let Err(error) = root {
        tracing::warn!(%error, "the audit chain was not signed");
    }
}

/// The state of a run at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Its tasks by stage and status.
    pub counts: Counts,
    /// How many agents were restarted in this process.
    pub restarts: u64,
    /// The pools and lanes that were given up, with the failure that was one too many.
    pub quarantined: BTreeMap<String, Failure>,
    /// The circuit breakers that do not let every call through, by `tenant/action/target`.
    pub breakers: BTreeMap<String, BreakerState>,
    /// When this was read.
    pub at: Timestamp,
}
