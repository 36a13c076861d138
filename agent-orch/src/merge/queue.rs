//! The merge queue: carries out plans against a repository and a check.

mod config;
mod intake;
mod round;

use std::sync::Arc;

use agent_core::{Failure, TaskId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::check::Check;
use super::error::{Error, Result};
use super::git::Repository;
use super::limits::Limits;
use super::object::ObjectId;
use super::plan::Snapshot;
use super::status::{Rejection, Settled};
use round::Step;

pub use config::QueueConfig;
pub use intake::{Intake, Submission};

/// What a call did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The changes that reached a final status, in order.
    pub settled: Vec<Settled>,
    /// The changes that wait for a dependency that is not there.
    pub blocked: Vec<TaskId>,
    /// Why the check could not run; the changes it was for still wait.
    pub unavailable: Option<Failure>,
}

/// Lands changes on one target. One owner drives it; any number hand in changes by [`Intake`].
#[derive(Debug)]
pub struct MergeQueue {
    shared: Arc<Shared>,
    check: Arc<dyn Check>,
    limits: Limits,
    /// The target's tip at the last look. Elsewhere means that history must be read again.
    tip: Option<ObjectId>,
    /// Settled, and not returned to the caller yet.
    settled: Vec<Settled>,
}

#[derive(Debug)]
struct Shared {
    repo: Repository,
    target: String,
    state: Mutex<Snapshot>,
    arrived: Notify,
}

impl MergeQueue {
    /// Times in a row another writer may win the target before [`MergeQueue::drain`] gives up.
    pub const RACES_MAX: usize = 16;

    /// Opens a queue on a target, which is created if it is absent.
    ///
    /// # Errors
    /// As [`Repository::open_target`]; `Invalid` for a snapshot of another version.
    ///
    /// # Cancel safety
    /// Atomic and idempotent.
    pub async fn open(
        repo: Repository,
        config: QueueConfig,
        check: Arc<dyn Check>,
    ) -> Result<Self> {
        let QueueConfig {
            target,
            start,
            limits,
            snapshot,
        } = config;
        if !snapshot.is_readable() {
            return Err(Error::invalid(
                "snapshot",
                "another version of the library wrote it",
            ));
        }
        repo.open_target(&target, start).await?;
        let state = Mutex::new(snapshot);
        let shared = Arc::new(Shared {
            repo,
            target,
            state,
            arrived: Notify::new(),
        });
        let mut queue = Self {
            shared,
            check,
            limits,
            tip: None,
            settled: Vec::new(),
        };
        queue.look().await?;
        if queue.shared.state.lock().waiting().next().is_some() {
            queue.shared.arrived.notify_one();
        }
        Ok(queue)
    }

    /// Returns a handle to hand in changes.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits until a change is handed in. One that came before the call counts, as does one that
    /// waits in the snapshot, so nothing is missed between [`MergeQueue::drain`] and this.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait(&self) {
        self.shared.arrived.notified().await;
    }

    /// Runs rounds until nothing can be done: each waiting change landed, conflicted, was rejected,
    /// or is blocked by a dependency. Stops early if the check cannot run.
    ///
    /// # Errors
    /// `Moved` if another writer wins the target time and again; `Backend`, `Corrupt`. What settled
    /// before an error is returned by the next call.
    ///
    /// # Cancel safety
    /// Cancel safe: what landed is found in the target's history by the next call.
    pub async fn drain(&mut self) -> Result<Progress> {
        let mut progress = Progress::default();
        let mut n_races: usize = 0;
        loop {
            match self.round().await? {
                Step::Again => n_races = 0,
                Step::Raced if n_races < Self::RACES_MAX => n_races = n_races.saturating_add(1),
                Step::Raced => {
                    let reference = self.shared.target.clone();
                    let expected = self.shared.repo.tip(&reference).await?;
                    return Err(Error::Moved {
                        reference,
                        expected,
                    });
                }
                Step::Idle(blocked) => {
                    progress.blocked = blocked;
                    break;
                }
                Step::Unavailable(failure) => {
                    progress.unavailable = Some(failure);
                    break;
                }
            }
        }
        progress.settled = std::mem::take(&mut self.settled);
        Ok(progress)
    }

    /// Rejects every change that waits, so that each has a final status.
    #[must_use]
    pub fn close(mut self) -> Vec<Settled> {
        let mut state = self.shared.state.lock();
        let waiting: Vec<_> = state
            .waiting()
            .map(|task| (task, Rejection::Closed))
            .collect();
        self.settled.extend(state.reject(waiting));
        drop(state);
        self.settled
    }
}
