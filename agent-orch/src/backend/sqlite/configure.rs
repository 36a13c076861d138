//! What a run says about its queue.

use std::time::Duration;

use agent_core::store::{Tx, sql};
use agent_core::{RunId, Scope};
use rusqlite::params;
use serde_json::json;

use super::events::{self, Entry};
use super::limits;
use super::rows::{Bits, run_bits, signed};
use crate::error::Result;
use crate::fleet::Scheduling;

/// Sets weights and aging of a run and the limits of the store.
pub(super) fn configure(
    tx: &Tx<'_>,
    scope: &Scope,
    run: RunId,
    scheduling: &Scheduling,
) -> Result<()> {
    let id = run_bits(run);
    tx.sql()
        .prepare_cached("INSERT OR REPLACE INTO orch_queue VALUES (?1, ?2)")
        .and_then(|mut s| s.execute(params![id, millis(scheduling.age)]))
        .map_err(sql("set how tasks age"))?;
    set_weights(tx, id, scheduling)?;
    let unlisted: Vec<String> = {
        let mut statement = tx
            .sql()
            .prepare_cached("SELECT key FROM orch_limit WHERE concurrency IS NOT NULL")
            .map_err(sql("read the limits"))?;
        let rows = statement.query_map([], |row| row.get(0));
        rows.and_then(Iterator::collect)
            .map_err(sql("read the limits"))?
    };
    for key in unlisted {
        if !scheduling.limits.contains_key(&key) {
            limits::set(tx, &key, None)?;
        }
    }
    for (key, limit) in &scheduling.limits {
        limits::set(tx, key, limit.concurrency)?;
    }
    let payload = json!({ "scheduling": scheduling });
    let mut entry = Entry::of(scope, "run.configured", "", payload);
    entry.run = Some(run);
    events::append(tx, &entry)?;
    Ok(())
}

fn set_weights(tx: &Tx<'_>, run: Bits, scheduling: &Scheduling) -> Result<()> {
    tx.sql()
        .prepare_cached("DELETE FROM orch_weight WHERE run = ?1")
        .and_then(|mut s| s.execute([run]))
        .map_err(sql("set weights"))?;
    for (key, weight) in &scheduling.weights {
        tx.sql()
            .prepare_cached("INSERT INTO orch_weight VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.execute(params![run, key, weight]))
            .map_err(sql("set weights"))?;
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    signed(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
