//! The laws of steps that drift.

use agent_core::{Classify, Digest, EffectClass, ErrorKind, IdempotencyKey, RunId};
use serde_json::{Value, json};

use super::{Subject, agent, check, effect};
use crate::drift::{Drifted, Migration};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::task::{Claim, Lease, Transition};
use crate::undo::NewUndo;
use crate::wait::{Happened, NewWait, Signal, Source};

/// A done step that drifted keeps the value it is given or is done again under its own key, and says
/// which configuration recorded it; one that is not done is left alone.
///
/// # Errors
/// If the law does not hold.
pub async fn a_drifted_step_is_migrated_once_it_is_done(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let intent = |name: &str, what: &str| {
        Intent::new(StepKey::new(name, 0), effect(EffectClass::Opaque, what))
    };
    let mut keys = Vec::new();
    for name in ["keep", "redo", "open"] {
        let intended = s.journal.intend(&scope, &claim.lease, intent(name, "old"));
        let Intended::Go(pass) = intended.await? else {
            return check(false, "a fresh step goes ahead");
        };
        keys.push(pass.key.clone());
        if name != "open" {
            let outcome = Outcome::new(Ok(json!("old")));
            s.journal
                .settle(&scope, &claim.lease, &pass, outcome)
                .await?;
        }
    }
    s.journal
        .finish(&scope, &claim.lease, Transition::Release)
        .await?;
    let next = s.claim(run, "work", agent(2)).await?;
    let lease = next.ok_or_else(|| Error::not_found("claim", "a"))?.lease;
    let open = s.journal.recorded(&lease, StepKey::new("open", 0)).await?;
    check(open.is_none(), "a step that is not done is not migrated")?;
    for (name, migration) in [
        ("keep", Migration::Keep(json!("kept"))),
        ("redo", Migration::Redo),
    ] {
        let new = intent(name, "new");
        let drift = s.journal.intend(&scope, &lease, new.clone()).await;
        check(matches!(drift, Err(Error::Drift { .. })), "it drifts")?;
        let recorded = s.journal.recorded(&lease, new.step.clone()).await?;
        let recorded = recorded.ok_or_else(|| Error::not_found("step", name))?;
        let is_told =
            recorded.value == json!("old") && recorded.spec == Some(Digest::of_bytes(b"spec"));
        check(is_told, "what was recorded, and by whom")?;
        let drifted = Drifted::new(
            lease.clone(),
            new.step.clone(),
            new.effect.clone(),
            recorded,
        );
        s.journal
            .migrate(&scope, drifted.clone(), migration.clone())
            .await?;
        let again = s.journal.migrate(&scope, drifted, migration).await;
        check(again.is_err(), "it is migrated once")?;
        match s.journal.intend(&scope, &lease, new).await? {
            Intended::Recorded(value) => {
                check(
                    name == "keep" && value == json!("kept"),
                    "the value is kept",
                )?;
            }
            Intended::Go(pass) => {
                check(name == "redo", "the other goes ahead")?;
                check(!keys.contains(&pass.key), "under another key")?;
            }
            Intended::InDoubt(_) => return check(false, "nothing is in doubt"),
        }
    }
    how_migrated(&s, &lease).await
}

/// Checks what the audit record says of both.
async fn how_migrated(s: &Subject, lease: &Lease) -> Result<()> {
    let of_task = crate::EventQuery::after(0).with_task(lease.task);
    let records = s.journal.events(of_task).await?;
    let how = |r: &crate::Record| r.payload.as_ref().and_then(|p| p.get("how").cloned());
    let migrated: Vec<Option<Value>> = records
        .iter()
        .filter(|r| r.kind == "step.migrated")
        .map(how)
        .collect();
    check(
        migrated == [Some(json!("keep")), Some(json!("redo"))],
        "both are recorded",
    )
}

/// A step of the law below, as code of one version makes it.
fn intent_of(name: &str, what: &str) -> Intent {
    let undo = NewUndo::new(effect(EffectClass::Idempotent, &format!("undo {what}")));
    Intent::new(StepKey::new(name, 0), effect(EffectClass::Opaque, what)).with_undo(undo)
}

/// Does a step that returns what it did, and returns the key it acted under.
async fn done(s: &Subject, lease: &Lease, name: &str, what: &str) -> Result<IdempotencyKey> {
    let scope = Subject::scope();
    let intended = s.journal.intend(&scope, lease, intent_of(name, what));
    let Intended::Go(pass) = intended.await? else {
        return Err(Error::invalid("law", format!("step {name} goes ahead")));
    };
    let outcome = Outcome::new(Ok(json!(what)));
    s.journal.settle(&scope, lease, &pass, outcome).await?;
    Ok(pass.key)
}

/// What the step `go` waits for took.
async fn taken(s: &Subject, lease: &Lease) -> Result<Option<Value>> {
    let wait = NewWait::new(StepKey::new("go", 0), vec![Source::signal("go")]);
    let wait = s.journal.wait(&Subject::scope(), lease, wait).await?;
    Ok(wait.first.and_then(|first| match first.happened {
        Happened::Signal { payload, .. } => Some(payload),
        _ => None,
    }))
}

/// The attempt of a task after the one at hand.
async fn next(s: &Subject, claim: &Claim) -> Result<Lease> {
    let scope = Subject::scope();
    s.journal
        .finish(&scope, &claim.lease, Transition::Release)
        .await?;
    let next = s.claim(claim.task.run, "work", agent(2)).await?;
    Ok(next.ok_or_else(|| Error::not_found("claim", "a"))?.lease)
}

async fn drifted(s: &Subject, lease: &Lease, intent: &Intent) -> Result<Drifted> {
    let drift = s
        .journal
        .intend(&Subject::scope(), lease, intent.clone())
        .await;
    check(matches!(drift, Err(Error::Drift { .. })), "it drifts")?;
    let recorded = s.journal.recorded(lease, intent.step.clone()).await?;
    let recorded = recorded.ok_or_else(|| Error::not_found("step", "b"))?;
    let (step, effect) = (intent.step.clone(), intent.effect.clone());
    Ok(Drifted::new(lease.clone(), step, effect, recorded))
}

/// An attempt forked at a step that drifted keeps what was recorded before it and does the rest
/// anew under other keys; a wait that began later gives its signal back; what was done stays to be
/// undone, and a run forked from before has the old values as long as nothing took their place.
///
/// # Errors
/// If the law does not hold.
pub async fn a_fork_at_a_drifted_step_does_the_rest_anew(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    let lease = &claim.lease;
    done(&s, lease, "z before", "old").await?;
    let b = done(&s, lease, "b", "old").await?;
    let signal = Signal::new("go", json!(7), IdempotencyKey::new("go-7")?);
    s.journal.signal(&scope, claim.task.id, signal).await?;
    check(taken(&s, lease).await? == Some(json!(7)), "it is taken")?;
    let a = done(&s, lease, "a later", "same").await?;
    let records = s.journal.events(crate::EventQuery::after(0)).await?;
    let before = records.last().map_or(0, |record| record.seq);
    let lease = &next(&s, &claim).await?;
    let intent = intent_of("b", "new");
    let drifted = drifted(&s, lease, &intent).await?;
    s.journal.migrate(&scope, drifted, Migration::Fork).await?;
    s.journal
        .fork(&scope, run, before, "early".to_owned())
        .await?;

    let kept = s
        .journal
        .intend(&scope, lease, intent_of("z before", "old"));
    check(
        matches!(kept.await?, Intended::Recorded(value) if value == json!("old")),
        "what was before is kept",
    )?;
    check(done(&s, lease, "b", "new").await? != b, "under another key")?;
    check(
        taken(&s, lease).await? == Some(json!(7)),
        "the signal is there again",
    )?;
    let anew = done(&s, lease, "a later", "same").await?;
    check(anew != a, "an identical effect is done anew, too")?;
    all_is_undone(&s, &claim, [&a, &anew, &b]).await?;
    forks_are_true(&s, run, before).await
}

/// Checks that a run forked from before makes up no value, and that one forked now has all.
async fn forks_are_true(s: &Subject, run: RunId, before: u64) -> Result<()> {
    let scope = Subject::scope();
    let gone = s.journal.fork(&scope, run, before, "late".to_owned()).await;
    check(
        gone.is_err_and(|error| error.kind() == ErrorKind::NotFound),
        "a value that was replaced is not made up",
    )?;
    let records = s.journal.events(crate::EventQuery::after(0)).await?;
    let now = records.last().map_or(0, |record| record.seq);
    s.journal.fork(&scope, run, now, "now".to_owned()).await?;
    Ok(())
}

/// Checks that what was done before and after the fork is to be undone.
async fn all_is_undone(s: &Subject, claim: &Claim, did: [&IdempotencyKey; 3]) -> Result<()> {
    let undos = s.journal.undos(claim.task.id).await?;
    let targets: Vec<&str> = undos.iter().map(|u| u.effect.target.as_str()).collect();
    let expected = ["undo same", "undo new", "undo same", "undo old", "undo old"];
    check(targets == expected, "all of it is to be undone")?;
    let keys: Vec<&IdempotencyKey> = undos.iter().map(|undo| &undo.key).collect();
    check(
        did.iter().all(|key| keys.contains(key)),
        "under the keys it was done with",
    )
}

/// While a step after the drifted one is in doubt nothing is forgotten.
///
/// # Errors
/// If the law does not hold.
pub async fn no_fork_passes_over_a_step_in_doubt(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let scope = Subject::scope();
    done(&s, &claim.lease, "a", "old").await?;
    let open = s
        .journal
        .intend(&scope, &claim.lease, intent_of("b", "old"));
    check(matches!(open.await?, Intended::Go(_)), "it is under way")?;
    let lease = &next(&s, &claim).await?;
    let drifted = drifted(&s, lease, &intent_of("a", "new")).await?;
    let fork = s.journal.migrate(&scope, drifted, Migration::Fork).await;
    check(
        fork.is_err_and(|error| error.kind() == ErrorKind::Conflict),
        "a fork waits for what is in doubt",
    )?;
    let kept = s.journal.intend(&scope, lease, intent_of("a", "old"));
    check(
        matches!(kept.await?, Intended::Recorded(_)),
        "nothing is forgotten",
    )
}
