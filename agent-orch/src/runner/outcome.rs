//! What becomes of a task after an attempt: decided, written down and announced.

use agent_core::EntropyExt;

use super::Member;
use super::shared::Shared;
use crate::agent::Ctx;
use crate::decide::{Ended, Next, Policy, decide};
use crate::error::{Error, Result};
use crate::task::{Alternative, Stage, Task, Transition};

/// Decides what becomes of the task and writes it down.
pub(super) async fn move_on(
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
