//! One attempt: the agent under its lease, its deadline and its probes.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use agent_core::{CancellationToken, ClockExt, ErrorKind, Failure, Retry};
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::outcome::move_on;
use super::shared::Shared;
use super::{Member, check_leases, note_probe};
use crate::agent::{Agent, Course, Ctx};
use crate::decide::Ended;
use crate::door::InjectedCrash;
use crate::error::{Error, Result, failure_of};
use crate::journal::ClaimRequest;
use crate::probe::{self, Finding, Pulse};
use crate::task::{Claim, Lease, Stage, Task, Transition};

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
pub(super) async fn attempt(
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
    let end = until_over(shared, member, agent, &cx, &task).await;
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

/// Lets the agent work until the attempt is over, however that comes about.
async fn until_over(
    shared: &Shared,
    member: &Member,
    agent: &dyn Agent,
    cx: &Ctx,
    task: &Task,
) -> End {
    let agent = match task.stage {
        Stage::Undo => shared.unwinder.as_ref(),
        _ => agent,
    };
    let running = AssertUnwindSafe(agent.run(cx, task)).catch_unwind();
    let guarded = cx.scope.guard(shared.env.clock.as_ref(), running);
    tokio::select! {
        biased;
        end = guarded => match end {
            Ok(Ok(Err(Error::Yielded { .. }))) => End::Stopped,
            Ok(Ok(result)) => End::Returned(result),
            Ok(Err(panic)) => End::Crashed(crash(panic.as_ref())),
            Err(agent_core::Error::Canceled) => End::Stopped,
            Err(error) => End::Returned(Err(error.into())),
        },
        () = keep_alive(shared, &cx.lease, &cx.until_ms) => End::Lost,
        finding = probe::watch(&cx.pulse, &member.probes) => {
            note_probe(shared, &cx.scope, finding.failure()).await;
            match finding {
                Finding::Dead(failure) => End::Crashed(failure),
                Finding::Stuck(failure) => End::Returned(Err(failure.into())),
            }
        }
    }
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
