//! What time does to the queue: tasks that wait move up, and something is due next.

use agent_core::store::{Tx, sql};
use agent_core::{Scope, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::events::{self, Entry};
use super::queue::{Spot, shift, spot};
use super::rows::Bits;
use super::{reaper, requests, schedules, waits};
use crate::error::Result;
use crate::fleet::Scheduling;
use crate::journal::Swept;

/// Returns when a task that becomes ready moves up a priority.
pub(super) fn rises(tx: &Tx<'_>, run: Bits, rank: u8) -> Result<Option<i64>> {
    if rank == 0 {
        return Ok(None);
    }
    let age_ms: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT age_ms FROM orch_queue WHERE run = ?1")
        .and_then(|mut s| s.query_row([run], |row| row.get(0)).optional())
        .map_err(sql("read how a run's tasks age"))?;
    let age = age_ms.map_or(Scheduling::AGE_DEFAULT, |ms| {
        std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    });
    Ok(Some(tx.now().after(age).as_unix_ms()))
}

/// Moves tasks that waited long up one priority, at most one batch, the longest waiting first.
pub(super) fn age(tx: &Tx<'_>, scope: &Scope) -> Result<u64> {
    let due: Vec<Bits> = {
        let mut statement = tx
            .sql()
            .prepare_cached(
                "SELECT id FROM orch_task
                 WHERE status = 'ready' AND rank > 0 AND rises_ms <= ?1
                 ORDER BY rises_ms LIMIT ?2",
            )
            .map_err(sql("find tasks that waited long"))?;
        let key = params![tx.now().as_unix_ms(), Swept::BATCH_MAX];
        let rows = statement.query_map(key, |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("find tasks that waited long"))?
    };
    for &id in &due {
        let before = spot(tx, id)?;
        let after = Spot {
            rank: before.rank.saturating_sub(1),
            ..before.clone()
        };
        let line = shift(tx, &before, &after)?;
        let rises = rises(tx, after.run, after.rank)?;
        tx.sql()
            .prepare_cached(
                "UPDATE orch_task SET rank = ?2, line = ?3, rises_ms = ?4 WHERE seq = ?1",
            )
            .and_then(|mut s| s.execute(params![after.seq, after.rank, line, rises]))
            .map_err(sql("move a task up"))?;
    }
    if !due.is_empty() {
        let payload = json!({ "n": due.len() });
        events::append(tx, &Entry::of(scope, "tasks.raised", "", payload))?;
    }
    Ok(u64::try_from(due.len()).unwrap_or(u64::MAX))
}

/// Returns the earliest moment at which a sweep changes something.
pub(super) fn next(tx: &Tx<'_>, scope: &Scope) -> Result<Option<Timestamp>> {
    let due: Option<i64> = tx
        .sql()
        .prepare_cached(
            "SELECT min(due) FROM (
                SELECT min(not_before_ms) AS due FROM orch_task WHERE status = 'delayed'
                UNION ALL SELECT min(lease_ms) FROM orch_task WHERE status = 'leased'
                UNION ALL SELECT min(rises_ms) FROM orch_task WHERE status = 'ready' AND rank > 0)",
        )
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(sql("find what is due next"))?;
    let due = [
        due.map(Timestamp::from_unix_ms),
        waits::next_due(tx)?,
        requests::next_due(tx)?,
        reaper::next_due(tx)?,
        schedules::next_due(tx, scope)?,
    ];
    Ok(due.into_iter().flatten().min())
}
