//! Delegation trees: children, what the end of a task means for them, and the limits of a whole
//! tree.

use std::time::Duration;

use agent_core::store::{Tx, sql};
use agent_core::{Amount, IdempotencyKey, Principal, Scope, TaskId, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::claim::check_lease;
use super::events::{self, Entry};
use super::rows::{Bits, signed, task_bits};
use super::{control, requests, submit, tasks};
use crate::error::{Error, Result};
use crate::task::{Lease, NewTask, Stage, Task};
use crate::tree::{self, Spawn};

/// How long a task whose end was forced may take to undo its steps.
const UNDO_LASTS: Duration = Duration::from_secs(3_600);

/// Writes what a new task says beside its work: its limits and when it was born.
pub(super) fn enter(tx: &Tx<'_>, id: TaskId, new: &NewTask) -> Result<()> {
    let wall = new.wall.map(|wall| tx.now().after(wall).as_unix_ms());
    let deadline = new.deadline.map(Timestamp::as_unix_ms);
    let born = signed(events::next(tx)?);
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET born = ?2, born_pool = pool, deadline_ms = ?3, wall_ms = ?4
             WHERE id = ?1",
        )
        .and_then(|mut s| s.execute(params![task_bits(id), born, deadline, wall]))
        .map_err(sql("add a task's limits"))?;
    if new.tree_budget.is_some() || new.tree_retries.is_some() {
        tx.sql()
            .prepare_cached("INSERT OR IGNORE INTO orch_tree VALUES (?1, 0, ?2, ?3, 0)")
            .and_then(|mut s| {
                s.execute(params![
                    task_bits(id),
                    new.tree_retries.unwrap_or(NewTask::TREE_RETRIES),
                    new.tree_budget.map(|most| most.to_string()),
                ])
            })
            .map_err(sql("add a tree's limits"))?;
    }
    Ok(())
}

/// Adds children of a task that is held.
pub(super) fn spawn(
    tx: &Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    spawn: &Spawn,
) -> Result<Vec<TaskId>> {
    check_lease(tx, lease)?;
    let parent = tasks::load(tx, lease.task)?;
    if parent.is_pausing {
        return Err(Error::Yielded { task: parent.id });
    }
    let depth = parent.depth.saturating_add(1);
    if depth > spawn.depth_max {
        return Err(Error::LimitReached {
            what: "depth of a delegation tree",
            limit: u64::from(spawn.depth_max),
        });
    }
    let children: Vec<NewTask> = spawn
        .children
        .iter()
        .map(|child| child.named(&parent))
        .collect();
    let known = known(tx, &parent, &children)?;
    let many = n_children(tx, parent.id)?.saturating_add(children.len().saturating_sub(known));
    if many > usize::try_from(spawn.children_max).unwrap_or(usize::MAX) {
        return Err(Error::LimitReached {
            what: "children of one task",
            limit: u64::from(spawn.children_max),
        });
    }
    let ids: Vec<TaskId> = children.iter().map(|child| child.id(parent.run)).collect();
    if known == children.len() {
        return Ok(ids);
    }
    submit::submit(tx, scope, parent.run, &children)?;
    for (id, child) in ids.iter().zip(&children) {
        adopt(tx, &parent, *id, child.is_detached)?;
    }
    let payload = json!({ "children": ids, "depth": depth });
    let mut entry = Entry::of(scope, "tasks.delegated", &parent.pool, payload);
    (entry.run, entry.task, entry.fence) = (Some(parent.run), Some(parent.id), Some(lease.fence));
    events::append(tx, &entry)?;
    Ok(ids)
}

/// Returns how many of the children are there; one with other work under its name drifted.
fn known(tx: &Tx<'_>, parent: &Task, children: &[NewTask]) -> Result<usize> {
    let mut n = 0_usize;
    for child in children {
        match tasks::load(tx, child.id(parent.run)) {
            Ok(found) if found.input == child.input && found.home == child.pool => {
                n = n.saturating_add(1);
            }
            Ok(_other) => {
                return Err(Error::Drift {
                    task: parent.id,
                    name: child.key.clone(),
                    ordinal: 0,
                });
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

fn n_children(tx: &Tx<'_>, parent: TaskId) -> Result<usize> {
    let n: i64 = tx
        .sql()
        .prepare_cached("SELECT count(*) FROM orch_task WHERE parent = ?1")
        .and_then(|mut s| s.query_row([task_bits(parent)], |row| row.get(0)))
        .map_err(sql("count children"))?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// Makes a task the child of another.
pub(super) fn adopt(tx: &Tx<'_>, parent: &Task, child: TaskId, is_detached: bool) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET parent = ?2, root = ?3, depth = ?4, is_detached = ?5
             WHERE id = ?1 AND parent IS NULL",
        )
        .and_then(|mut s| {
            s.execute(params![
                task_bits(child),
                task_bits(parent.id),
                task_bits(parent.root),
                parent.depth.saturating_add(1),
                is_detached,
            ])
        })
        .map_err(sql("delegate a task"))?;
    Ok(())
}

/// Returns children as they stand; the task will wait for those that have not ended.
pub(super) fn join(tx: &Tx<'_>, lease: &Lease, children: &[TaskId]) -> Result<Vec<Task>> {
    check_lease(tx, lease)?;
    let mut found = Vec::with_capacity(children.len());
    for id in children {
        let child = tasks::load(tx, *id)?;
        if child.parent != Some(lease.task) {
            return Err(Error::not_found("child", id.to_string()));
        }
        if !child.status.is_terminal() {
            tx.sql()
                .prepare_cached("UPDATE orch_task SET is_joined = 1 WHERE id = ?1")
                .and_then(|mut s| s.execute([task_bits(*id)]))
                .map_err(sql("wait for a child"))?;
        }
        found.push(child);
    }
    Ok(found)
}

/// Returns whether a task waits for a child.
pub(super) fn is_joining(tx: &Tx<'_>, task: TaskId) -> Result<bool> {
    Ok(tx
        .sql()
        .prepare_cached(
            "SELECT 1 FROM orch_task WHERE parent = ?1 AND is_joined
               AND status NOT IN ('completed', 'failed', 'canceled', 'rejected') LIMIT 1",
        )
        .and_then(|mut s| s.exists([task_bits(task)]))
        .map_err(sql("look for children"))?)
}

/// Follows up on a move: children whose parent ended, handed its work over or began anew are
/// canceled unless they are detached; a parent goes on when the last child it waits for ended.
pub(super) fn follow(tx: &mut Tx<'_>, by: &Principal, before: &Task, after: &Task) -> Result<()> {
    let ended = after.status.is_terminal();
    let left = before.stage == Stage::Work && after.stage != Stage::Work;
    if ended || left || after.round != before.round {
        for child in attached(tx, after.id)? {
            control::cancel(tx, by, child, &tree::parent_ended())?;
        }
    }
    if !ended {
        return Ok(());
    }
    requests::close(tx, by, after)?;
    let Some(parent) = after.parent else {
        return Ok(());
    };
    let was_joined = tx
        .sql()
        .prepare_cached("UPDATE orch_task SET is_joined = 0 WHERE id = ?1 AND is_joined")
        .and_then(|mut s| s.execute([task_bits(after.id)]))
        .map_err(sql("end a child"))?;
    if was_joined == 1 && !is_joining(tx, parent)? {
        tasks::wake(tx, parent)?;
    }
    Ok(())
}

fn attached(tx: &Tx<'_>, parent: TaskId) -> Result<Vec<TaskId>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT id FROM orch_task WHERE parent = ?1 AND NOT is_detached
               AND status NOT IN ('completed', 'failed', 'canceled', 'rejected') ORDER BY seq",
        )
        .map_err(sql("find children"))?;
    let rows = statement.query_map([task_bits(parent)], |row| row.get::<_, Bits>(0));
    let ids: Vec<Bits> = rows
        .and_then(Iterator::collect)
        .map_err(sql("find children"))?;
    Ok(ids.iter().map(|id| TaskId::from_bits(id.0)).collect())
}

/// Moves the end of a task's time on by the time in which it waited, before it moves.
pub(super) fn go_on(tx: &Tx<'_>, task: &Task) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE orch_task SET wall_ms = wall_ms + max(0, ?2 - updated_ms)
             WHERE id = ?1 AND wall_ms IS NOT NULL",
        )
        .and_then(|mut s| s.execute(params![task_bits(task.id), tx.now().as_unix_ms()]))
        .map_err(sql("count a task's waiting"))?;
    Ok(())
}

/// Gives a task whose end was forced time to undo its steps.
pub(super) fn give_time_to_undo(tx: &Tx<'_>, task: TaskId) -> Result<()> {
    let until = tx.now().after(UNDO_LASTS).as_unix_ms();
    tx.sql()
        .prepare_cached("UPDATE orch_task SET wall_ms = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![task_bits(task), until]))
        .map_err(sql("give time to undo"))?;
    Ok(())
}

/// Counts a retry of a task's whole tree.
pub(super) fn count_retry(tx: &Tx<'_>, task: &Task) -> Result<()> {
    let (retries, limit): (u32, u32) = tx
        .sql()
        .prepare_cached(
            "INSERT INTO orch_tree VALUES (?1, 1, ?2, NULL, 0)
             ON CONFLICT DO UPDATE SET retries = retries + 1 RETURNING retries, retries_max",
        )
        .and_then(|mut s| {
            s.query_row(
                params![task_bits(task.root), NewTask::TREE_RETRIES],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
        .map_err(sql("count a retry"))?;
    if retries > limit {
        let root = task.root;
        return Err(Error::RetriesExhausted { root, limit });
    }
    Ok(())
}

/// Holds money of a tree that has a budget.
pub(super) fn hold(tx: &Tx<'_>, task: TaskId, key: &IdempotencyKey, max: Amount) -> Result<()> {
    let tree: Option<(Bits, String, i64)> = tx
        .sql()
        .prepare_cached(
            "SELECT r.root, r.budget, r.used FROM orch_task t
             JOIN orch_tree r ON r.root = coalesce(t.root, t.id)
             WHERE t.id = ?1 AND r.budget IS NOT NULL",
        )
        .and_then(|mut s| {
            s.query_row([task_bits(task)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
        })
        .map_err(sql("read a tree's budget"))?;
    let Some((Bits(root), budget, used)) = tree else {
        return Ok(());
    };
    let budget: Amount = budget.parse()?;
    let used = Amount::from_units(i128::from(used), budget.asset());
    if used.plus(max)?.compare(&budget)? == std::cmp::Ordering::Greater {
        return Err(Error::TreeBudget {
            root: TaskId::from_bits(root),
            limit: budget,
        });
    }
    let units = units(max)?;
    use_money(tx, Bits(root), units)?;
    tx.sql()
        .prepare_cached("INSERT OR REPLACE INTO orch_tree_hold VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![key.as_str(), Bits(root), units]))
        .map_err(sql("hold a tree's money"))?;
    Ok(())
}

/// Replaces what was held by what it did cost.
pub(super) fn settle(tx: &Tx<'_>, key: &IdempotencyKey, cost: Option<Amount>) -> Result<()> {
    let held: Option<(Bits, i64)> = tx
        .sql()
        .prepare_cached("DELETE FROM orch_tree_hold WHERE key = ?1 RETURNING root, units")
        .and_then(|mut s| {
            s.query_row([key.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .map_err(sql("settle a tree's money"))?;
    let Some((root, held)) = held else {
        return Ok(());
    };
    let cost = cost.map_or(Ok(0), units)?;
    use_money(tx, root, cost.saturating_sub(held))
}

fn use_money(tx: &Tx<'_>, root: Bits, units: i64) -> Result<()> {
    tx.sql()
        .prepare_cached("UPDATE orch_tree SET used = used + ?2 WHERE root = ?1")
        .and_then(|mut s| s.execute(params![root, units]))
        .map_err(sql("count a tree's money"))?;
    Ok(())
}

fn units(amount: Amount) -> Result<i64> {
    i64::try_from(amount.units())
        .map_err(|e| Error::invalid("effect.cost_max", format!("{amount}: {e}")))
}
