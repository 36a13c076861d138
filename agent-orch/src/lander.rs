//! The agent of a merge lane: hands verified changes to the merge queue and waits for the answer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use agent_core::{
    CancellationToken, Classify, Effect, EffectClass, ErrorKind, Failure, Retry, TaskId,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::agent::{Acted, Agent, Ctx};
use crate::decide::Ended;
use crate::error::{Error, Result};
use crate::merge::{Intake, MergeQueue, ObjectId, Settled, Status, Submission};
use crate::task::Task;

/// The code of a conflict: the change must be made again on the target's tip.
const CONFLICT: &str = "merge.conflict";

/// A merge queue at work. Cheap to clone; one is shared by all agents of a lane.
#[derive(Clone)]
pub struct Lander {
    shared: Arc<Shared>,
}

struct Shared {
    intake: Intake,
    target: String,
    waiting: Mutex<BTreeMap<TaskId, Waiter>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

type Waiter = oneshot::Sender<Result<Status, Failure>>;

impl fmt::Debug for Lander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lander")
            .field("target", &self.shared.target)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Lander {
    /// Starts to drive a queue that lands on `target`.
    #[must_use]
    pub fn start(queue: MergeQueue, target: impl Into<String>) -> Self {
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            intake: queue.intake(),
            target: target.into(),
            waiting: Mutex::new(BTreeMap::new()),
            tracker: TaskTracker::new(),
            cancel: cancel.clone(),
        });
        shared
            .tracker
            .spawn(drive(queue, Arc::downgrade(&shared), cancel));
        shared.tracker.close();
        Self { shared }
    }

    /// Hands in a change and waits until it landed or cannot land.
    ///
    /// # Errors
    /// Those of [`Intake::enqueue`]; a failure of the check or the repository that the queue met.
    ///
    /// # Cancel safety
    /// Cancel safe: a change that was handed in stays in the queue; handing it in again finds it.
    pub async fn land(&self, submission: Submission) -> Result<Status> {
        let task = submission.task;
        let (answer, answered) = oneshot::channel();
        self.shared.waiting.lock().insert(task, answer);
        match self.shared.intake.enqueue(submission).await {
            Ok(Status::Waiting) => {}
            status => {
                self.shared.waiting.lock().remove(&task);
                return Ok(status?);
            }
        }
        let ended = || {
            Failure::new(
                ErrorKind::Canceled,
                Retry::Safe,
                "merge.stopped",
                "the merge queue stopped",
                "open the run again",
            )
        };
        Ok(answered.await.unwrap_or_else(|_stopped| Err(ended()))?)
    }

    /// Stops driving the queue and waits until that has happened.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn stop(&self) {
        self.shared.cancel.cancel();
        self.shared.tracker.wait().await;
    }
}

/// Drives the queue until it is stopped or nobody holds it.
async fn drive(mut queue: MergeQueue, shared: std::sync::Weak<Shared>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = queue.wait() => {}
            () = cancel.cancelled() => return,
        }
        let drained = tokio::select! {
            drained = queue.drain() => drained,
            () = cancel.cancelled() => return,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match drained {
            Ok(progress) => {
                for settled in progress.settled {
                    shared.tell(settled);
                }
                if let Some(failure) = progress.unavailable {
                    shared.fail_all(&failure);
                }
            }
            Err(error) => shared.fail_all(&Failure::of(&error)),
        }
    }
}

impl Shared {
    fn tell(&self, settled: Settled) {
        let waiter = self.waiting.lock().remove(&settled.task);
        if let Some(waiter) = waiter {
            // The agent may be gone; handing the change in again gives the same answer.
            let _gone = waiter.send(Ok(settled.status));
        }
    }

    /// Tells everybody who waits that the queue is in trouble; recovery hands the changes in again.
    fn fail_all(&self, failure: &Failure) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (_, waiter) in waiting {
            let _gone = waiter.send(Err(failure.clone()));
        }
    }
}

#[async_trait]
impl Agent for Lander {
    async fn run(&self, cx: &Ctx, task: &Task) -> Result<Ended> {
        let head = task
            .output
            .as_ref()
            .and_then(|output| output.get("change")?.get("head")?.as_str())
            .ok_or_else(|| {
                Error::invalid("output.change.head", "the task has no change to land")
            })?;
        let commit: ObjectId = head.parse()?;
        let author = task
            .author
            .ok_or_else(|| Error::invalid("task.author", "nobody did the work of this task"))?;
        let arguments = json!({ "task": task.id, "head": head, "author": author });
        let effect = Effect::new(
            "merge.land",
            &self.shared.target,
            EffectClass::Idempotent,
            arguments,
        );
        let submission = Submission::new(task.id, author, commit);
        let status: Status = cx
            .effect("land", effect, |_scope| async move {
                Ok(Acted::new(self.land(submission).await?).with_call("merge.land"))
            })
            .await?;
        match status {
            Status::Landed { commit } => Ok(Ended::landed(
                json!({ "commit": commit, "target": self.shared.target }),
            )),
            Status::Conflicted {
                conflicts, onto, ..
            } => Err(conflict(&format!(
                "the change does not fit the target at {onto}: {conflicts:?}"
            ))),
            Status::Rejected { rejection } => Ok(Ended::refused(
                json!({ "rejection": rejection, "head": head }),
            )),
            _ => Err(conflict("the change left the queue without landing")),
        }
    }
}

fn conflict(message: &str) -> Error {
    let fix = "make the change again on the target's tip";
    Error::Agent(Failure::new(
        ErrorKind::Conflict,
        Retry::Never,
        CONFLICT,
        message,
        fix,
    ))
}

impl From<crate::merge::Error> for Error {
    fn from(error: crate::merge::Error) -> Self {
        Self::backend("merge", error.retry(), error)
    }
}
