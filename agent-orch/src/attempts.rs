//! The attempts under way in this process: what the journal decided about a task reaches whoever
//! works on it at once, not when the lease ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::{CancellationToken, Fence, TaskId};
use parking_lot::Mutex;

use crate::task::Lease;

/// All attempts of one run in this process.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    live: Mutex<BTreeMap<TaskId, Live>>,
}

#[derive(Debug)]
struct Live {
    fence: Fence,
    cancel: CancellationToken,
    yields: Arc<AtomicBool>,
}

impl Attempts {
    /// Enters an attempt until the guard is dropped. `cancel` stops it at any await.
    pub(crate) fn enter<'a>(&'a self, lease: &Lease, cancel: CancellationToken) -> Entered<'a> {
        let yields = Arc::new(AtomicBool::new(false));
        let live = Live {
            fence: lease.fence,
            cancel,
            yields: Arc::clone(&yields),
        };
        self.live.lock().insert(lease.task, live);
        Entered {
            attempts: self,
            task: lease.task,
            fence: lease.fence,
            yields,
        }
    }

    /// Stops the attempt at a task and returns whether there was one.
    pub(crate) fn stop(&self, task: TaskId) -> bool {
        let live = self.live.lock();
        let found = live.get(&task);
        if let Some(live) = found {
            live.cancel.cancel();
        }
        found.is_some()
    }

    /// Asks the attempt at a task to give it back at its next step and returns whether there is
    /// one.
    pub(crate) fn ask_to_yield(&self, task: TaskId) -> bool {
        let live = self.live.lock();
        let found = live.get(&task);
        if let Some(live) = found {
            live.yields.store(true, Ordering::Release);
        }
        found.is_some()
    }
}

/// One attempt under way.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    attempts: &'a Attempts,
    task: TaskId,
    fence: Fence,
    /// Whether somebody asked for the task back at the next step.
    pub(crate) yields: Arc<AtomicBool>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut live = self.attempts.live.lock();
        if live.get(&self.task).is_some_and(|l| l.fence == self.fence) {
            live.remove(&self.task);
        }
    }
}
