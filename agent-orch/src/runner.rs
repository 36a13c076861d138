//! One agent at work: claim, attempt, decide, finish, again.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use agent_core::{
    AgentId, CancellationToken, ClockExt, EntropyExt, Env, ErrorKind, Event, Failure, Retry, RunId,
    Scope, Timestamp,
};
use agent_pay::BudgetPath;
use futures_util::FutureExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::agent::{Agent, Course, Ctx};
use crate::alarm::Alarm;
use crate::attempts::Attempts;
use crate::bell::Bell;
use crate::decide::{Ended, Next, Policy, decide};
use crate::door::{Door, InjectedCrash};
use crate::drift::Migrate;
use crate::error::{Error, Result, failure_of};
use crate::fleet::{Fleet, Probes};
use crate::journal::{Admission, ClaimRequest, Journal, Queue};
use crate::probe::{self, Finding, Pulse};
use crate::supervise::Signal;
use crate::task::{Alternative, Claim, Lease, Stage, Task, Transition};
use crate::undo::Unwinder;

/// Makes an agent's code anew for each start, so that a restart begins with clean state.
pub type AgentFactory = Arc<dyn Fn() -> Arc<dyn Agent> + Send + Sync>;

/// What all agents of a run share.
pub(crate) struct Shared {
    /// The configuration that holds.
    pub(crate) current: RwLock<Arc<Fleet>>,
    pub(crate) run: RunId,
    /// When the run started: limits within its grants count from there.
    pub(crate) started: Timestamp,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) door: Arc<Door>,
    pub(crate) env: Env,
    pub(crate) attempts: Attempts,
    /// Undoes what tasks did that end without success.
    pub(crate) unwinder: Box<Unwinder>,
    /// When the run is to be swept next.
    pub(crate) alarm: Arc<Alarm>,
    /// Decides about steps that drifted.
    pub(crate) migrate: Option<Migrate>,
    /// Announces messages to the dispatcher.
    pub(crate) mail: Arc<Notify>,
    /// Announces work, by pool or lane.
    pub(crate) bells: RwLock<BTreeMap<String, Arc<Bell>>>,
    /// Announces that a task moved, to whoever waits for the run.
    pub(crate) moved: Notify,
    /// Announces that there are more tasks, to whoever scales pools.
    pub(crate) submitted: Notify,
}

impl Shared {
    /// Returns the configuration that holds.
    pub(crate) fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.current.read())
    }

    /// Changes the configuration.
    pub(crate) fn set_fleet(&self, fleet: Fleet) {
        let mut bells = self.bells.write();
        bells.retain(|place, _| fleet.pools.contains_key(place) || fleet.lanes.contains_key(place));
        for place in fleet.pools.keys().chain(fleet.lanes.keys()) {
            bells.entry(place.clone()).or_default();
        }
        *self.current.write() = Arc::new(fleet);
    }

    /// Returns what announces work of a pool or lane.
    pub(crate) fn bell(&self, place: &str) -> Option<Arc<Bell>> {
        self.bells.read().get(place).cloned()
    }

    /// Announces one task of a pool or lane.
    pub(crate) fn ring(&self, pool: &str) {
        if let Some(bell) = self.bell(pool) {
            bell.ring(1);
        }
        self.moved.notify_waiters();
    }

    /// Has the sweeper look at once which pools have work, and announce it.
    pub(crate) fn ring_all(&self) {
        self.alarm.set(self.env.clock.now());
        self.moved.notify_waiters();
    }

    /// Announces what the end of a lease may have let through: tasks that waited for its limits.
    fn freed(&self) {
        let fleet = self.fleet();
        let limits = &fleet.scheduling.limits;
        if limits.values().any(|limit| limit.concurrency.is_some()) {
            self.ring_all();
        }
    }
}

/// One agent of a pool or lane: its identity, wallet and place.
#[derive(Clone)]
pub(crate) struct Member {
    /// The pool or lane it claims from.
    pub(crate) pool: String,
    pub(crate) id: AgentId,
    /// Who acts: the agent's name under which it signs and is audited.
    pub(crate) scope: Scope,
    pub(crate) budget: BudgetPath,
    pub(crate) attempt_max: Duration,
    pub(crate) steps_max: u32,
    pub(crate) has_others: bool,
    /// Which of its pool or lane it is, counted from one.
    pub(crate) number: u32,
    pub(crate) probes: Probes,
}

/// Works until it is told to end, at once or after the attempt under way. Ends with a failure when
/// the agent's code crashed, it did not start in time, or the journal cannot be reached, which the
/// supervisor handles.
pub(crate) async fn work(
    shared: Arc<Shared>,
    member: Member,
    factory: AgentFactory,
    signal: Signal,
) -> Result<(), Failure> {
    let started = AtomicBool::new(false);
    let clock = shared.env.clock.as_ref();
    tokio::select! {
        biased;
        ended = serve(&shared, &member, &factory, &signal, &started) => ended,
        failure = probe::startup(&started, &member.probes, clock) => {
            note_probe(&shared, &member.scope, &failure).await;
            Err(failure)
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    member: &Member,
    factory: &AgentFactory,
    signal: &Signal,
    started: &AtomicBool,
) -> Result<(), Failure> {
    let agent = factory();
    let bell = shared.bell(&member.pool).ok_or_else(|| {
        let unknown = Error::not_found("pool or lane", member.pool.as_str());
        failure_of(&unknown)
    })?;
    let mut look = bell.look();
    while !signal.is_draining() {
        ready(shared, member, agent.as_ref(), signal).await;
        if signal.is_draining() {
            break;
        }
        let request = claim_request(shared, member);
        let claim = shared.journal.claim(&member.scope, request).await;
        started.store(true, Ordering::Release);
        match claim.map_err(|e| failure_of(&e))? {
            Some(claim) => {
                drop(look);
                let ended = attempt(shared, member, agent.as_ref(), claim, signal.token()).await;
                shared.freed();
                ended?;
                look = bell.look();
            }
            None => {
                rest(shared, &bell).await.map_err(|e| failure_of(&e))?;
                look = tokio::select! {
                    look = look.again() => look,
                    () = signal.draining() => return Ok(()),
                };
            }
        }
    }
    Ok(())
}

fn claim_request(shared: &Shared, member: &Member) -> ClaimRequest {
    let fleet = shared.fleet();
    let escalation = &fleet.escalation;
    let (route, deadline) = (escalation.route.as_str(), escalation.deadline);
    ClaimRequest::new(shared.run, member.pool.clone(), member.id).with_admission(Admission::new(
        member.budget.clone(),
        route,
        deadline,
    ))
}

/// What an agent does before it waits: work that it may not have is for somebody else.
async fn rest(shared: &Shared, bell: &Bell) -> Result<()> {
    shared.moved.notify_waiters();
    if bell.n_waiting() > 0 {
        let queues = shared.journal.queues(shared.run).await?;
        let is_here = |queue: &Queue| {
            let of_queue = shared.bell(&queue.pool);
            of_queue.is_some_and(|b| std::ptr::eq(b.as_ref(), bell))
        };
        if queues.iter().any(is_here) {
            bell.pass_on();
        }
    }
    Ok(())
}

/// How long an agent that is not ready is left alone before it is asked again.
const READY_POLL: Duration = Duration::from_secs(1);

/// Waits until the agent is ready for a task, or is to end. Why it was not is recorded once.
async fn ready(shared: &Shared, member: &Member, agent: &dyn Agent, signal: &Signal) {
    let mut is_noted = false;
    while let Err(failure) = agent.ready().await {
        if !is_noted {
            note_probe(shared, &member.scope, &failure).await;
            is_noted = true;
        }
        tokio::select! {
            () = shared.env.clock.sleep(READY_POLL) => {}
            () = signal.draining() => return,
        }
    }
}

/// Records what a probe found.
async fn note_probe(shared: &Shared, scope: &Scope, failure: &Failure) {
    let scope = scope.clone().with_run(shared.run);
    let payload = serde_json::json!({ "failure": failure });
    let event = Event::new(
        &scope,
        shared.env.clock.now(),
        "agent.probe_failed",
        payload,
    );
    // What follows from the finding does not depend on its record.
    if let Err(error) = shared.journal.note(event).await {
        tracing::warn!(%error, "a probe's finding was not recorded");
    }
}

/// How an attempt came to an end.
enum End {
    /// The agent returned.
    Returned(Result<Ended>),
    /// The agent's code panicked.
    Crashed(Failure),
    /// The lease was lost: somebody else has the task.
    Lost,
    /// The agent is being stopped, or gives the task back.
    Stopped,
}

/// Makes one attempt and moves the task on. An error means that the agent crashed.
async fn attempt(
    shared: &Arc<Shared>,
    member: &Member,
    agent: &dyn Agent,
    claim: Claim,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let Claim { task, lease } = claim;
    let mut cx = context(shared, member, &task, &lease, cancel);
    let entered = shared
        .attempts
        .enter(&lease, &task, cx.scope.cancellation.clone());
    cx.yields = Arc::clone(&entered.yields);
    let until_ms = Arc::clone(&cx.until_ms);
    let agent = match task.stage {
        Stage::Undo => shared.unwinder.as_ref(),
        _ => agent,
    };
    let running = AssertUnwindSafe(agent.run(&cx, &task)).catch_unwind();
    let guarded = cx.scope.guard(shared.env.clock.as_ref(), running);
    let end = tokio::select! {
        biased;
        end = guarded => match end {
            Ok(Ok(Err(Error::Yielded { .. }))) => End::Stopped,
            Ok(Ok(result)) => End::Returned(result),
            Ok(Err(panic)) => End::Crashed(crash(panic.as_ref())),
            Err(agent_core::Error::Canceled) => End::Stopped,
            Err(error) => End::Returned(Err(error.into())),
        },
        () = keep_alive(shared, &lease, &until_ms) => End::Lost,
        finding = probe::watch(&cx.pulse, &member.probes) => {
            note_probe(shared, &cx.scope, finding.failure()).await;
            match finding {
                Finding::Dead(failure) => End::Crashed(failure),
                Finding::Stuck(failure) => End::Returned(Err(failure.into())),
            }
        }
    };
    let (ended, crashed) = match end {
        End::Lost => return Ok(()),
        End::Stopped => {
            let back = if entered.is_preempted() {
                Transition::Yield
            } else {
                Transition::Release
            };
            // If this fails too, the lease ends by itself.
            let _released = shared.journal.finish(&cx.scope, &lease, back).await;
            shared.ring(&task.pool);
            return Ok(());
        }
        End::Crashed(failure) => (
            Ended::Failed {
                failure: failure.clone(),
            },
            Some(failure),
        ),
        End::Returned(Ok(ended)) => (ended, None),
        End::Returned(Err(Error::LeaseLost { .. })) => return Ok(()),
        End::Returned(Err(Error::Waiting { .. } | Error::Joining { .. })) => (Ended::Waiting, None),
        End::Returned(Err(error)) => (
            Ended::Failed {
                failure: failure_of(&error),
            },
            None,
        ),
    };
    match move_on(shared, member, &cx, &task, ended).await {
        Ok(()) => {
            drop(entered);
            // What ended with this task may be held in this process.
            check_leases(shared, shared.attempts.leases_of(task.root)).await;
        }
        Err(Error::LeaseLost { .. }) => {}
        Err(error) => return Err(failure_of(&error)),
    }
    crashed.map_or(Ok(()), Err)
}

fn context(
    shared: &Arc<Shared>,
    member: &Member,
    task: &Task,
    lease: &Lease,
    cancel: &CancellationToken,
) -> Ctx {
    let fleet = shared.fleet();
    let home = fleet.pools.get(&task.home);
    let is_undo = lease.stage == Stage::Undo;
    let mut scope = member
        .scope
        .clone()
        .with_run(shared.run)
        .with_task(lease.task)
        .with_attempt(lease.attempt, lease.fence)
        .with_deadline(shared.env.clock.now().after(member.attempt_max));
    scope.cancellation = cancel.child_token();
    Ctx {
        scope,
        lease: lease.clone(),
        home: task.home.clone(),
        budget: member.budget.clone(),
        fair_key: task.fair_key.clone(),
        door: Arc::clone(&shared.door),
        alarm: Arc::clone(&shared.alarm),
        mail: Arc::clone(&shared.mail),
        // Whatever a task did in all its rounds must be undone in one attempt.
        steps_max: if is_undo { u32::MAX } else { member.steps_max },
        question_deadline: fleet.escalation.deadline,
        question_route: fleet.escalation.route.clone(),
        steps: Mutex::new(BTreeMap::new()),
        course: Course::new(home.map(|pool| &pool.recovery), task),
        calls: Mutex::default(),
        yields: Arc::default(),
        until_ms: Arc::new(AtomicI64::new(lease.until.as_unix_ms())),
        pulse: Pulse::new(Arc::clone(&shared.env.clock)),
        shared: Arc::clone(shared),
    }
}

/// Stops the attempts of this process whose lease is over.
pub(crate) async fn check_leases(shared: &Shared, leases: Vec<Lease>) {
    for lease in leases {
        if let Err(Error::LeaseLost { .. }) = shared.journal.heartbeat(&lease).await {
            shared.attempts.stop(&lease);
        }
    }
}

/// Renews the lease until that fails.
async fn keep_alive(shared: &Shared, lease: &Lease, until_ms: &AtomicI64) {
    let every = ClaimRequest::LEASE_DEFAULT / 3;
    loop {
        shared.env.clock.sleep(every).await;
        match shared.journal.heartbeat(lease).await {
            Ok(until) => until_ms.store(until.as_unix_ms(), Ordering::Release),
            Err(_) => return,
        }
    }
}

fn crash(panic: &(dyn std::any::Any + Send)) -> Failure {
    let injected = panic.is::<InjectedCrash>();
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    let (kind, code) = if injected {
        (ErrorKind::Unavailable, "chaos.crash")
    } else {
        (ErrorKind::Internal, "orch.panicked")
    };
    let message = format!("the agent crashed: {said}");
    Failure::new(
        kind,
        Retry::Unknown,
        code,
        &message,
        "look at the agent's code",
    )
}

/// Decides what becomes of the task and writes it down.
async fn move_on(
    shared: &Shared,
    member: &Member,
    cx: &Ctx,
    task: &Task,
    ended: Ended,
) -> Result<()> {
    let fleet = shared.fleet();
    let home = fleet.pools.get(&task.home);
    let verifier = home
        .and_then(|pool| pool.verifier.as_deref())
        .unwrap_or_default();
    if verifier.is_empty() && task.stage == Stage::Work {
        let key = format!("pool.{}.verifier", task.home);
        return Err(Error::invalid(key, "tasks need a pool that verifies them"));
    }
    let mut policy = Policy::new(&fleet.recovery, verifier, &fleet.escalation);
    policy.backoff = fleet.backoff;
    if let Some(recovery) = home.map(|pool| &pool.recovery) {
        policy.own = Some(&recovery.ladders);
        policy.fallback = Some(&recovery.fallback);
        policy.retries_left = recovery.retries_max.saturating_sub(task.retries);
    }
    policy.lane = home.and_then(|pool| pool.lane.as_deref());
    policy.has_others = member.has_others;
    policy.now = shared.env.clock.now();
    policy.seed = shared.env.entropy.next_u64();
    let mut next = decide(task, ended.clone(), &policy);
    let mut done = write_down(shared, cx, &next).await;
    if let Err(Error::RetriesExhausted { .. }) = done {
        policy.retries_left = 0;
        next = decide(task, ended, &policy);
        done = write_down(shared, cx, &next).await;
    }
    done?;
    if task.parent.is_some() {
        // A parent that waited for this task may go on, wherever it is claimed.
        shared.ring_all();
    }
    match &next.transition {
        Transition::Verify { pool, .. } => shared.ring(pool),
        Transition::Accept {
            lane: Some(lane), ..
        } => shared.ring(lane),
        Transition::Correct { .. } => shared.ring(&task.home),
        Transition::FallBack {
            to: Alternative::Pool(pool),
            ..
        } => shared.ring(pool),
        // The store may have sent a task to where it is undone by agents of its pool.
        Transition::FallBack { .. } | Transition::Unwind { .. } | Transition::End { .. } => {
            shared.ring(&task.home);
        }
        Transition::Retry { at, .. } => {
            shared.alarm.set(*at);
            shared.moved.notify_waiters();
        }
        // What it was to wait for may have happened meanwhile.
        Transition::Park { .. } => shared.ring(&task.pool),
        _ => shared.moved.notify_waiters(),
    }
    if task.root != task.id {
        // Whoever delegated it may have waited for it.
        shared.ring_all();
    }
    Ok(())
}

async fn write_down(shared: &Shared, cx: &Ctx, next: &Next) -> Result<()> {
    if let Some(request) = &next.request {
        shared.journal.ask(&cx.scope, request.clone()).await?;
    }
    let transition = next.transition.clone();
    shared
        .journal
        .finish(&cx.scope, &cx.lease, transition)
        .await
}
