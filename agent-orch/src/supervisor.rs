//! The fleet at work: one supervisor per pool and lane, a sweeper, and the handle a host drives
//! the run with.

mod clock;
mod control;
mod crew;
mod handle;
mod health;
mod record;
mod reload;
mod reshape;
mod sweeper;
mod tree;
mod waits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, Gate, Scope};
use agent_identity::CapabilityGate;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::agent::{Acted, Agent};
use crate::attempts::Attempts;
use crate::audit::{Root, Sealer};
use crate::door::{Chaos, Door, Gates};
use crate::drift::{Drifted, Migrate, Migration};
use crate::error::Result;
use crate::fleet::Fleet;
use crate::journal::Run;
use crate::outbox::{Deliver, Handlers};
use crate::runner::{AgentFactory, Shared};
use crate::stack::{Enlisted, Stack};
use crate::supervise::{Handle, Supervise};
use crate::throttle::Throttle;
use crate::undo::{Undo, UndoHandler, Unwinder};
use crew::Crew;
use health::Health;
pub use health::Progress;

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
    Throttle::new(&fleet.scheduling.limits, stack.gauges(), clock)
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

/// Work goes on when the audit chain cannot be signed; what is not signed is signed later.
fn signed(root: Result<Option<Root>>) {
    if let Err(error) = root {
        tracing::warn!(%error, "the audit chain was not signed");
    }
}
