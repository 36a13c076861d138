//! The waits of a tree: restarts that are due, and last moments.

use std::time::Duration;

use agent_core::{Clock, ClockExt};
use tokio::task::Id;

use super::Supervise;
use crate::supervise::tree::{Event, NodeId};

/// What a wait was for.
#[derive(Debug)]
pub(super) enum Timer {
    /// A restart.
    Due { node: NodeId, turn: u32 },
    /// A child's last moment to finish what it is at.
    Drained { node: NodeId, run: Id },
    /// A child's last moment to stop.
    Abort { node: NodeId, run: Id },
}

impl Supervise {
    pub(super) fn set_timer(&mut self, due: Duration, timer: Timer) {
        self.n_timers = self.n_timers.wrapping_add(1);
        self.timers.insert((due, self.n_timers), timer);
    }

    pub(super) async fn timer(&mut self) {
        let now = self.env.clock.monotonic();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Timer::Due { node, turn } => self.apply(Event::Due { node, turn }).await,
                Timer::Drained { node, run } if self.is_run(node, run) => {
                    self.apply(Event::Stop(node)).await;
                }
                Timer::Abort { node, run } if self.is_run(node, run) => {
                    let slot = self.slots.get(node.index());
                    if let Some((_, handle)) = slot.and_then(|slot| slot.running.as_ref()) {
                        handle.abort();
                    }
                }
                Timer::Drained { .. } | Timer::Abort { .. } => {}
            }
        }
    }

    fn is_run(&self, node: NodeId, run: Id) -> bool {
        let slot = self.slots.get(node.index());
        slot.and_then(|slot| slot.running.as_ref())
            .is_some_and(|(_, handle)| handle.id() == run)
    }
}

pub(super) async fn wait_for(clock: &dyn Clock, due: Option<Duration>) {
    if let Some(due) = due {
        // A clock that waits in milliseconds must not wake up a fraction early, again and again.
        let left = due.saturating_sub(clock.monotonic());
        let whole = left.as_nanos().div_ceil(1_000_000);
        let whole = u64::try_from(whole).unwrap_or(u64::MAX);
        clock.sleep(Duration::from_millis(whole)).await;
    }
}
