//! The next moment at which something is due, so that one timer per run serves every wait on time
//! and no agent polls.

use agent_core::{Clock, ClockExt, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One timer that is moved forward as earlier moments become known.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    next: Mutex<Option<Timestamp>>,
    moved: Notify,
}

impl Alarm {
    /// Makes the timer go off at `due` unless it goes off earlier.
    pub(crate) fn set(&self, due: Timestamp) {
        let mut next = self.next.lock();
        if next.is_none_or(|next| due < next) {
            *next = Some(due);
            self.moved.notify_one();
        }
    }

    /// Waits for the timer, at most until `latest`, and clears it: whoever waited looks for what is
    /// due and sets it again.
    pub(crate) async fn wait(&self, clock: &dyn Clock, latest: Timestamp) {
        loop {
            let moved = self.moved.notified();
            let until = self.next.lock().map_or(latest, |next| next.min(latest));
            if clock.deadline(until, moved).await.is_none() {
                *self.next.lock() = None;
                return;
            }
        }
    }
}
