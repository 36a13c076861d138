//! Laws of the audit chain: roots, erasure, verification in parts.

use std::sync::Arc;

use agent_core::{EffectClass, Retry};
use agent_identity::backend::InMemoryKeyStore;
use agent_identity::{Key, KeyName, KeyStore};
use serde_json::{Value, json};

use super::{Subject, check, effect, failure};
use crate::audit::{
    Correlation, ErasePayloads, EventQuery, Export, Root, Sealer, Verification, verify_export,
};
use crate::error::{Error, Result};
use crate::journal::{Intended, Intent, Outcome, StepKey};
use crate::task::{Claim, Status, Transition};

/// Text that is to be erased.
const SECRET: &str = "qwyxzzy";

async fn sealer(s: &Subject) -> Result<(Sealer, Arc<InMemoryKeyStore>, Key)> {
    let keys = Arc::new(InMemoryKeyStore::new(&s.env));
    let scope = Subject::scope();
    let made = keys.generate(&scope, vec![KeyName::new("host")?]).await?;
    let key = made.into_iter().next();
    let key = key.ok_or_else(|| Error::not_found("key", "host"))?;
    let journal = Arc::clone(&s.journal);
    let sealer = Sealer::new(
        journal,
        Arc::<InMemoryKeyStore>::clone(&keys),
        s.env.clone(),
        scope,
        key.clone(),
    );
    Ok((sealer, keys, key))
}

/// Has a task say something and end.
async fn told(s: &Subject) -> Result<Claim> {
    let (_run, claim) = s.with_task().await?;
    let (scope, step) = (Subject::scope(), StepKey::new("s", 0));
    let intent = Intent::new(step, effect(EffectClass::Idempotent, SECRET));
    if let Intended::Go(pass) = s.journal.intend(&scope, &claim.lease, intent).await? {
        let outcome = Outcome::new(Ok(json!(SECRET)));
        s.journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await?;
    }
    Ok(claim)
}

async fn end(s: &Subject, claim: &Claim) -> Result<()> {
    let end = Transition::End {
        status: Status::Failed,
        failure: failure(Retry::Never),
    };
    s.journal.finish(&Subject::scope(), &claim.lease, end).await
}

/// A signed root stands for the records before it: once one is stored, verification counts it, can
/// start from it, and trusts nobody else's.
///
/// # Errors
/// If the law does not hold.
pub async fn a_signed_root_stands_for_what_is_before_it(s: Subject) -> Result<()> {
    let claim = told(&s).await?;
    let (sealer, _keys, key) = sealer(&s).await?;
    let root = sealer.seal().await?;
    let root = root.ok_or_else(|| Error::not_found("root", "of an unsigned chain"))?;
    check(
        sealer.seal().await?.is_none(),
        "what is signed is not signed again",
    )?;
    check(
        s.journal.roots(0).await? == [root.clone()],
        "the root is kept",
    )?;
    end(&s, &claim).await?;
    let how = Verification::new().trusting(key.did);
    let audit = s.journal.verify_with(how.clone()).await?;
    check(
        (audit.roots, audit.signed) == (1, root.seq),
        "the root counts",
    )?;
    let after = s.journal.verify_with(how.after(root.clone())).await?;
    check(after.head == audit.head, "verification starts from a root")?;
    let (_, _, stranger) = self::sealer(&s).await?;
    let strange = Verification::new().trusting(stranger.did);
    check(
        is_broken(&s.journal.verify_with(strange).await),
        "another's root is forged",
    )?;
    let mut forged = root;
    forged.seq = audit.records;
    forged.head = audit.head;
    check(
        s.journal
            .seal(&Subject::scope(), forged.clone())
            .await
            .is_err(),
        "a root with another's signature is not stored",
    )?;
    let moved = Verification::new().after(forged);
    check(
        is_broken(&s.journal.verify_with(moved).await),
        "nor does verification start from one",
    )
}

fn is_broken<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::AuditBroken { .. }))
}

/// A root that does not stand for a record of the chain is refused.
///
/// # Errors
/// If the law does not hold.
pub async fn a_root_of_another_chain_is_refused(s: Subject) -> Result<()> {
    told(&s).await?;
    let (_sealer, keys, key) = sealer(&s).await?;
    let mut end = s.journal.head().await?;
    end.head = agent_core::Digest::of_bytes(b"another chain");
    let scope = Subject::scope();
    let root = Root::sign(&end, s.env.clock.now(), keys.as_ref(), &scope, &key).await?;
    check(
        matches!(
            s.journal.seal(&scope, root).await,
            Err(Error::Invalid { .. })
        ),
        "it is refused",
    )
}

/// Erasing an ended task removes its text and leaves the chain whole, with a record of it; a task
/// that goes on is not erased.
///
/// # Errors
/// If the law does not hold.
pub async fn erasing_leaves_the_chain_whole(s: Subject) -> Result<()> {
    let claim = told(&s).await?;
    let (scope, task) = (Subject::scope(), claim.task.id);
    let what = ErasePayloads::Task(task);
    check(
        super::is_conflict(&s.journal.erase(&scope, what).await),
        "a task that goes on is not erased",
    )?;
    end(&s, &claim).await?;
    let before = s.journal.verify().await?;
    let erased = s.journal.erase(&scope, what).await?;
    check(erased.payloads >= 3, "its payloads are gone")?;
    let after = s.journal.verify().await?;
    check(
        after.records == before.records + 1,
        "the erasure is a record",
    )?;
    let mut export = Export::new(Arc::clone(&s.journal));
    let mut lines = String::new();
    while let Some(page) = export.next().await? {
        lines.push_str(&page);
    }
    check(!lines.contains(SECRET), "the text is gone")?;
    let audit = verify_export(lines.as_bytes(), Verification::new())?;
    check(audit.head == after.head, "an export of it verifies")?;
    let task = s.journal.task(task).await?;
    check(
        task.input == Value::Null && task.output.is_none(),
        "the task is blank",
    )?;
    let again = ErasePayloads::Record(erased.record);
    check(
        matches!(
            s.journal.erase(&scope, again).await,
            Err(Error::Invalid { .. })
        ),
        "erasures are kept",
    )
}

/// Every record of a task belongs to the tree of delegations of its root, and an outcome names its
/// intent.
///
/// # Errors
/// If the law does not hold.
pub async fn records_name_what_they_belong_to(s: Subject) -> Result<()> {
    let claim = told(&s).await?;
    let query = EventQuery::after(0).with_task(claim.task.id);
    let records = s.journal.events(query).await?;
    let root = Some(Correlation::Task(claim.task.id));
    check(
        records
            .iter()
            .all(|r| r.correlation == root && r.run == Some(claim.task.run)),
        "they belong to their root",
    )?;
    let intent = records.iter().find(|r| r.kind == "effect.intended");
    let done = records.iter().find(|r| r.kind == "effect.done");
    check(
        intent.is_some() && done.and_then(|r| r.cause) == intent.map(|r| r.seq),
        "an outcome follows from its intent",
    )
}
