//! Runs: opening, resuming, ending.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Env, RunId, Scope, Timestamp};
use rusqlite::{OptionalExtension, Params, params};
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{Bits, column, from_json, run_bits, unsigned};
use super::{claim, outbox};
use crate::error::{Error, Result};
use crate::journal::{NewRun, Run};

/// The longest subject in bytes: a path fits.
const SUBJECT_BYTES_MAX: usize = 8_192;

/// Opens a run, or the unfinished one of the same subject.
pub(super) fn open(
    tx: &Tx<'_>,
    env: &Env,
    scope: &Scope,
    new: &NewRun,
    durability: &str,
) -> Result<Run> {
    check_subject(&new.subject)?;
    let found = find(tx, &new.subject)?;
    let (run, kind) = match found {
        Some(run) => (run, "run.resumed"),
        None => (insert(tx, env, new, durability)?, "run.started"),
    };
    let payload = json!({ "subject": run.subject, "spec": new.spec, "durability": durability });
    let entry = Entry::of(scope, kind, "", payload);
    events::append(
        tx,
        &Entry {
            run: Some(run.id),
            ..entry
        },
    )?;
    claim::take_back(tx, scope, Some(run.id))?;
    outbox::take_back(tx, run.id)?;
    Ok(run)
}

pub(super) fn check_subject(subject: &str) -> Result<()> {
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
        return Err(Error::invalid(
            "run.subject",
            "a subject has 1 to 8192 bytes",
        ));
    }
    Ok(())
}

/// Finds the unfinished run of a subject.
pub(super) fn find(tx: &Tx<'_>, subject: &str) -> Result<Option<Run>> {
    const OPEN: &str = "SELECT * FROM orch_run WHERE subject = ?1 AND ended_ms IS NULL";
    query(tx, OPEN, [subject])
}

/// Reads a run.
pub(super) fn load(tx: &Tx<'_>, id: RunId) -> Result<Run> {
    let found = query(tx, "SELECT * FROM orch_run WHERE id = ?1", [run_bits(id)])?;
    found.ok_or_else(|| Error::not_found("run", id.to_string()))
}

fn query(tx: &Tx<'_>, query: &str, key: impl Params) -> Result<Option<Run>> {
    let mut statement = tx.sql().prepare_cached(query).map_err(sql("find a run"))?;
    let mut rows = statement.query(key).map_err(sql("find a run"))?;
    let Some(row) = rows.next().map_err(sql("find a run"))? else {
        return Ok(None);
    };
    let spec: Digest = column::<String>(row, "spec")?.parse()?;
    Ok(Some(Run {
        id: RunId::from_bits(column::<Bits>(row, "id")?.0),
        subject: column(row, "subject")?,
        spec,
        meta: from_json(&column::<String>(row, "meta")?)?,
        started: Timestamp::from_unix_ms(column(row, "started_ms")?),
        ended: column::<Option<i64>>(row, "ended_ms")?.map(Timestamp::from_unix_ms),
        is_resumed: true,
        durability: column(row, "durability")?,
        forked_from: column::<Option<Bits>>(row, "forked_from")?
            .map(|bits| RunId::from_bits(bits.0)),
        forked_at: column::<Option<i64>>(row, "forked_at")?.map(unsigned),
    }))
}

/// Writes a run that starts.
pub(super) fn insert(tx: &Tx<'_>, env: &Env, new: &NewRun, durability: &str) -> Result<Run> {
    let run = Run {
        id: RunId::generate(env),
        subject: new.subject.clone(),
        spec: new.spec,
        meta: new.meta.clone(),
        started: tx.now(),
        ended: None,
        is_resumed: false,
        durability: durability.to_owned(),
        forked_from: None,
        forked_at: None,
    };
    tx.sql()
        .execute(
            "INSERT INTO orch_run(id, subject, spec, meta, durability, started_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                run_bits(run.id),
                run.subject,
                run.spec.to_string(),
                run.meta.to_string(),
                run.durability,
                run.started.as_unix_ms(),
            ],
        )
        .map_err(sql("start a run"))?;
    Ok(run)
}

/// Ends a run.
pub(super) fn end(tx: &Tx<'_>, scope: &Scope, id: RunId) -> Result<()> {
    let ended = tx
        .sql()
        .query_row(
            "UPDATE orch_run SET ended_ms = ?2 WHERE id = ?1 RETURNING 1",
            params![run_bits(id), tx.now().as_unix_ms()],
            |_row| Ok(()),
        )
        .optional()
        .map_err(sql("end a run"))?;
    if ended.is_none() {
        return Err(Error::not_found("run", id.to_string()));
    }
    let entry = Entry::of(scope, "run.ended", "", serde_json::Value::Null);
    events::append(
        tx,
        &Entry {
            run: Some(id),
            ..entry
        },
    )?;
    Ok(())
}

/// Records that a run goes on under another configuration.
pub(super) fn respec(
    tx: &Tx<'_>,
    scope: &Scope,
    id: RunId,
    spec: Digest,
    payload: serde_json::Value,
) -> Result<()> {
    let n_changed = tx
        .sql()
        .execute(
            "UPDATE orch_run SET spec = ?2 WHERE id = ?1 AND ended_ms IS NULL",
            params![run_bits(id), spec.to_string()],
        )
        .map_err(sql("change a run's configuration"))?;
    if n_changed == 0 {
        return Err(Error::not_found("run", id.to_string()));
    }
    let mut entry = Entry::of(scope, "run.reloaded", "", payload);
    entry.run = Some(id);
    events::append(tx, &entry)?;
    Ok(())
}
