//! What this process remembers of the leases it gave out: which steps certainly have no row yet, so
//! that a pure step need not be looked up before it happens.
//!
//! Nothing depends on it but speed. A step's row is written only by the holder of the lease, under
//! its fence; a lease that was lost without this memory hearing of it is noticed when the outcome
//! is recorded.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use agent_core::{Fence, TaskId, Timestamp};
use parking_lot::Mutex;

use crate::journal::StepKey;
use crate::task::Lease;

/// The leases of this process.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<TaskId, Attempt>>);

#[derive(Debug)]
struct Attempt {
    fence: Fence,
    until: Timestamp,
    /// The hashes of the steps that may have a row.
    steps: HashSet<u64>,
}

impl Seen {
    /// The most steps remembered of an attempt: 8 bytes each, and as many as most pools allow.
    pub(super) const STEPS_MAX: usize = 10_000;
    /// The most leases remembered; tasks beyond it are looked up in the store.
    const LEASES_MAX: usize = 16_384;

    /// Remembers a lease and the steps its attempt finds.
    pub(super) fn admit(&self, lease: &Lease, steps: Option<Vec<StepKey>>, now: Timestamp) {
        let mut leases = self.0.lock();
        let Some(steps) = steps else {
            leases.remove(&lease.task);
            return;
        };
        if leases.len() >= Self::LEASES_MAX {
            leases.retain(|_, attempt| attempt.until > now);
            if leases.len() >= Self::LEASES_MAX {
                return;
            }
        }
        let attempt = Attempt {
            fence: lease.fence,
            until: lease.until,
            steps: steps.iter().map(hash).collect(),
        };
        leases.insert(lease.task, attempt);
    }

    /// Notes that a lease was renewed.
    pub(super) fn extend(&self, lease: &Lease, until: Timestamp) {
        if let Some(attempt) = self.0.lock().get_mut(&lease.task)
            && attempt.fence == lease.fence
        {
            attempt.until = until;
        }
    }

    /// Forgets a lease.
    pub(super) fn forget(&self, lease: &Lease) {
        self.0.lock().remove(&lease.task);
    }

    /// Forgets all leases, since some may be over or wanted back.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Returns whether the lease holds, as far as is known here, and the step has no row. The step
    /// may have one afterwards.
    pub(super) fn is_fresh(&self, lease: &Lease, step: &StepKey, now: Timestamp) -> bool {
        let mut leases = self.0.lock();
        let Some(attempt) = leases.get_mut(&lease.task) else {
            return false;
        };
        if attempt.fence != lease.fence || attempt.until <= now {
            return false;
        }
        if attempt.steps.len() >= Self::STEPS_MAX {
            leases.remove(&lease.task);
            return false;
        }
        attempt.steps.insert(hash(step))
    }
}

fn hash(step: &StepKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    step.name.hash(&mut hasher);
    step.ordinal.hash(&mut hasher);
    hasher.finish()
}
