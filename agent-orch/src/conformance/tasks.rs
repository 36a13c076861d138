//! Laws of tasks: who gets one, who may act on it, and how it moves.

use std::time::Duration;

use agent_core::{Digest, EffectClass, Retry};
use serde_json::{Value, json};

use super::subject::{Subject, agent, check, effect, failure, is_conflict};
use crate::error::{Error, Result};
use crate::journal::{ClaimRequest, Intended, Intent, NewRun, Outcome, StepKey};
use crate::task::{NewTask, Status, Transition};

/// Submitting a task again changes nothing.
///
/// # Errors
/// If the law does not hold.
pub async fn submitting_again_changes_nothing(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let tasks = || {
        vec![
            NewTask::new("a", "p", json!(1)),
            NewTask::new("b", "p", json!(2)),
        ]
    };
    check(
        s.journal.submit(&Subject::scope(), run, tasks()).await? == 2,
        "both are new",
    )?;
    check(
        s.journal.submit(&Subject::scope(), run, tasks()).await? == 0,
        "none is new",
    )?;
    check(s.journal.counts(run).await?.total() == 2, "there are two")
}

/// Of two claimers one gets the task.
///
/// # Errors
/// If the law does not hold.
pub async fn one_claimer_gets_the_task(s: Subject) -> Result<()> {
    let (run, _claim) = s.with_task().await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_none(),
        "the second gets nothing",
    )
}

/// The most urgent task is claimed first, among equals the oldest.
///
/// # Errors
/// If the law does not hold.
pub async fn urgent_then_old_tasks_are_claimed_first(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let tasks = [("late", 3), ("old", 1), ("young", 1), ("now", 0)];
    let tasks = tasks.map(|(key, p)| NewTask::new(key, "p", Value::Null).with_priority(p));
    s.journal
        .submit(&Subject::scope(), run, tasks.to_vec())
        .await?;
    for expected in ["now", "old", "young", "late"] {
        let claim = s.claim(run, "p", agent(1)).await?;
        check(
            claim.is_some_and(|claim| claim.task.key == expected),
            expected,
        )?;
    }
    Ok(())
}

/// A lease that ended goes to somebody else, and its holder can do nothing any more.
///
/// # Errors
/// If the law does not hold.
pub async fn an_old_fence_can_do_nothing(s: Subject) -> Result<()> {
    let (run, old) = s.with_task().await?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    check(
        is_conflict(&s.journal.heartbeat(&old.lease).await),
        "an ended lease is not renewed",
    )?;
    let swept = s.journal.sweep(&Subject::scope()).await?;
    check(swept.leases == 1, "the sweep takes it back")?;
    let new = s.claim(run, "work", agent(2)).await?;
    let new = new.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(new.lease.fence > old.lease.fence, "the fence rises")?;
    let scope = Subject::scope();
    let intent = Intent::new(StepKey::new("s", 0), effect(EffectClass::Pure, "x"));
    check(
        is_conflict(&s.journal.intend(&scope, &old.lease, intent).await),
        "no intent",
    )?;
    let end = s
        .journal
        .finish(&scope, &old.lease, Transition::Release)
        .await;
    check(is_conflict(&end), "no transition")?;
    check(
        s.journal.heartbeat(&new.lease).await.is_ok(),
        "the new holder goes on",
    )
}

/// An author neither claims its own work for verification nor accepts it.
///
/// # Errors
/// If the law does not hold.
pub async fn an_author_never_verifies_its_own_work(s: Subject) -> Result<()> {
    let (run, claim) = s.verifying().await?;
    let own = s.claim(run, "verify", claim.lease.owner).await?;
    check(own.is_none(), "the author gets nothing")?;
    let other = s.claim(run, "verify", agent(2)).await?;
    let other = other.ok_or_else(|| Error::not_found("claim", "a"))?;
    let accept = Transition::Accept {
        evidence: Value::Null,
        lane: None,
    };
    s.journal
        .finish(&Subject::scope(), &other.lease, accept)
        .await?;
    let task = s.journal.task(claim.task.id).await?;
    check(
        task.status == Status::Completed,
        "another agent's word completes it",
    )
}

/// A correction begins a new round with feedback, in which steps act anew.
///
/// # Errors
/// If the law does not hold.
pub async fn a_correction_begins_a_new_round(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let intent = || Intent::new(StepKey::new("s", 0), effect(EffectClass::Pure, "x"));
    if let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent()).await? {
        let outcome = Outcome::new(Ok(json!(1)));
        s.journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await?;
    }
    let feedback = json!("try otherwise");
    let correct = Transition::Correct {
        feedback,
        failure: failure(Retry::Never),
        same_agent: false,
    };
    s.journal.finish(&scope, &claim.lease, correct).await?;
    check(
        s.claim(run, "work", claim.lease.owner).await?.is_none(),
        "another agent takes it",
    )?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(
        next.task.round == 1 && next.task.feedback == [json!("try otherwise")],
        "feedback",
    )?;
    let again = s.journal.intend(&scope, &next.lease, intent()).await?;
    check(matches!(again, Intended::Go(_)), "the step acts anew")
}

/// A delayed task becomes ready at its time and not before.
///
/// # Errors
/// If the law does not hold.
pub async fn a_retry_waits_for_its_time(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let at = claim.lease.until;
    let retry = Transition::Retry {
        failure: failure(Retry::Safe),
        at,
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, retry)
        .await?;
    check(
        s.claim(run, "work", agent(1)).await?.is_none(),
        "not before its time",
    )?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    check(
        s.claim(run, "work", agent(1)).await?.is_some(),
        "at its time",
    )
}

/// Opening the run of a subject again resumes it and takes its leases back; ending it lets the
/// next one start afresh.
///
/// # Errors
/// If the law does not hold.
pub async fn a_run_is_resumed_until_it_ends(s: Subject) -> Result<()> {
    let (run, _claim) = s.with_task().await?;
    let new = NewRun::new("subject", Digest::of_bytes(b"spec"), json!({ "n": 2 }));
    let again = s.journal.open_run(&Subject::scope(), new.clone()).await?;
    let same = again.id == run && again.is_resumed && again.meta == json!({ "n": 1 });
    check(same, "it is the same run with what it was opened with")?;
    check(
        s.claim(run, "work", agent(2)).await?.is_some(),
        "the lease was taken back",
    )?;
    s.journal.end_run(&Subject::scope(), run).await?;
    let fresh = s.journal.open_run(&Subject::scope(), new).await?;
    check(
        fresh.id != run && !fresh.is_resumed,
        "the next one is fresh",
    )
}

/// The counts equal the tasks, and the audit chain verifies.
///
/// # Errors
/// If the law does not hold.
pub async fn counts_and_chain_hold(s: Subject) -> Result<()> {
    let (run, claim) = s.verifying().await?;
    let counts = s.journal.counts(run).await?;
    check(
        counts.total() == 1 && counts.moving() == 1,
        "one task moves",
    )?;
    let other = s.claim(run, "verify", agent(2)).await?;
    let other = other.ok_or_else(|| Error::not_found("claim", "a"))?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.journal
        .finish(&Subject::scope(), &other.lease, end)
        .await?;
    let counts = s.journal.counts(run).await?;
    check(
        counts.of(Status::Failed) == 1 && counts.moving() == 0,
        "it ended",
    )?;
    let audit = s.journal.verify().await?;
    let records = s.journal.events(crate::EventQuery::after(0)).await?;
    check(
        u64::try_from(records.len()).is_ok_and(|n| n == audit.records),
        "all are in the chain",
    )?;
    check(
        records.last().is_some_and(|last| last.hash == audit.head),
        "the head is the last",
    )?;
    let of_task = crate::EventQuery::after(0).with_task(claim.task.id);
    check(
        s.journal.events(of_task).await?.len() >= 4,
        "a task's records are found",
    )
}
