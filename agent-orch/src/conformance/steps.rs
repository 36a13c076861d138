//! Laws of steps whose intent is not recorded apart.

use agent_core::{EffectClass, Retry};
use serde_json::json;

use super::{Subject, agent, check, effect, failure, is_conflict};
use crate::audit::EventQuery;
use crate::error::{Error, Result};
use crate::journal::{ClaimRequest, Intended, Intent, Outcome, StepKey};
use crate::task::Transition;

fn pure(name: &str) -> Intent {
    Intent::new(StepKey::new(name, 0), effect(EffectClass::Pure, name))
}

/// A pure step is recorded by its outcome alone, in a record that says what was intended; failing,
/// it may be tried again.
///
/// # Errors
/// If the law does not hold.
pub async fn a_pure_step_is_recorded_by_its_outcome(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let (scope, lease) = (Subject::scope(), &claim.lease);
    let before = s.journal.verify().await?.records;
    let Intended::Go(pass) = s.journal.intend(&scope, lease, pure("p")).await? else {
        return check(false, "a fresh step goes ahead");
    };
    let failed = Outcome::new(Err(failure(Retry::Safe)));
    s.journal.settle(&scope, lease, &pass, failed).await?;
    let Intended::Go(again) = s.journal.intend(&scope, lease, pure("p")).await? else {
        return check(false, "a failed step goes ahead again");
    };
    check(
        again.n_try == 2 && again.key == pass.key,
        "the next try has the key",
    )?;
    let outcome = || Outcome::new(Ok(json!(1)));
    s.journal.settle(&scope, lease, &again, outcome()).await?;
    let recorded = s.journal.intend(&scope, lease, pure("p")).await?;
    check(
        recorded == Intended::Recorded(json!(1)),
        "its value is returned",
    )?;
    for pass in [&pass, &again] {
        let twice = s.journal.settle(&scope, lease, pass, outcome()).await;
        check(
            matches!(twice, Err(Error::NotFound { .. })),
            "an outcome is recorded once",
        )?;
    }
    let query = EventQuery::after(before).with_task(claim.task.id);
    let records = s.journal.events(query).await?;
    let kinds: Vec<&str> = records.iter().map(|r| r.kind.as_str()).collect();
    check(
        kinds == ["effect.failed", "effect.done"],
        "each try is one record",
    )?;
    let says = records
        .last()
        .and_then(|r| r.payload.as_ref())
        .is_some_and(|p| p.pointer("/effect/arguments/what") == Some(&json!("p")));
    check(says, "the record says what was intended")
}

/// The outcome of a pure step is refused once its lease is over, and the next holder acts anew.
///
/// # Errors
/// If the law does not hold.
pub async fn a_late_pure_outcome_is_refused(s: Subject) -> Result<()> {
    let (run, old) = s.with_task().await?;
    let scope = Subject::scope();
    let Intended::Go(pass) = s.journal.intend(&scope, &old.lease, pure("p")).await? else {
        return check(false, "a fresh step goes ahead");
    };
    s.clock.advance(ClaimRequest::LEASE_DEFAULT * 2);
    s.journal.sweep(&scope).await?;
    let new = s.claim(run, "work", agent(2)).await?;
    let new = new.ok_or_else(|| Error::not_found("claim", "a"))?;
    let outcome = || Outcome::new(Ok(json!("late")));
    let late = s.journal.settle(&scope, &old.lease, &pass, outcome()).await;
    check(is_conflict(&late), "a late outcome is refused")?;
    let again = s.journal.intend(&scope, &new.lease, pure("p")).await?;
    let Intended::Go(again) = again else {
        return check(false, "the next holder acts");
    };
    check(again.key == pass.key, "under the same key")?;
    s.journal
        .finish(&scope, &new.lease, Transition::Release)
        .await?;
    let ended = s
        .journal
        .settle(&scope, &new.lease, &again, outcome())
        .await;
    check(
        is_conflict(&ended),
        "nothing is recorded after the end of a lease",
    )
}
