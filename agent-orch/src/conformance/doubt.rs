//! Laws of recorded steps: what is known is returned, what is not is in doubt.

use std::time::Duration;

use agent_core::{EffectClass, Retry};
use serde_json::json;

use super::subject::{Subject, agent, check, effect, failure};
use crate::error::{Error, Result};
use crate::journal::{ClaimRequest, Intended, Intent, Outcome, StepKey};
use crate::task::Transition;

/// A recorded step returns what it returned, also to the next holder; another effect under its
/// name drifts.
///
/// # Errors
/// If the law does not hold.
pub async fn a_recorded_step_returns_its_value(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let (scope, step) = (Subject::scope(), StepKey::new("s", 0));
    let intent = || Intent::new(step.clone(), effect(EffectClass::Opaque, "x"));
    let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent()).await? else {
        return check(false, "a fresh step goes ahead");
    };
    let outcome = Outcome::new(Ok(json!("value")));
    s.journal
        .settle(&scope, &claim.lease, &pass, outcome)
        .await?;
    s.journal
        .finish(&scope, &claim.lease, Transition::Release)
        .await?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    let again = s.journal.intend(&scope, &next.lease, intent()).await?;
    check(
        again == Intended::Recorded(json!("value")),
        "the value is returned",
    )?;
    let other = Intent::new(step, effect(EffectClass::Opaque, "y"));
    let drift = s.journal.intend(&scope, &next.lease, other).await;
    check(
        matches!(drift, Err(Error::Drift { .. })),
        "another effect drifts",
    )
}

/// After a crash a pure step goes on under its key, an opaque one is in doubt.
///
/// # Errors
/// If the law does not hold.
pub async fn a_crash_leaves_opaque_steps_in_doubt(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let mut keys = Vec::new();
    for class in [EffectClass::Pure, EffectClass::Opaque] {
        let intent = Intent::new(StepKey::new(format!("{class:?}"), 0), effect(class, "x"));
        if let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent).await? {
            keys.push(pass.key);
        }
    }
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    s.journal.sweep(&scope).await?;
    let next = s.claim(run, "work", agent(2)).await?;
    let next = next.ok_or_else(|| Error::not_found("claim", "a"))?;
    let pure = Intent::new(StepKey::new("Pure", 0), effect(EffectClass::Pure, "x"));
    let opaque = Intent::new(StepKey::new("Opaque", 0), effect(EffectClass::Opaque, "x"));
    let pure = s.journal.intend(&scope, &next.lease, pure).await?;
    let opaque = s.journal.intend(&scope, &next.lease, opaque).await?;
    let goes_on = matches!(&pure, Intended::Go(pass) if keys.first() == Some(&pass.key));
    check(goes_on, "the pure step goes on under its key")?;
    let in_doubt = matches!(&opaque, Intended::InDoubt(pass) if keys.get(1) == Some(&pass.key));
    check(in_doubt, "the opaque step is in doubt under its key")
}

/// A failed try may be tried again; one whose effect is unknown is in doubt unless repeatable.
///
/// # Errors
/// If the law does not hold.
pub async fn a_lost_answer_is_in_doubt(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    for (name, retry, again) in [
        ("failed", Retry::Safe, true),
        ("lost", Retry::Unknown, false),
    ] {
        let intent = || Intent::new(StepKey::new(name, 0), effect(EffectClass::Opaque, name));
        let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent()).await? else {
            return check(false, "a fresh step goes ahead");
        };
        let outcome = Outcome::new(Err(failure(retry)));
        s.journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await?;
        let next = s.journal.intend(&scope, &claim.lease, intent()).await?;
        check(matches!(next, Intended::Go(_)) == again, name)?;
    }
    Ok(())
}
