//! The end of a lease: a task moves on, or a person ends it.

use agent_core::store::Tx;
use agent_core::{Principal, Scope};
use serde_json::Value;

use super::claim::check_lease;
use super::events::{self, Entry};
use super::tasks::{load, set_status, store};
use super::{requests, steps, tasks};
use crate::error::Result;
use crate::machine::{apply, end_event};
use crate::task::{Lease, Status, Task, Transition};

/// Ends a lease and moves the task on.
pub(super) fn finish(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    transition: Transition,
) -> Result<()> {
    check_lease(tx, lease)?;
    let before = load(tx, lease.task)?;
    let mut after = before.clone();
    let step = apply(&mut after, lease, transition)?;
    if after.status == Status::Parked && !must_wait(tx, lease)? {
        after.status = Status::Ready;
    }
    if after.round != before.round || after.status.is_terminal() {
        steps::abandon(tx, &before)?;
    }
    store(tx, &before, &after, step.not_before, step.avoid)?;
    let code = step
        .failure
        .as_ref()
        .map_or("", |failure| failure.code.as_str());
    let mut entry = Entry::of(scope, step.event, before.stage.name(), step.payload);
    (entry.run, entry.task, entry.fence) = (Some(before.run), Some(before.id), Some(lease.fence));
    entry.code = code;
    events::append(tx, &entry)?;
    Ok(())
}

/// Returns whether a task that parks has something to wait for, and nothing woke it since its
/// lease was taken: then it was too early to wait.
fn must_wait(tx: &Tx<'_>, lease: &Lease) -> Result<bool> {
    Ok(tasks::wakes(tx, lease.task)? == lease.wakes && requests::is_waiting(tx, lease.task)?)
}

/// Ends a parked task because a person said no.
pub(super) fn reject(tx: &mut Tx<'_>, task: &Task, by: &Principal) -> Result<()> {
    steps::abandon(tx, task)?;
    set_status(tx, task, Status::Rejected)?;
    let entry = Entry {
        kind: end_event(Status::Rejected),
        subject: task.stage.name(),
        code: "",
        actor: by,
        run: Some(task.run),
        task: Some(task.id),
        fence: None,
        cause: None,
        payload: Value::Null,
    };
    events::append(tx, &entry)?;
    Ok(())
}
