//! Submission: tasks in bulk, each with its place in the queue.

use std::collections::BTreeMap;

use agent_core::store::{Tx, sql};
use agent_core::{RunId, Scope};
use rusqlite::params;
use serde_json::json;

use super::due;
use super::events::{self, Entry};
use super::queue::{self, Spot};
use super::rows::{run_bits, task_bits, to_json};
use super::tasks::count;
use super::trees;
use crate::error::Result;
use crate::task::{NewTask, Stage, Status};

/// The tasks of one submission that join one line.
struct Joining {
    line: i64,
    limits: String,
    rises: Option<i64>,
    n: i64,
    /// The oldest of them.
    head: i64,
}

/// Adds tasks that are not there yet. Lines and counts are written once for all of them.
pub(super) fn submit(tx: &Tx<'_>, scope: &Scope, run: RunId, tasks: &[NewTask]) -> Result<u64> {
    let mut lines: BTreeMap<(&str, u8, &str, String), Joining> = BTreeMap::new();
    let mut added = 0_i64;
    for task in tasks {
        let input = task.input.to_string();
        task.check(input.len())?;
        let fair = task.fair_key.as_deref().unwrap_or(&scope.tenant);
        let limits = limits_of(task)?;
        let place = (task.pool.as_str(), task.priority, fair, limits);
        let joining = match lines.entry(place) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let joining = line_of(tx, run, free.key())?;
                free.insert(joining)
            }
        };
        if let Some(seq) = insert(tx, run, task, &input, fair, joining)? {
            trees::enter(tx, task.id(run), task)?;
            joining.n = joining.n.saturating_add(1);
            joining.head = joining.head.min(seq);
            added = added.saturating_add(1);
        }
    }
    for joining in lines.values().filter(|joining| joining.n > 0) {
        queue::join(tx, joining.line, joining.n, joining.head)?;
    }
    if added > 0 {
        count(tx, run, Stage::Work, Status::Ready, added)?;
        let mut entry = Entry::of(scope, "tasks.submitted", "", json!({ "added": added }));
        entry.run = Some(run);
        events::append(tx, &entry)?;
    }
    Ok(added.unsigned_abs())
}

/// Returns the limits as they are stored: sorted, each once; empty for none.
fn limits_of(task: &NewTask) -> Result<String> {
    if task.limit_keys.is_empty() {
        return Ok(String::new());
    }
    let mut keys = task.limit_keys.clone();
    keys.sort_unstable();
    keys.dedup();
    to_json(&keys)
}

fn line_of(
    tx: &Tx<'_>,
    run: RunId,
    (pool, rank, fair, limits): &(&str, u8, &str, String),
) -> Result<Joining> {
    let spot = Spot {
        seq: 0,
        run: run_bits(run),
        pool: (*pool).to_owned(),
        rank: *rank,
        fair: (*fair).to_owned(),
        limits: limits.clone(),
        not_for: None,
        stage: Stage::Work,
        status: Status::Ready,
        line: None,
    };
    Ok(Joining {
        line: queue::line_of(tx, &spot)?,
        limits: limits.clone(),
        rises: due::rises(tx, spot.run, spot.rank)?,
        n: 0,
        head: i64::MAX,
    })
}

/// Writes the row of a task and returns its place in the order of submission, or `None` if it was
/// there.
fn insert(
    tx: &Tx<'_>,
    run: RunId,
    task: &NewTask,
    input: &str,
    fair: &str,
    joining: &Joining,
) -> Result<Option<i64>> {
    let estimate = task.cost_estimate.as_ref().map(to_json).transpose()?;
    let inserted = tx
        .sql()
        .prepare_cached(
            "INSERT OR IGNORE INTO orch_task
             (id, run, key, input, stage, status, pool, home, priority, created_ms, updated_ms,
                rank, fair, limits, estimate, line, rises_ms)
             VALUES (?1, ?2, ?3, ?4, 'work', 'ready', ?5, ?5, ?6, ?7, ?7, ?6, ?8, ?9, ?10, ?11, ?12)",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(task.id(run)),
                run_bits(run),
                task.key,
                input,
                task.pool,
                task.priority,
                tx.now().as_unix_ms(),
                fair,
                joining.limits,
                estimate,
                joining.line,
                joining.rises,
            ])
        })
        .map_err(sql("add a task"))?;
    Ok((inserted == 1).then(|| tx.sql().last_insert_rowid()))
}
