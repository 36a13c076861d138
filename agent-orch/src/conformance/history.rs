//! Laws of history: records fold to what is, forks go on from what was, and everything ends.

mod walk;

use std::collections::BTreeMap;

use agent_core::Principal;
use agent_core::{Classify, EffectClass, ErrorKind, IdempotencyKey};
use serde_json::{Value, json};

use super::trees::FAR;
use super::{Subject, check, effect};
use crate::error::{Error, Result};
use crate::inbox::{Answer, NewRequest};
use crate::journal::{Counts, Intended, Intent, NewRun, Outcome, Run, StepKey};
use crate::task::{Claim, NewTask, Status};
use crate::tree::{Control, Target};
use walk::{HOUR, Walk};

/// How many operations a walk makes: enough for every pair of them.
const STEPS: u32 = 400;

/// Refusals are part of the walk; broken stores and promises are not.
fn is_bug(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt)
}

/// What the records of a task say it is, or was after any record, is what it is or was; counts
/// are those of the tasks.
///
/// # Errors
/// If the law does not hold.
pub async fn records_fold_to_what_is(s: Subject) -> Result<()> {
    let walk = Walk::make(&s).await?;
    let last = s.journal.verify().await?.records;
    let mut counts = BTreeMap::new();
    for id in &walk.tasks {
        let is = match s.journal.task(*id).await {
            Err(Error::NotFound { .. }) => continue,
            found => found?,
        };
        let folded = s.journal.task_at(*id, last).await?;
        check(folded == is, &format!("{folded:?} is {is:?}"))?;
        *counts.entry((is.stage, is.status)).or_insert(0) += 1;
    }
    for (at, was) in &walk.seen {
        let mut folded = s.journal.task_at(was.id, *at).await?;
        folded.priority = was.priority;
        check(folded == *was, &format!("{folded:?} was {was:?}"))?;
    }
    check(!walk.seen.is_empty(), "something was seen")?;
    let counted = s.journal.counts(walk.run).await?;
    check(
        counted == Counts(counts),
        "the counts are those of the tasks",
    )
}

/// Whatever was done, once nobody works any more every task comes to an end by time alone, and
/// after each sweep nothing is stuck.
///
/// # Errors
/// If the law does not hold.
pub async fn everything_ends(s: Subject) -> Result<()> {
    let walk = Walk::make(&s).await?;
    let (scope, target) = (Subject::scope(), Target::Run(walk.run));
    s.journal.control(&scope, target, Control::Resume).await?;
    for _ in 0..12 {
        s.clock.advance(HOUR);
        s.journal.sweep(&scope).await?;
        check(
            s.journal.stuck(walk.run).await?.is_empty(),
            "nothing is stuck",
        )?;
    }
    let counts = s.journal.counts(walk.run).await?;
    let open: Vec<_> = counts
        .0
        .iter()
        .filter(|((_, s), n)| !s.is_terminal() && **n > 0)
        .collect();
    check(open.is_empty(), &format!("{open:?} have not ended"))?;
    check(
        s.journal.open_requests(walk.run).await?.is_empty(),
        "nobody is asked",
    )
}

/// Makes a task with a done step, a step in doubt and an answered question; then forks, and
/// finishes both steps in the origin.
async fn forked(s: &Subject) -> Result<(Claim, IdempotencyKey, Run)> {
    let (run, claim) = s.with_task().await?;
    let (scope, lease) = (Subject::scope(), &claim.lease);
    let Intended::Go(done) = s.journal.intend(&scope, lease, opaque("done")).await? else {
        return Err(Error::not_found("pass", "done"));
    };
    let value = Outcome::new(Ok(json!("value")));
    s.journal.settle(&scope, lease, &done, value).await?;
    let ask = |run, task| NewRequest::new(run, task, "q", "?", &["yes", "no"], FAR);
    let asked = s.journal.ask(&scope, ask(run, claim.task.id)).await?;
    let answer = Answer::new("yes", Principal::new("human:a")?);
    s.journal.answer(&scope, asked.id, answer).await?;
    let Intended::Go(doubt) = s.journal.intend(&scope, lease, opaque("doubt")).await? else {
        return Err(Error::not_found("pass", "doubt"));
    };
    let at = s.journal.verify().await?.records;
    let later = Outcome::new(Ok(json!("later")));
    s.journal.settle(&scope, lease, &doubt, later).await?;
    let fork = s.journal.fork(&scope, run, at, "fork".to_owned()).await?;
    check(
        fork.forked_from == Some(run) && fork.forked_at == Some(at),
        "the fork knows its origin",
    )?;
    Ok((claim, doubt.key, fork))
}

fn opaque(name: &str) -> Intent {
    Intent::new(StepKey::new(name, 0), effect(EffectClass::Opaque, name))
}

/// A fork goes on from what was after a record: done steps return what they returned, steps in
/// doubt are in doubt under the key the other side knows, later ones are not known; answers stand.
/// Its origin stays as it is, and a fork of the fork knows the same.
///
/// # Errors
/// If the law does not hold.
pub async fn a_fork_acts_nothing_again(s: Subject) -> Result<()> {
    let (origin, key, fork) = forked(&s).await?;
    let scope = Subject::scope();
    let before = s.journal.task(origin.task.id).await?;
    let at = s.journal.verify().await?.records;
    let second = s.journal.fork(&scope, fork.id, at, "second".to_owned());
    for run in [fork.id, second.await?.id] {
        let claim = s.take(run, "work", 7).await?;
        let lease = &claim.lease;
        let done = s.journal.intend(&scope, lease, opaque("done")).await?;
        check(done == Intended::Recorded(json!("value")), "done is done")?;
        let doubt = s.journal.intend(&scope, lease, opaque("doubt")).await?;
        let same = matches!(&doubt, Intended::InDoubt(pass) if pass.key == key);
        check(same, "in doubt under the known key")?;
        let fresh = s.journal.intend(&scope, lease, opaque("fresh")).await?;
        check(
            matches!(fresh, Intended::Go(_)),
            "what came later is not known",
        )?;
        let ask = NewRequest::new(run, claim.task.id, "q", "?", &["yes", "no"], FAR);
        let asked = s.journal.ask(&scope, ask).await?;
        check(
            asked.answer.is_some_and(|a| a.choice == "yes"),
            "the answer stands",
        )?;
    }
    check(
        s.journal.task(origin.task.id).await? == before,
        "the origin is as it was",
    )?;
    check(
        s.journal.heartbeat(&origin.lease).await.is_ok(),
        "and goes on",
    )?;
    s.journal.verify().await?;
    Ok(())
}

/// A fork begins after a record that is there, under a subject no unfinished run has; tasks that
/// were submitted later are not in it.
///
/// # Errors
/// If the law does not hold.
pub async fn a_fork_knows_nothing_of_later(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let at = s.journal.verify().await?.records;
    let late = NewTask::new("late", "work", Value::Null);
    let late_id = late.id(run);
    s.journal.submit(&scope, run, vec![late]).await?;
    let was = s.journal.task_at(late_id, at).await;
    check(
        matches!(was, Err(Error::NotFound { .. })),
        "it was not there",
    )?;
    for (at, subject) in [(0, "f"), (at + 100, "f"), (at, "subject")] {
        let wrong = s.journal.fork(&scope, run, at, subject.to_owned()).await;
        check(matches!(wrong, Err(Error::Invalid { .. })), subject)?;
    }
    let fork = s.journal.fork(&scope, run, at, "f".to_owned()).await?;
    check(
        s.journal.counts(fork.id).await?.total() == 1,
        "one was there",
    )?;
    let new = NewRun::new("f", fork.spec, Value::Null);
    let again = s.journal.open_run(&scope, new).await?;
    check(
        again.id == fork.id && again.is_resumed,
        "it is opened like any run",
    )?;
    check(again.forked_from == Some(run), "and knows its origin")?;
    let fence = claim.lease.fence;
    let own = s.take(fork.id, "work", 7).await?;
    check(
        own.task.key == claim.task.key && own.lease.fence >= fence,
        "and is worked on",
    )?;
    let first = s.journal.task_at(claim.task.id, at).await?;
    check(first.status == Status::Leased, "history stands")
}
