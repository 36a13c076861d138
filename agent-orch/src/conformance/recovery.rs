//! Laws of falling back and of undoing.

use std::collections::BTreeMap;

use agent_core::{EffectClass, Retry};
use serde_json::{Value, json};

use super::{Subject, agent, check, effect, failure};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::task::{Alternative, Claim, Stage, Status, Transition};
use crate::undo::NewUndo;

/// Does a step that has an undo action, and leaves it in the state the outcome says.
async fn saga_step(
    s: &Subject,
    claim: &Claim,
    name: &str,
    outcome: Option<Outcome>,
    on_end: bool,
) -> Result<()> {
    let (scope, lease) = (Subject::scope(), &claim.lease);
    let undo = NewUndo {
        on_end,
        ..NewUndo::new(effect(EffectClass::Idempotent, &format!("undo {name}")))
    };
    let intent = Intent::new(StepKey::new(name, 0), effect(EffectClass::Pure, name));
    let intent = intent.with_undo(undo);
    let Intended::Go(pass) = s.journal.intend(&scope, lease, intent).await? else {
        return check(false, "a fresh step goes ahead");
    };
    match outcome {
        Some(outcome) => s.journal.settle(&scope, lease, &pass, outcome).await,
        None => Ok(()),
    }
}

/// A task that would end without success goes where its steps are undone, the latest first, without
/// those that failed; then it ends as it was to end.
///
/// # Errors
/// If the law does not hold.
pub async fn a_task_undoes_its_steps_before_it_ends(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let done = |n| Some(Outcome::new(Ok(json!(n))));
    let failed = Some(Outcome::new(Err(failure(Retry::Safe))));
    saga_step(&s, &claim, "first", done(1), true).await?;
    saga_step(&s, &claim, "failed", failed, true).await?;
    saga_step(&s, &claim, "second", done(2), true).await?;
    saga_step(&s, &claim, "in doubt", None, true).await?;
    let scope = Subject::scope();
    let end = Transition::End {
        status: Status::Canceled,
        failure: failure(Retry::Never),
    };
    s.journal.finish(&scope, &claim.lease, end).await?;
    let undos = s.journal.undos(claim.task.id).await?;
    let names: Vec<&str> = undos.iter().map(|undo| undo.step.name.as_str()).collect();
    check(names == ["in doubt", "second", "first"], "the latest first")?;
    let results: Vec<Option<Value>> = undos.into_iter().map(|undo| undo.result).collect();
    let expected = [None, Some(json!(2)), Some(json!(1))];
    check(results == expected, "with what is known of them")?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(next.lease.stage == Stage::Undo, "it is to be undone")?;
    let undone = Transition::Undone { undone: 3, left: 0 };
    s.journal.finish(&scope, &next.lease, undone).await?;
    let task = s.journal.task(claim.task.id).await?;
    check(task.status == Status::Canceled, "it ends as it was to end")
}

/// Undo actions that only a ladder may call for do not keep a task from ending; a ladder's word
/// runs them, and without any the task ends at once.
///
/// # Errors
/// If the law does not hold.
pub async fn only_a_ladder_runs_what_waits_for_its_word(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let done = Some(Outcome::new(Ok(json!(1))));
    saga_step(&s, &claim, "first", done, false).await?;
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.journal.finish(&scope, &claim.lease, end).await?;
    let task = s.journal.task(claim.task.id).await?;
    check(task.status == Status::Failed, "an end ends it")?;
    let tasks = ["b", "c"].map(|key| crate::NewTask::new(key, "work", Value::Null));
    s.journal.submit(&scope, task.run, tasks.to_vec()).await?;
    for (with_step, stage) in [(true, Stage::Undo), (false, Stage::Work)] {
        let claim = s.claim(task.run, "work", agent(1)).await?;
        let claim = claim.ok_or_else(|| Error::not_found("claim", "b"))?;
        if with_step {
            let done = Some(Outcome::new(Ok(json!(1))));
            saga_step(&s, &claim, "first", done, false).await?;
        }
        let failure = failure(Retry::Never);
        let unwind = Transition::Unwind { failure };
        s.journal.finish(&scope, &claim.lease, unwind).await?;
        let task = s.journal.task(claim.task.id).await?;
        check(task.stage == stage, "the word runs what there is")?;
        check(task.status.is_terminal() != with_step, "or ends it")?;
        if with_step {
            let undo = s.claim(task.run, "work", agent(1)).await?;
            let undo = undo.ok_or_else(|| Error::not_found("claim", "b"))?;
            let undone = Transition::Undone { undone: 1, left: 0 };
            s.journal.finish(&scope, &undo.lease, undone).await?;
        }
    }
    Ok(())
}

/// What a task fell back on is kept, and all its failures are counted.
///
/// # Errors
/// If the law does not hold.
pub async fn what_was_fallen_back_on_is_kept(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let choices = BTreeMap::from([("model".to_owned(), "b".to_owned())]);
    let fall_back = |to| Transition::FallBack {
        feedback: Value::Null,
        failure: failure(Retry::Safe),
        to,
    };
    let next = fall_back(Alternative::Choices(choices.clone()));
    s.journal.finish(&scope, &claim.lease, next).await?;
    let again = s.claim(run, "work", agent(2)).await?;
    let again = again.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(again.task.choices == choices, "the choices")?;
    check(again.lease.round == 0, "in the same round")?;
    let next = fall_back(Alternative::Pool("other".to_owned()));
    s.journal.finish(&scope, &again.lease, next).await?;
    check(s.claim(run, "work", agent(2)).await?.is_none(), "it left")?;
    let other = s.claim(run, "other", agent(3)).await?;
    let other = other.ok_or_else(|| Error::not_found("claim", "a"))?;
    check(other.task.home == "other", "the pool is its home")?;
    check(
        other.task.retries == 2 && other.task.failures.is_empty(),
        "it begins with clean counts, and all failures are known",
    )
}

/// An idempotent step in doubt stays in doubt when repeating it fails, so that it is undone: the
/// failure says nothing about the try before.
///
/// # Errors
/// If the law does not hold.
pub async fn a_failed_repeat_leaves_a_step_in_doubt(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let (scope, lease) = (Subject::scope(), &claim.lease);
    for (n, retry) in (0..).zip([Retry::Unknown, Retry::Safe, Retry::Safe]) {
        let undo = NewUndo::new(effect(EffectClass::Idempotent, "undo"));
        let act = effect(EffectClass::Idempotent, "act");
        let intent = Intent::new(StepKey::new("act", 0), act).with_undo(undo);
        let Intended::Go(pass) = s.journal.intend(&scope, lease, intent).await? else {
            return check(false, "it is repeated");
        };
        check(
            pass.n_try == 1,
            &format!("under the key of its first try, {n}"),
        )?;
        let outcome = Outcome::new(Err(failure(retry)));
        s.journal.settle(&scope, lease, &pass, outcome).await?;
    }
    let undos = s.journal.undos(claim.task.id).await?;
    check(undos.len() == 1, "it is to be undone")
}
