//! What happens, and in which order.

use agent_orch::supervise::NodeId;

use crate::simulation::store::{Answer, Command};

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A call reaches the store, from a worker's life or from outside.
    Reach {
        from: Option<(usize, u64, u64)>,
        command: Command,
    },
    /// The open batch gets on disk, and its answers leave.
    Sync,
    /// An answer reaches a worker's life.
    Hear {
        worker: usize,
        life: u64,
        call: u64,
        answer: Answer,
    },
    /// A worker stops waiting for an answer.
    GiveUp { worker: usize, life: u64, call: u64 },
    /// A worker looks for work.
    Look { worker: usize, life: u64 },
    /// A worker causes the effect it may.
    Act { worker: usize, life: u64 },
    /// A worker renews its lease.
    Renew {
        worker: usize,
        life: u64,
        fence: u64,
    },
    /// Ended leases are taken back.
    Sweep,
    /// A person looks at open questions, and at supervisors that gave up.
    Person,
    /// A supervisor has waited long enough.
    Due { node: NodeId, turn: u32 },
    /// Something breaks.
    Fault,
}

pub(super) struct Due(pub(crate) u64, pub(crate) u64, pub(crate) Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
