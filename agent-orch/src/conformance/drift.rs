//! The laws of steps that drift.

use agent_core::{Digest, EffectClass};
use serde_json::{Value, json};

use super::{Subject, agent, check, effect};
use crate::drift::{Drifted, Migration};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::task::{Lease, Transition};

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
