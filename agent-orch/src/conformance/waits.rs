//! The laws of waiting.

use std::time::Duration;

use agent_core::{Classify, ErrorKind, Failure, IdempotencyKey, Principal, RunId, Timestamp};
use serde_json::{Value, json};

use super::{Subject, agent, check, failure, is_conflict};
use crate::error::{Error, Result};
use crate::journal::StepKey;
use crate::task::{Claim, Lease, Status, Transition};
use crate::wait::{First, Happened, NewWait, Resolution, Signal, Source, Wait, WaitId};

const SECOND: Duration = Duration::from_secs(1);

impl Subject {
    async fn look(&self, lease: &Lease, name: &str, sources: Vec<Source>) -> Result<Wait> {
        let wait = NewWait::new(StepKey::new(name, 0), sources);
        self.journal.wait(&Self::scope(), lease, wait).await
    }

    async fn park(&self, claim: &Claim) -> Result<Status> {
        let park = Transition::Park { failure: None };
        self.journal
            .finish(&Self::scope(), &claim.lease, park)
            .await?;
        Ok(self.journal.task(claim.task.id).await?.status)
    }

    async fn again(&self, run: RunId) -> Result<Claim> {
        let claim = self.claim(run, "work", agent(2)).await?;
        claim.ok_or_else(|| Error::not_found("claim", "after a wake-up"))
    }

    async fn send(&self, claim: &Claim, name: &str, n: u32) -> Result<bool> {
        let key = IdempotencyKey::new(format!("{name}-{n}"))?;
        let signal = Signal::new(name, json!(n), key);
        self.journal
            .signal(&Self::scope(), claim.task.id, signal)
            .await
    }

    async fn resolve(&self, id: WaitId, result: Result<Value, Failure>) -> Result<Wait> {
        let resolution = Resolution::new(result, Principal::new("human:a")?);
        self.journal.resolve(&Self::scope(), id, resolution).await
    }
}

fn awakeable(due: Timestamp) -> Vec<Source> {
    vec![Source::Answer, Source::due(due)]
}

fn carried(wait: &Wait) -> Option<&Value> {
    match &wait.first.as_ref()?.happened {
        Happened::Signal { payload: value, .. } | Happened::Resolved { value, .. } => Some(value),
        _ => None,
    }
}

fn is_due(wait: &Wait) -> bool {
    matches!(
        &wait.first,
        Some(First {
            happened: Happened::Due,
            ..
        })
    )
}

/// A timer wakes its task once, at the moment the first look fixed.
///
/// # Errors
/// If the law does not hold.
pub async fn a_timer_fires_once_at_its_moment(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let sleep = || vec![Source::due(10 * SECOND)];
    let wait = s.look(&claim.lease, "sleep", sleep()).await?;
    check(wait.first.is_none(), "it is not due yet")?;
    check(s.park(&claim).await? == Status::Parked, "the task parks")?;
    let next = s.journal.next_due(&Subject::scope()).await?;
    check(
        next.is_some() && next == wait.due(),
        "it is known when it is due",
    )?;
    s.clock.advance(9 * SECOND);
    check(
        s.journal.sweep(&Subject::scope()).await?.waits == 0,
        "nothing happens before",
    )?;
    s.clock.advance(SECOND);
    check(
        s.journal.sweep(&Subject::scope()).await?.waits == 1,
        "it fires at its moment",
    )?;
    let swept = s.journal.sweep(&Subject::scope()).await?;
    let next = s.journal.next_due(&Subject::scope()).await?;
    check(swept.waits == 0 && next > wait.due(), "it fires once")?;
    let claim = s.again(run).await?;
    check(
        is_due(&s.look(&claim.lease, "sleep", sleep()).await?),
        "the step returns",
    )?;
    check(
        s.park(&claim).await? == Status::Ready,
        "nothing is left to wait for",
    )
}

/// A wait looked at again keeps the moment the first look fixed; waiting for something else under
/// its name drifts.
///
/// # Errors
/// If the law does not hold.
pub async fn a_wait_keeps_its_moment(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let first = s.look(&claim.lease, "w", vec![Source::due(SECOND)]).await?;
    s.clock.advance(SECOND / 2);
    let later = s.look(&claim.lease, "w", vec![Source::due(SECOND)]).await?;
    check(first.due() == later.due(), "the moment stays")?;
    let other = s.look(&claim.lease, "w", vec![Source::signal("x")]).await;
    check(
        matches!(other, Err(Error::Drift { .. })),
        "waiting for something else drifts",
    )
}

/// A signal sent before anybody waits is kept; signals come in the order they were sent, each once.
///
/// # Errors
/// If the law does not hold.
pub async fn signals_are_kept_in_order(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    for n in 1..=3 {
        check(s.send(&claim, "go", n).await?, "each key is a signal")?;
    }
    check(!s.send(&claim, "go", 2).await?, "the same key is the same")?;
    let go = || vec![Source::signal("go")];
    for (name, n) in [("a", 1), ("b", 2)] {
        let wait = s.look(&claim.lease, name, go()).await?;
        check(carried(&wait) == Some(&json!(n)), "in order")?;
    }
    s.journal
        .finish(&Subject::scope(), &claim.lease, Transition::Release)
        .await?;
    let claim = s.again(run).await?;
    for (name, n) in [("b", 2), ("c", 3), ("a", 1)] {
        let wait = s.look(&claim.lease, name, go()).await?;
        check(
            carried(&wait) == Some(&json!(n)),
            "a step that took one returns it again",
        )?;
    }
    let none = s.look(&claim.lease, "d", go()).await?;
    check(none.first.is_none(), "each is taken once")
}

/// No wake-up is lost between looking and parking.
///
/// # Errors
/// If the law does not hold.
pub async fn no_wake_up_is_lost_before_parking(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    s.look(&claim.lease, "w", vec![Source::signal("go")])
        .await?;
    s.send(&claim, "go", 1).await?;
    check(
        s.park(&claim).await? == Status::Ready,
        "a signal before parking keeps it ready",
    )?;
    let claim = s.again(run).await?;
    s.look(&claim.lease, "later", vec![Source::signal("go")])
        .await?;
    check(s.park(&claim).await? == Status::Parked, "it parks")?;
    s.send(&claim, "other", 1).await?;
    let status = s.journal.task(claim.task.id).await?.status;
    check(status == Status::Parked, "another signal does not wake it")?;
    s.send(&claim, "go", 2).await?;
    let status = s.journal.task(claim.task.id).await?.status;
    check(status == Status::Ready, "its signal does")
}

/// A key stands for one signal, a task that has ended takes none, and unread ones are bounded.
///
/// # Errors
/// If the law does not hold.
pub async fn wrong_signals_are_refused(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let key = IdempotencyKey::new("k")?;
    let send = |name: &str, payload: Value, key: &IdempotencyKey| {
        let signal = Signal::new(name, payload, key.clone());
        let (journal, task) = (std::sync::Arc::clone(&s.journal), claim.task.id);
        async move { journal.signal(&Subject::scope(), task, signal).await }
    };
    send("a", json!(1), &key).await?;
    check(
        is_conflict(&send("a", json!(2), &key).await),
        "a key stands for one payload",
    )?;
    let large = json!("x".repeat(Signal::PAYLOAD_BYTES_MAX));
    let refused = send("a", large, &IdempotencyKey::new("large")?).await;
    check(
        matches!(refused, Err(Error::Invalid { .. })),
        "a payload is bounded",
    )?;
    for n in 1..Signal::UNREAD_MAX {
        send("a", json!(n), &IdempotencyKey::new(format!("k{n}"))?).await?;
    }
    let full = send("a", json!(0), &IdempotencyKey::new("full")?).await;
    check(
        full.is_err_and(|e| e.kind() == ErrorKind::Exhausted),
        "unread ones are bounded",
    )?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(agent_core::Retry::Never),
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, end)
        .await?;
    check(
        is_conflict(&send("a", json!(1), &key).await),
        "an ended task takes none",
    )
}

/// Awakeables answered in another order than they were made each get their own answer.
///
/// # Errors
/// If the law does not hold.
pub async fn awakeables_are_never_mixed_up(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let due = claim.lease.until.after(3_600 * SECOND);
    let first = s.look(&claim.lease, "first", awakeable(due)).await?;
    let second = s.look(&claim.lease, "second", awakeable(due)).await?;
    check(first.id != second.id, "each has its own id")?;
    check(s.park(&claim).await? == Status::Parked, "the task parks")?;
    s.resolve(second.id, Ok(json!("for second"))).await?;
    let claim = s.again(run).await?;
    let looked = s.look(&claim.lease, "first", awakeable(due)).await?;
    check(
        looked.id == first.id && looked.first.is_none(),
        "the first waits on",
    )?;
    check(
        s.park(&claim).await? == Status::Parked,
        "the task parks again",
    )?;
    s.resolve(first.id, Err(failure(agent_core::Retry::Never)))
        .await?;
    let claim = s.again(run).await?;
    let first = s.look(&claim.lease, "first", awakeable(due)).await?;
    let second = s.look(&claim.lease, "second", awakeable(due)).await?;
    check(
        carried(&second) == Some(&json!("for second")),
        "the second has its value",
    )?;
    let happened = first.first.map(|first| first.happened.into_answer());
    check(
        happened == Some(Err(failure(agent_core::Retry::Never))),
        "the first has its failure",
    )
}

/// An awakeable takes one answer; giving the same again changes nothing.
///
/// # Errors
/// If the law does not hold.
pub async fn an_awakeable_is_answered_once(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let due = claim.lease.until;
    let id = s.look(&claim.lease, "a", awakeable(due)).await?.id;
    s.resolve(id, Ok(json!(1))).await?;
    s.resolve(id, Ok(json!(1))).await?;
    check(
        is_conflict(&s.resolve(id, Ok(json!(2))).await),
        "another answer is refused",
    )?;
    let timer = s.look(&claim.lease, "t", vec![Source::due(due)]).await?;
    let refused = s.resolve(timer.id, Ok(json!(1))).await;
    check(
        matches!(refused, Err(Error::NotFound { .. })),
        "a timer is no awakeable",
    )?;
    let of_task = crate::EventQuery::after(0).with_task(claim.task.id);
    let records = s.journal.events(of_task).await?;
    let resolved: Vec<_> = records
        .iter()
        .filter(|r| r.kind == "wait.resolved")
        .collect();
    check(
        resolved.len() == 1 && resolved.iter().all(|r| r.actor.as_str() == "human:a"),
        "one record says who answered",
    )
}

/// At its deadline an awakeable fails with `TimedOut` as a value, and later answers are refused.
///
/// # Errors
/// If the law does not hold.
pub async fn an_awakeable_times_out(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let due = claim.lease.until.after(SECOND);
    let id = s.look(&claim.lease, "a", awakeable(due)).await?.id;
    check(s.park(&claim).await? == Status::Parked, "the task parks")?;
    s.clock.advance(3_600 * SECOND);
    check(
        is_conflict(&s.resolve(id, Ok(json!(1))).await),
        "too late, even before the sweep",
    )?;
    s.journal.sweep(&Subject::scope()).await?;
    let claim = s.again(run).await?;
    let wait = s.look(&claim.lease, "a", awakeable(due)).await?;
    let failure = wait
        .first
        .and_then(|first| first.happened.into_answer().err());
    check(
        failure.is_some_and(|f| f.kind == ErrorKind::TimedOut),
        "the agent sees it",
    )
}

/// Of several sources the one that happened first in the store's time ends a wait, whoever looks
/// and whenever, and it stays the one.
///
/// # Errors
/// If the law does not hold.
pub async fn the_first_of_several_ends_a_wait(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let due = claim.lease.until;
    let id = s
        .look(&claim.lease, "a", awakeable(due.after(SECOND)))
        .await?
        .id;
    let sources = || {
        vec![
            Source::due(due),
            Source::signal("go"),
            Source::Awakeable(id),
        ]
    };
    let ends = |wait: Wait| wait.first.map(|first| first.source);
    s.look(&claim.lease, "first", sources()).await?;
    s.look(
        &claim.lease,
        "late",
        vec![Source::signal("go"), Source::due(due)],
    )
    .await?;
    check(s.park(&claim).await? == Status::Parked, "the task parks")?;
    s.clock.advance(SECOND);
    s.resolve(id, Ok(json!("answer"))).await?;
    s.clock.advance(3_600 * SECOND);
    s.send(&claim, "go", 1).await?;
    let claim = s.again(run).await?;
    let first = s.look(&claim.lease, "first", sources()).await?;
    check(
        carried(&first) == Some(&json!("answer")) && ends(first) == Some(2),
        "the answer came first",
    )?;
    let late = vec![Source::signal("go"), Source::due(due)];
    let late = s.look(&claim.lease, "late", late).await?;
    check(ends(late) == Some(1), "a signal after the deadline is late")?;
    let unread = s
        .look(&claim.lease, "unread", vec![Source::signal("go")])
        .await?;
    check(carried(&unread) == Some(&json!(1)), "and stays unread")?;
    let again = s.look(&claim.lease, "first", sources()).await?;
    check(ends(again) == Some(2), "the winner stays")
}

/// The waits of a round, a stage or a task that is over are closed.
///
/// # Errors
/// If the law does not hold.
pub async fn waits_end_with_their_round(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let due = claim.lease.until.after(3_600 * SECOND);
    let id = s.look(&claim.lease, "a", awakeable(due)).await?.id;
    check(s.journal.open_waits(run).await?.len() == 1, "it is listed")?;
    let correct = Transition::Correct {
        feedback: Value::Null,
        failure: failure(agent_core::Retry::Never),
        same_agent: true,
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, correct)
        .await?;
    check(s.journal.open_waits(run).await?.is_empty(), "it is closed")?;
    check(
        is_conflict(&s.resolve(id, Ok(json!(1))).await),
        "and takes no answer",
    )?;
    let claim = s.again(run).await?;
    let other = s.look(&claim.lease, "a", awakeable(due)).await?;
    check(other.id != id, "the next round has its own")
}
