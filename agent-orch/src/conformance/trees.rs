//! Laws of delegation trees: children, control, limits of a tree, deadlines.

use std::time::Duration;

use agent_core::{Retry, RunId, TaskId, Timestamp};
use serde_json::{Value, json};

use super::{Subject, agent, check, failure, is_conflict};
use crate::error::{Error, Result};
use crate::inbox::NewRequest;
use crate::journal::ClaimRequest;
use crate::stuck::Why;
use crate::task::{Claim, NewTask, Status, Transition};
use crate::tree::{Control, NewChild, Spawn, Target};

pub(super) const FAR: Timestamp = Timestamp::from_unix_ms(i64::MAX / 2);

pub(super) fn children(keys: &[&str]) -> Spawn {
    let child = |key: &&str| NewChild::new(NewTask::new(*key, "below", json!({ "of": key })), 0);
    Spawn::new(keys.iter().map(child).collect())
}

pub(super) const PARK: Transition = Transition::Park { failure: None };

impl Subject {
    pub(super) async fn take(&self, run: RunId, pool: &str, n: u128) -> Result<Claim> {
        let claim = self.claim(run, pool, agent(n)).await?;
        claim.ok_or_else(|| Error::not_found("claim", pool))
    }

    pub(super) async fn spawn(&self, claim: &Claim, keys: &[&str]) -> Result<Vec<TaskId>> {
        let (scope, spawn) = (Self::scope(), children(keys));
        self.journal.spawn(&scope, &claim.lease, spawn).await
    }

    pub(super) async fn finish(&self, claim: &Claim, transition: Transition) -> Result<()> {
        let scope = Self::scope();
        self.journal.finish(&scope, &claim.lease, transition).await
    }

    pub(super) async fn control(&self, id: TaskId, control: Control) -> Result<Vec<TaskId>> {
        let (scope, target) = (Self::scope(), Target::Task(id));
        Ok(self.journal.control(&scope, target, control).await?.changed)
    }

    pub(super) async fn status(&self, id: TaskId) -> Result<Status> {
        Ok(self.journal.task(id).await?.status)
    }

    /// Does a claimed task and has it verified.
    pub(super) async fn complete(&self, claim: &Claim, output: Value) -> Result<()> {
        let pool = "verify".to_owned();
        self.finish(claim, Transition::Verify { output, pool })
            .await?;
        let (run, verifier) = (claim.task.run, 99);
        let checked = self.take(run, "verify", verifier).await?;
        let (evidence, lane) = (Value::Null, None);
        self.finish(&checked, Transition::Accept { evidence, lane })
            .await
    }
}

/// A child is added once by its step, whoever makes the attempt; other work under its name drifts.
///
/// # Errors
/// If the law does not hold.
pub async fn a_child_is_added_once_by_its_step(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let first = s.spawn(&claim, &["a", "b"]).await?;
    s.finish(&claim, Transition::Release).await?;
    let next = s.take(run, "work", 2).await?;
    check(s.spawn(&next, &["a", "b"]).await? == first, "the same two")?;
    check(
        s.journal.counts(run).await?.total() == 3,
        "no more than two",
    )?;
    let a = s
        .journal
        .task(*first.first().unwrap_or(&claim.task.id))
        .await?;
    let placed = a.parent == Some(claim.task.id) && a.root == claim.task.id && a.depth == 1;
    check(placed, "a child knows its parent, root and depth")?;
    let other = NewChild::new(NewTask::new("a", "below", json!("other")), 0);
    let scope = Subject::scope();
    let drift = s
        .journal
        .spawn(&scope, &next.lease, Spawn::new(vec![other]));
    check(
        matches!(drift.await, Err(Error::Drift { .. })),
        "other work under the name drifts",
    )
}

/// Whoever lost the lease delegates nothing and waits for nothing.
///
/// # Errors
/// If the law does not hold.
pub async fn an_old_fence_delegates_nothing(s: Subject) -> Result<()> {
    let (run, old) = s.with_task().await?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    s.journal.sweep(&Subject::scope()).await?;
    s.take(run, "work", 2).await?;
    check(is_conflict(&s.spawn(&old, &["a"]).await), "no child")?;
    check(
        is_conflict(&s.journal.join(&old.lease, Vec::new()).await),
        "no waiting",
    )?;
    check(
        s.journal.counts(run).await?.total() == 1,
        "nothing was added",
    )
}

/// A tree is as deep and a task has as many children as the caller's limits say, and not more.
///
/// # Errors
/// If the law does not hold.
pub async fn a_tree_has_a_depth_and_a_width(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let mut narrow = children(&["a", "b"]);
    narrow.children_max = 1;
    let wide = s.journal.spawn(&scope, &claim.lease, narrow).await;
    check(
        matches!(wide, Err(Error::LimitReached { limit: 1, .. })),
        "width",
    )?;
    check(
        s.journal.counts(run).await?.total() == 1,
        "nothing was added",
    )?;
    s.spawn(&claim, &["1"]).await?;
    for (depth, agent) in [(2, 2), (3, 3)] {
        let claim = s.take(run, "below", agent).await?;
        let key = depth.to_string();
        s.spawn(&claim, &[&key]).await?;
    }
    let deepest = s.take(run, "below", 4).await?;
    check(deepest.task.depth == 3, "three delegations away")?;
    let deeper = s.spawn(&deepest, &["4"]).await;
    check(
        matches!(deeper, Err(Error::LimitReached { limit: 3, .. })),
        "depth",
    )
}

/// A task that waits for children goes on when the last of them ended, however it ended, and is
/// given how each ended; it does not wait for a child that ended before.
///
/// # Errors
/// If the law does not hold.
pub async fn a_parent_waits_for_its_children(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let ids = s.spawn(&claim, &["a", "b"]).await?;
    s.journal.join(&claim.lease, ids.clone()).await?;
    s.finish(&claim, PARK).await?;
    check(
        s.claim(run, "work", agent(2)).await?.is_none(),
        "it waits without being claimed",
    )?;
    let first = s.take(run, "below", 3).await?;
    s.complete(&first, json!("done")).await?;
    check(
        s.status(claim.task.id).await? == Status::Parked,
        "one is left",
    )?;
    let second = s.take(run, "below", 3).await?;
    let failed = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.finish(&second, failed).await?;
    let again = s.take(run, "work", 2).await?;
    let ends = s.journal.join(&again.lease, ids).await?;
    let statuses: Vec<Status> = ends.iter().map(|task| task.status).collect();
    check(
        statuses == [Status::Completed, Status::Failed],
        "it sees how they ended",
    )?;
    check(
        ends.first().and_then(|task| task.output.clone()) == Some(json!("done")),
        "and what they made",
    )?;
    s.finish(&again, PARK).await?;
    check(
        s.status(claim.task.id).await? == Status::Ready,
        "it does not wait for what has ended",
    )?;
    let stranger = s.journal.task(second.task.id).await?.id;
    let child = s.take(run, "work", 2).await?;
    let other = s.journal.join(&child.lease, vec![child.task.id, stranger]);
    check(
        matches!(other.await, Err(Error::NotFound { .. })),
        "only its own children",
    )
}

/// When a task hands its work over, begins anew or ends, its children are canceled with all they
/// delegated; detached ones go on.
///
/// # Errors
/// If the law does not hold.
pub async fn children_end_with_their_parent(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let (scope, correct) = (Subject::scope(), || Transition::Correct {
        feedback: Value::Null,
        failure: failure(Retry::Never),
        same_agent: true,
    });
    let verify = || Transition::Verify {
        output: Value::Null,
        pool: "verify".to_owned(),
    };
    let fail = || Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    for (n, end) in (0..).zip([verify(), correct(), fail()]) {
        let pool = format!("pool{n}");
        let task = NewTask::new(format!("parent{n}"), &pool, Value::Null);
        s.journal.submit(&scope, run, vec![task]).await?;
        let parent = s.take(run, &pool, 1).await?;
        let ids = s.spawn(&parent, &["a"]).await?;
        let child = s.take(run, "below", 2).await?;
        let below = s.spawn(&child, &["deeper"]).await?;
        let free = NewChild::new(NewTask::new("free", "free", Value::Null).detached(), 0);
        let spawn = Spawn::new(vec![free]);
        let free = s.journal.spawn(&scope, &parent.lease, spawn).await?;
        s.finish(&parent, end).await?;
        for id in ids.iter().chain(&below) {
            check(s.status(*id).await? == Status::Canceled, "it is canceled")?;
        }
        check(
            is_conflict(&s.journal.heartbeat(&child.lease).await),
            "and its holder can do nothing",
        )?;
        for id in free {
            check(s.status(id).await? == Status::Ready, "detached ones go on")?;
        }
    }
    Ok(())
}

/// A tree is tried again as often as its root allows, all tasks together; then a retry is refused
/// and changes nothing, and the holder ends the task otherwise.
///
/// # Errors
/// If the law does not hold.
pub async fn a_tree_is_retried_as_often_as_it_may(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let scope = Subject::scope();
    let root = NewTask::new("root", "work", Value::Null).with_tree_retries(2);
    s.journal.submit(&scope, run, vec![root]).await?;
    let retry = |claim: &Claim| Transition::Retry {
        failure: failure(Retry::Safe),
        at: claim.lease.until,
    };
    let parent = s.take(run, "work", 1).await?;
    s.spawn(&parent, &["a"]).await?;
    s.finish(&parent, retry(&parent)).await?;
    let child = s.take(run, "below", 2).await?;
    let correct = Transition::Correct {
        feedback: Value::Null,
        failure: failure(Retry::Never),
        same_agent: true,
    };
    s.finish(&child, correct).await?;
    let child = s.take(run, "below", 2).await?;
    let refused = s.finish(&child, retry(&child)).await;
    check(
        matches!(refused, Err(Error::RetriesExhausted { limit: 2, root, .. }) if root == parent.task.id),
        "the third is one too many for the tree",
    )?;
    check(
        s.journal.heartbeat(&child.lease).await.is_ok(),
        "nothing changed",
    )?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.finish(&child, end).await
}

/// A task past its deadline fails whatever its state, and its holder can do nothing more. Time in
/// which it waits does not count against its wall, and counts against its deadline.
///
/// # Errors
/// If the law does not hold.
pub async fn overdue_tasks_fail(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let hour = Duration::from_secs(3_600);
    let now = claim.lease.until;
    let tasks = vec![
        NewTask::new("held", "held", Value::Null).with_wall(hour),
        NewTask::new("asks", "asks", Value::Null).with_wall(hour),
        NewTask::new("asks too", "asks", Value::Null).with_deadline(now.after(hour)),
    ];
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id(run)).collect();
    s.journal.submit(&scope, run, tasks).await?;
    for _ in 0..2 {
        let asks = s.take(run, "asks", 2).await?;
        let ask = NewRequest::new(run, asks.task.id, "q", "?", &["yes"], FAR);
        s.journal.ask(&scope, ask).await?;
        s.finish(&asks, PARK).await?;
    }
    s.clock.advance(hour + Duration::from_secs(31));
    let held = s.take(run, "held", 3).await?;
    let stuck = s.journal.stuck(run).await?;
    let overdue = stuck.iter().filter(|one| one.why == Why::Overdue).count();
    check(overdue == 2, "two are overdue")?;
    check(
        s.journal.sweep(&scope).await?.reaped >= 2,
        "the sweep ends them",
    )?;
    check(s.journal.stuck(run).await?.is_empty(), "nothing is stuck")?;
    let mut found = Vec::new();
    for id in ids {
        found.push(s.status(id).await?);
    }
    check(
        found == [Status::Failed, Status::Parked, Status::Failed],
        "waiting counts against a deadline alone",
    )?;
    let failed = s.journal.task(held.task.id).await?.failure;
    check(
        failed.is_some_and(|failure| failure.code == "orch.deadline"),
        "it says why",
    )?;
    check(
        is_conflict(&s.journal.heartbeat(&held.lease).await),
        "its holder can do nothing",
    )
}

/// A task of a pool nobody runs is put to a person once, then it fails.
///
/// # Errors
/// If the law does not hold.
pub async fn tasks_without_a_pool_are_escalated_and_fail(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let scope = Subject::scope();
    let task = NewTask::new("a", "gone", Value::Null);
    let id = task.id(run);
    s.journal.submit(&scope, run, vec![task]).await?;
    let gone = || "gone".to_owned();
    check(
        s.journal.orphan(&scope, run, gone(), FAR).await? == 1,
        "there is one",
    )?;
    check(
        s.status(id).await? == Status::Parked,
        "it waits for a person",
    )?;
    let asked = s.journal.open_requests(run).await?;
    let request = asked
        .first()
        .ok_or_else(|| Error::not_found("request", "gone"))?;
    let by = agent_core::Principal::new("human:a")?;
    let answer = crate::inbox::Answer::new("retry", by);
    s.journal.answer(&scope, request.id, answer).await?;
    s.journal.orphan(&scope, run, gone(), FAR).await?;
    check(s.status(id).await? == Status::Failed, "once is enough")
}
