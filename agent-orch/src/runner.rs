//! One agent at work: claim, attempt, decide, finish, again.

mod attempt;
mod outcome;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::{AgentId, ClockExt, Event, Failure, Scope};
use agent_pay::BudgetPath;

use crate::agent::Agent;
use crate::bell::Bell;
use crate::error::{Error, Result, failure_of};
use crate::fleet::Probes;
use crate::journal::{Admission, ClaimRequest, Queue};
use crate::probe;
use crate::supervise::Signal;
use crate::task::Lease;
use attempt::attempt;

pub(crate) use shared::Shared;

/// Makes an agent's code anew for each start, so that a restart begins with clean state.
pub type AgentFactory = Arc<dyn Fn() -> Arc<dyn Agent> + Send + Sync>;

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

/// Stops the attempts of this process whose lease is over.
pub(crate) async fn check_leases(shared: &Shared, leases: Vec<Lease>) {
    for lease in leases {
        if let Err(Error::LeaseLost { .. }) = shared.journal.heartbeat(&lease).await {
            shared.attempts.stop(&lease);
        }
    }
}
