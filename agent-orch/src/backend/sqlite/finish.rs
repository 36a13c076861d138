//! The end of a lease: a task moves on, or a person ends it.

use agent_core::store::Tx;
use agent_core::{ErrorKind, Failure, Principal, Retry, Scope, TaskId};
use serde_json::{Value, json};

use super::claim::check_lease;
use super::events::{self, Entry};
use super::tasks::{load, store};
use super::{agents, outcomes, requests, tasks, trees, undo, waits};
use crate::error::Result;
use crate::history;
use crate::machine::end_event;
use crate::task::{Lease, Stage, Status, Task, Transition};

/// Ends a lease and moves the task on.
pub(super) fn finish(
    tx: &mut Tx<'_>,
    scope: &Scope,
    lease: &Lease,
    transition: Transition,
) -> Result<()> {
    check_lease(tx, lease)?;
    agents::touch(tx, lease.owner)?;
    let before = load(tx, lease.task)?;
    let again = matches!(
        transition,
        Transition::Retry { .. } | Transition::Correct { .. } | Transition::FallBack { .. }
    );
    // Undoing cannot be done by halves: it is tried as often as it takes.
    if again && before.stage != Stage::Undo {
        trees::count_retry(tx, &before)?;
    }
    let mut after = before.clone();
    let step = undo::apply(tx, &mut after, lease, transition)?;
    if after.status == Status::Parked && !must_wait(tx, lease)? {
        after.status = Status::Ready;
    }
    if after.round != before.round || after.status.is_terminal() {
        outcomes::abandon(tx, &before)?;
    }
    (after.not_before, after.avoid) = (step.not_before, step.avoid);
    let set = store(tx, &before, &mut after)?;
    let code = step
        .failure
        .as_ref()
        .map_or("", |failure| failure.code.as_str());
    let payload = history::payload(step.payload, set);
    let mut entry = Entry::of(scope, step.event, before.stage.name(), payload);
    (entry.run, entry.task, entry.fence) = (Some(before.run), Some(before.id), Some(lease.fence));
    entry.code = code;
    events::append(tx, &entry)?;
    trees::follow(tx, &scope.actor, &before, &after)
}

/// Returns whether a task that parks has something to wait for, and nothing woke it since its
/// lease was taken: then it was too early to wait.
fn must_wait(tx: &Tx<'_>, lease: &Lease) -> Result<bool> {
    Ok(tasks::wakes(tx, lease.task)? == lease.wakes && is_waiting(tx, lease.task)?)
}

/// Returns whether a task has something to wait for.
fn is_waiting(tx: &Tx<'_>, task: TaskId) -> Result<bool> {
    Ok(requests::is_waiting(tx, task)?
        || waits::is_waiting(tx, task)?
        || trees::is_joining(tx, task)?)
}

/// Ends a parked task because a person said no, or sends it to where its steps are undone. Whoever
/// gives up on undoing lets the task end as it was to end.
pub(super) fn reject(tx: &mut Tx<'_>, task: &Task, by: &Principal) -> Result<()> {
    let failure = task.failure.clone().unwrap_or_else(|| {
        let (code, fix) = ("orch.rejected", "ask whoever answered");
        Failure::new(
            ErrorKind::Denied,
            Retry::Never,
            code,
            "a person said no",
            fix,
        )
    });
    let mut after = task.clone();
    after.paused_from = None;
    let (kind, payload) = match undo::begin(tx, &mut after, Status::Rejected, failure)? {
        Some(step) => (step.event, step.payload),
        None => {
            outcomes::abandon(tx, task)?;
            after.status = task.ends_as.unwrap_or(Status::Rejected);
            let payload = match task.ends_as {
                Some(_) => json!({ "failure": task.failure, "undone": null }),
                None => Value::Null,
            };
            (end_event(after.status), payload)
        }
    };
    let set = store(tx, task, &mut after)?;
    let entry = Entry {
        kind,
        subject: task.stage.name(),
        code: "",
        actor: by,
        run: Some(task.run),
        task: Some(task.id),
        fence: None,
        cause: None,
        payload: history::payload(payload, set),
    };
    events::append(tx, &entry)?;
    trees::follow(tx, by, task, &after)
}
