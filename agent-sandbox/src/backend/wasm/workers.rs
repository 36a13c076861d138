//! The threads guests run on, and the one that makes them look up.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use agent_core::Retry;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use wasmtime::EngineWeak;

use crate::error::{Error, Result};

/// How often a running guest is asked whether it may go on: a cancellation is seen this late.
const TICK: Duration = Duration::from_millis(2);

/// How many ticks without a job send the ticker to sleep: waking it costs each first guest a few
/// microseconds, so it stays up through short pauses.
const IDLE_TICKS_MAX: u32 = 50;

/// A worker's stack: room for the wasm stack of a guest four times.
const STACK_BYTES: usize = 2 << 20;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    n_threads: usize,
    n_idle: usize,
    /// Jobs that are running.
    n_busy: usize,
    engines: Vec<EngineWeak>,
    has_ticker: bool,
    /// The ticker waits to be woken.
    ticker_sleeps: bool,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes workers.
    work: Condvar,
    /// Wakes the ticker.
    tick: Condvar,
    threads_max: usize,
    tracker: TaskTracker,
}

/// A bounded pool of named threads, started as they are needed. Dropping it ends them when their
/// jobs have ended.
pub(super) struct Workers(Arc<Shared>);

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("threads_max", &self.0.threads_max)
            .finish_non_exhaustive()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Workers {
    pub(super) fn new(threads_max: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            tick: Condvar::new(),
            threads_max,
            tracker: TaskTracker::new(),
        }))
    }

    /// Makes the guests of an engine look up at each tick.
    pub(super) fn watch(&self, engine: &wasmtime::Engine) {
        self.0.state.lock().engines.push(engine.weak());
    }

    /// Runs a job on a worker. If all are busy it waits; callers bound how many do.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(Error::closed("runtime"));
        }
        self.ensure_ticker(&mut state)?;
        if state.n_idle <= state.jobs.len() && state.n_threads < self.0.threads_max {
            self.spawn("agent-wasm", work)?;
            state.n_threads = state.n_threads.saturating_add(1);
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        self.0.work.notify_one();
        Ok(())
    }

    fn ensure_ticker(&self, state: &mut State) -> Result<()> {
        if !state.has_ticker {
            self.spawn("agent-wasm-tick", tick)?;
            state.has_ticker = true;
        }
        Ok(())
    }

    /// Keeps the ticker going for a guest on a thread of the caller's.
    pub(super) fn keep_ticking(&self) -> Result<Awake> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(Error::closed("runtime"));
        }
        self.ensure_ticker(&mut state)?;
        state.n_busy = state.n_busy.saturating_add(1);
        if state.ticker_sleeps {
            self.0.tick.notify_one();
        }
        drop(state);
        Ok(Awake(Arc::clone(&self.0)))
    }

    /// Runs a job on a worker and waits for its result. The job runs to its end in any case.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (send, receive) = oneshot::channel();
        self.submit(move || {
            // Nobody waits for the result if the caller went away.
            let _unwanted = send.send(job());
        })?;
        receive
            .await
            .map_err(|lost| Error::backend("wasm", "run a job", Retry::Unknown, lost))
    }

    fn spawn(&self, name: &str, body: fn(&Shared)) -> Result<()> {
        let shared = Arc::clone(&self.0);
        let token = self.0.tracker.token();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            body(&shared);
            drop(token);
        });
        spawned
            .map(drop)
            .map_err(|error| Error::backend("wasm", "start a thread", Retry::Safe, error))
    }

    /// Lets no more jobs in; those that were taken still run.
    pub(super) fn shut(&self) {
        self.0.state.lock().closed = true;
        self.0.work.notify_all();
        self.0.tick.notify_all();
        self.0.tracker.close();
    }

    /// Waits for every thread to end.
    pub(super) async fn ended(&self) {
        self.0.tracker.wait().await;
    }
}

/// Keeps the ticker going while it lives.
pub(super) struct Awake(Arc<Shared>);

impl Drop for Awake {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.n_busy = state.n_busy.saturating_sub(1);
    }
}

/// Runs jobs until the pool is closed and none is left.
fn work(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        let Some(job) = state.jobs.pop_front() else {
            if state.closed {
                return;
            }
            state.n_idle = state.n_idle.saturating_add(1);
            shared.work.wait(&mut state);
            state.n_idle = state.n_idle.saturating_sub(1);
            continue;
        };
        state.n_busy = state.n_busy.saturating_add(1);
        if state.ticker_sleeps {
            shared.tick.notify_one();
        }
        drop(state);
        // A panic in a job is a bug here; it must not take the thread's slot with it. Whoever
        // waits sees that the job was lost.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a guest's thread panicked");
        }
        state = shared.state.lock();
        state.n_busy = state.n_busy.saturating_sub(1);
    }
}

/// Moves the epoch on while jobs run, and sleeps when none has run for a while.
fn tick(shared: &Shared) {
    let mut state = shared.state.lock();
    let mut idle_ticks = 0_u32;
    loop {
        if state.n_busy > 0 {
            idle_ticks = 0;
            state.engines.retain(|engine| match engine.upgrade() {
                Some(engine) => {
                    engine.increment_epoch();
                    true
                }
                None => false,
            });
        } else if state.closed && state.jobs.is_empty() {
            return;
        } else if idle_ticks >= IDLE_TICKS_MAX {
            state.ticker_sleeps = true;
            shared.tick.wait(&mut state);
            state.ticker_sleeps = false;
            idle_ticks = 0;
            continue;
        }
        idle_ticks = idle_ticks.saturating_add(1);
        shared.tick.wait_for(&mut state, TICK);
    }
}
