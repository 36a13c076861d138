//! Where a task goes when its first choice failed, or what it did is to be undone; pure.

use agent_core::Failure;
use serde_json::{Value, json};

use super::{Moved, correct, end_event, note};
use crate::task::{Alternative, Stage, Status, Task};

/// Sends a task to where its steps are undone; it ends as `status` afterwards. What fails there is
/// counted anew.
pub(crate) fn unwind(task: &mut Task, status: Status, failure: Failure) -> Moved {
    note(task, &failure);
    task.failures.clear();
    (task.stage, task.status) = (Stage::Undo, Status::Ready);
    task.pool.clone_from(&task.home);
    task.ends_as = Some(status);
    Moved::failed("task.unwinding", failure)
}

/// Ends a task whose steps are undone.
pub(super) fn undone(task: &mut Task, undone: u32, left: u32) -> Moved {
    task.status = task.ends_as.unwrap_or(Status::Failed);
    let payload = json!({ "failure": task.failure, "undone": undone, "left": left });
    Moved {
        failure: task.failure.clone(),
        ..Moved::new(end_event(task.status), payload)
    }
}

/// Gives a task to what comes next where the first choice failed. Another pool has other ladders
/// and choices, so it begins with clean counts.
pub(super) fn fall_back(
    task: &mut Task,
    feedback: Value,
    failure: Failure,
    to: Alternative,
) -> Moved {
    let step = match to {
        Alternative::Choices(choices) => {
            note(task, &failure);
            task.status = Status::Ready;
            let payload = json!({ "failure": failure, "choices": choices });
            task.choices = choices;
            Moved::new("task.fell_back", payload)
        }
        Alternative::Pool(pool) => {
            let payload = json!({ "failure": failure, "pool": pool });
            task.home = pool;
            correct(task, feedback, &failure);
            task.failures.clear();
            task.choices.clear();
            Moved::new("task.fell_back", payload)
        }
    };
    Moved {
        failure: Some(failure),
        ..step
    }
}
