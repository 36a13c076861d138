//! Laws of pausing, resuming and canceling.

use std::time::Duration;

use agent_core::{EffectClass, Retry, RunId};
use serde_json::{Value, json};

use super::trees::{FAR, PARK};
use super::{Subject, agent, check, effect, failure, is_conflict};
use crate::error::{Error, Result};
use crate::inbox::NewRequest;
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::task::{NewTask, Status, Transition};
use crate::tree::{Control, Target};

/// A paused tree is not claimed, its timers do not start it, a holder is told at its next effect;
/// resuming restores what was.
///
/// # Errors
/// If the law does not hold.
pub async fn a_paused_tree_stands_still(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let ids = s.spawn(&claim, &["ready", "delayed", "held"]).await?;
    let delayed = s.take(run, "below", 2).await?;
    let at = delayed.lease.until;
    let retry = Transition::Retry {
        failure: failure(Retry::Safe),
        at,
    };
    s.finish(&delayed, retry).await?;
    let held = s.take(run, "below", 3).await?;
    let before = s.journal.counts(run).await?;
    check(
        s.control(claim.task.id, Control::Pause).await?.len() == 4,
        "all of the tree",
    )?;
    check(
        s.control(claim.task.id, Control::Pause).await?.is_empty(),
        "once is enough",
    )?;
    let intent = Intent::new(StepKey::new("s", 0), effect(EffectClass::Opaque, "x"));
    let scope = Subject::scope();
    let told = s.journal.intend(&scope, &held.lease, intent);
    check(
        matches!(told.await, Err(Error::Yielded { .. })),
        "a holder is told at its next effect",
    )?;
    s.finish(&held, Transition::Release).await?;
    s.finish(&claim, Transition::Release).await?;
    stands_still(&s, run).await?;
    check(
        s.control(claim.task.id, Control::Resume).await?.len() == 4,
        "all of the tree goes on",
    )?;
    let after = s.journal.counts(run).await?;
    let is_back = after.of(Status::Delayed) == before.of(Status::Delayed)
        && after.of(Status::Ready) == 3
        && after.of(Status::Paused) == 0;
    check(is_back, "everything is what it was")?;
    for _ in ids {
        s.take(run, "below", 4).await?;
    }
    Ok(())
}

async fn stands_still(s: &Subject, run: RunId) -> Result<()> {
    s.clock.advance(Duration::from_secs(600));
    s.journal.sweep(&Subject::scope()).await?;
    for pool in ["work", "below"] {
        let none = s.claim(run, pool, agent(4)).await?.is_none();
        check(none, "nothing of it is claimed")?;
    }
    let counts = s.journal.counts(run).await?;
    check(
        counts.of(Status::Paused) == 4 && counts.moving() == 0,
        "it stands still",
    )?;
    check(s.journal.stuck(run).await?.is_empty(), "which is not stuck")
}

/// What happened to a paused task while it was paused is not lost.
///
/// # Errors
/// If the law does not hold.
pub async fn a_paused_task_hears_its_answer_when_it_goes_on(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let ask = NewRequest::new(run, claim.task.id, "q", "?", &["yes", "no"], FAR);
    let asked = s.journal.ask(&scope, ask).await?;
    s.finish(&claim, PARK).await?;
    s.control(claim.task.id, Control::Pause).await?;
    let answer = crate::inbox::Answer::new("yes", agent_core::Principal::new("human:a")?);
    s.journal.answer(&scope, asked.id, answer).await?;
    check(
        s.status(claim.task.id).await? == Status::Paused,
        "it stays paused",
    )?;
    s.control(claim.task.id, Control::Resume).await?;
    check(
        s.status(claim.task.id).await? == Status::Ready,
        "it goes on",
    )
}

/// Canceling ends a tree at once: holders can write nothing, questions are closed. Canceling what
/// has ended changes nothing.
///
/// # Errors
/// If the law does not hold.
pub async fn a_canceled_tree_can_do_nothing(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let ids = s.spawn(&claim, &["asks", "acts"]).await?;
    let asks = s.take(run, "below", 2).await?;
    let ask = NewRequest::new(run, asks.task.id, "q", "?", &["yes", "no"], FAR);
    s.journal.ask(&scope, ask).await?;
    s.finish(&asks, PARK).await?;
    let acts = s.take(run, "below", 3).await?;
    let intent = Intent::new(StepKey::new("s", 0), effect(EffectClass::Opaque, "x"));
    let Intended::Go(pass) = s.journal.intend(&scope, &acts.lease, intent).await? else {
        return check(false, "a fresh step goes ahead");
    };
    let canceled = s.control(claim.task.id, Control::cancel("enough")).await?;
    check(!canceled.is_empty(), "it is canceled")?;
    let outcome = Outcome::new(Ok(json!(1)));
    let late = s.journal.settle(&scope, &acts.lease, &pass, outcome).await;
    check(is_conflict(&late), "no outcome")?;
    check(is_conflict(&s.spawn(&claim, &["late"]).await), "no child")?;
    check(is_conflict(&s.finish(&claim, PARK).await), "no transition")?;
    check(
        s.journal.open_requests(run).await?.is_empty(),
        "its questions are closed",
    )?;
    for id in ids.into_iter().chain([claim.task.id]) {
        let task = s.journal.task(id).await?;
        check(task.status == Status::Canceled, "all of it is canceled")?;
        check(task.failure.is_some(), "and says why")?;
    }
    let again = s.control(claim.task.id, Control::cancel("again")).await?;
    check(again.is_empty(), "what has ended stays as it is")?;
    let resumed = s.control(claim.task.id, Control::Resume).await?;
    check(resumed.is_empty(), "and does not go on")
}

/// A whole run is paused, resumed and canceled like a tree.
///
/// # Errors
/// If the law does not hold.
pub async fn a_run_is_controlled_as_a_whole(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let (scope, target) = (Subject::scope(), Target::Run(run));
    let tasks = ["a", "b"].map(|key| NewTask::new(key, "work", Value::Null));
    s.journal.submit(&scope, run, tasks.to_vec()).await?;
    s.journal.control(&scope, target, Control::Pause).await?;
    check(
        s.claim(run, "work", agent(1)).await?.is_none(),
        "nothing is claimed",
    )?;
    s.journal.control(&scope, target, Control::Resume).await?;
    s.take(run, "work", 1).await?;
    let end = Control::cancel("over");
    let done = s.journal.control(&scope, target, end.clone()).await?;
    check(done.changed.len() == 2, "both are canceled")?;
    let none = Target::Run(RunId::from_bits(1));
    let unknown = s.journal.control(&scope, none, end).await;
    check(
        matches!(unknown, Err(Error::NotFound { .. })),
        "another run is not there",
    )
}
