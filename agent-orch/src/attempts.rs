//! The attempts under way in this process: what the journal decided about a task reaches whoever
//! works on it at once, not when the lease ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agent_core::{CancellationToken, TaskId};
use parking_lot::Mutex;

use crate::task::{Lease, Task};

/// All attempts of one run in this process.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    live: Mutex<Lives>,
    n_entered: AtomicU64,
}

#[derive(Debug, Default)]
struct Lives {
    by_task: BTreeMap<TaskId, Live>,
    /// The same tasks under the root of their delegation tree.
    by_root: BTreeSet<(TaskId, TaskId)>,
}

#[derive(Debug)]
struct Live {
    lease: Lease,
    cancel: CancellationToken,
    yields: Arc<AtomicBool>,
    /// Whether it is to give way to more urgent work.
    is_preempted: Arc<AtomicBool>,
    pool: String,
    priority: u8,
    /// Rises with every attempt.
    order: u64,
}

impl Attempts {
    /// Enters an attempt until the guard is dropped. `cancel` stops it at any await.
    pub(crate) fn enter<'a>(
        &'a self,
        lease: &Lease,
        task: &Task,
        cancel: CancellationToken,
    ) -> Entered<'a> {
        let yields = Arc::new(AtomicBool::new(false));
        let is_preempted = Arc::new(AtomicBool::new(false));
        let live = Live {
            lease: lease.clone(),
            cancel,
            yields: Arc::clone(&yields),
            is_preempted: Arc::clone(&is_preempted),
            pool: task.pool.clone(),
            priority: task.priority,
            order: self.n_entered.fetch_add(1, Ordering::Relaxed),
        };
        let mut lives = self.live.lock();
        lives.by_task.insert(lease.task, live);
        lives.by_root.insert((task.root, lease.task));
        Entered {
            attempts: self,
            lease: lease.clone(),
            root: task.root,
            yields,
            is_preempted,
        }
    }

    /// Asks up to `n` attempts of a pool to give way at their next step: the least urgent first,
    /// of equals the latest, none more urgent than `victim`. Those asked before count.
    pub(crate) fn preempt(&self, pool: &str, victim: u8, n: u64) {
        let lives = self.live.lock();
        let of_pool = || lives.by_task.values().filter(|live| live.pool == pool);
        let is_asked = |live: &&Live| live.is_preempted.load(Ordering::Acquire);
        let n_asked = of_pool().filter(is_asked).count();
        let mut victims: Vec<&Live> = of_pool()
            .filter(|live| live.priority >= victim && !is_asked(live))
            .collect();
        victims.sort_unstable_by_key(|live| std::cmp::Reverse((live.priority, live.order)));
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        for live in victims.into_iter().take(n.saturating_sub(n_asked)) {
            live.is_preempted.store(true, Ordering::Release);
            live.yields.store(true, Ordering::Release);
        }
    }

    /// Stops the attempt at a task under this lease and returns whether there was one.
    pub(crate) fn stop(&self, lease: &Lease) -> bool {
        let lives = self.live.lock();
        let found = lives.by_task.get(&lease.task);
        let found = found.filter(|live| live.lease.fence == lease.fence);
        if let Some(live) = found {
            live.cancel.cancel();
        }
        found.is_some()
    }

    /// Asks the attempt at a task to give it back at its next step and returns whether there is
    /// one.
    pub(crate) fn ask_to_yield(&self, task: TaskId) -> bool {
        let lives = self.live.lock();
        let found = lives.by_task.get(&task);
        if let Some(live) = found {
            live.yields.store(true, Ordering::Release);
        }
        found.is_some()
    }

    /// Returns the leases of all attempts.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        let lives = self.live.lock();
        lives
            .by_task
            .values()
            .map(|live| live.lease.clone())
            .collect()
    }

    /// Returns the leases of a delegation tree's attempts.
    pub(crate) fn leases_of(&self, root: TaskId) -> Vec<Lease> {
        let lives = self.live.lock();
        let (first, last) = (TaskId::from_bits(0), TaskId::from_bits(u128::MAX));
        lives
            .by_root
            .range((root, first)..=(root, last))
            .filter_map(|(_, task)| lives.by_task.get(task))
            .map(|live| live.lease.clone())
            .collect()
    }
}

/// One attempt under way.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    attempts: &'a Attempts,
    lease: Lease,
    root: TaskId,
    /// Whether somebody asked for the task back at the next step.
    pub(crate) yields: Arc<AtomicBool>,
    is_preempted: Arc<AtomicBool>,
}

impl Entered<'_> {
    /// Returns whether it is more urgent work that wants the agent.
    pub(crate) fn is_preempted(&self) -> bool {
        self.is_preempted.load(Ordering::Acquire)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut lives = self.attempts.live.lock();
        let task = self.lease.task;
        let is_mine = |live: &Live| live.lease.fence == self.lease.fence;
        if lives.by_task.get(&task).is_some_and(is_mine) {
            lives.by_task.remove(&task);
            lives.by_root.remove(&(self.root, task));
        }
    }
}
