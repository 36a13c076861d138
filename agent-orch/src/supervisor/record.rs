//! The record of supervision: each restart and meltdown becomes an audit record, without holding
//! up the restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_core::{Event, Scope};
use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Health;
use super::tree::places_under;
use crate::fleet::Fleet;
use crate::runner::Shared;
use crate::supervise::{Notice, Watch};

/// How many notices may wait for the journal: a crash storm that is faster than the disk for longer
/// slows the restarts down, and loses none of them.
const NOTICES_MAX: usize = 4_096;
/// How many notices go into the journal at once, in one or two commits.
const BATCH_MAX: usize = 256;

/// Queues notices for the journal.
#[derive(Debug)]
pub(super) struct Recorder {
    notices: mpsc::Sender<Notice>,
    health: Arc<Health>,
}

/// The other end of the queue.
pub(super) struct Recording {
    notices: mpsc::Receiver<Notice>,
    health: Arc<Health>,
}

pub(super) fn recorder(health: &Arc<Health>) -> (Recorder, Recording) {
    let (sender, receiver) = mpsc::channel(NOTICES_MAX);
    let recorder = Recorder {
        notices: sender,
        health: Arc::clone(health),
    };
    let recording = Recording {
        notices: receiver,
        health: Arc::clone(health),
    };
    (recorder, recording)
}

#[async_trait]
impl Watch for Recorder {
    async fn notice(&self, notice: Notice) {
        if matches!(notice, Notice::Restarting { .. }) {
            self.health.restarts.fetch_add(1, Ordering::Relaxed);
        }
        // The other end lives as long as this one, unless the host's runtime is going down.
        let _closing = self.notices.send(notice).await;
    }
}

impl Recording {
    /// Writes notices down until the tree has ended and all are written.
    pub(super) async fn run(mut self, shared: Arc<Shared>, host: Scope) {
        let mut batch = Vec::new();
        while self.notices.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let written = batch.iter().map(|notice| {
                let (kind, payload) = entry(notice, &shared.fleet());
                let event = Event::new(&host, shared.env.clock.now(), kind, payload);
                shared.journal.note(event)
            });
            for result in join_all(written).await {
                // Supervision goes on even when the journal cannot be reached.
                if let Err(error) = result {
                    tracing::warn!(%error, "a supervision event was not recorded");
                }
            }
            for notice in batch.drain(..) {
                if let Notice::Quarantined { group, failure, .. } = notice {
                    let name = place(&group).to_owned();
                    self.health.quarantined.lock().insert(name, failure);
                    shared.moved.notify_waiters();
                }
            }
        }
    }
}

/// Returns how a pool or lane is called outside of the tree.
pub(super) fn place(node: &str) -> &str {
    let pool = node.strip_prefix("pool.");
    pool.or_else(|| node.strip_prefix("lane.")).unwrap_or(node)
}

fn entry(notice: &Notice, fleet: &Fleet) -> (&'static str, Value) {
    match notice {
        Notice::Restarting {
            child,
            failure,
            wait,
        } => {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let payload = json!({ "agent": **child, "failure": failure, "wait_ms": wait_ms });
            ("agent.restarted", payload)
        }
        Notice::Left { child, failure } => {
            let payload = json!({ "agent": **child, "failure": failure });
            ("agent.left", payload)
        }
        Notice::Escalated {
            group,
            child,
            failure,
        } => {
            let payload = json!({ "pool": place(group), "agent": **child, "failure": failure });
            ("pool.escalated", payload)
        }
        Notice::Quarantined {
            group,
            child,
            failure,
        } => {
            let payload = json!({
                "pool": place(group), "agent": **child, "failure": failure,
                "pools": places_under(fleet, group),
            });
            ("pool.quarantined", payload)
        }
    }
}
