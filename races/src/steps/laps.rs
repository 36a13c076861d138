//! When a workflow passed each of its steps, whoever runs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Clock;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The workflows that run, by id. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Laps {
    clock: Arc<dyn Clock>,
    n_steps: usize,
    running: Arc<Mutex<HashMap<String, Running>>>,
}

#[derive(Debug)]
struct Running {
    passed: Vec<Duration>,
    done: oneshot::Sender<Vec<Duration>>,
}

impl Laps {
    pub(crate) fn new(clock: Arc<dyn Clock>, n_steps: u32) -> Self {
        Self {
            clock,
            n_steps: usize::try_from(n_steps).unwrap_or(usize::MAX),
            running: Arc::default(),
        }
    }

    /// Announces a workflow. The answer comes when its last step is passed: how long each took.
    pub(crate) fn start(&self, id: &str) -> oneshot::Receiver<Vec<Duration>> {
        let (done, answer) = oneshot::channel();
        let passed = Vec::with_capacity(self.n_steps + 1);
        let running = Running { passed, done };
        self.running.lock().insert(id.to_owned(), running);
        answer
    }

    /// Notes that a workflow has `n` steps behind it. Only the first time counts, since some
    /// engines run the code of a workflow again from its start to find out where it is.
    pub(crate) fn pass(&self, id: &str, n: u32) {
        let at = self.clock.monotonic();
        let mut all = self.running.lock();
        let Some(running) = all.get_mut(id) else {
            return;
        };
        if usize::try_from(n) == Ok(running.passed.len()) {
            running.passed.push(at);
        }
        if running.passed.len() > self.n_steps
            && let Some(Running { passed, done }) = all.remove(id)
        {
            let laps = passed.iter().zip(passed.iter().skip(1));
            let laps = laps.map(|(from, to)| to.saturating_sub(*from)).collect();
            // The round may be over; then nobody counts this workflow.
            let _gone = done.send(laps);
        }
    }
}
