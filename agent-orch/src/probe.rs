//! Probes: what an attempt shows of itself, and what is made of its silence.
//!
//! The pulse is kept in the process: a step costs three stores, and no write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agent_core::{Clock, ClockExt, ErrorKind, Failure, Retry, Unit};

use crate::fleet::Probes;
use crate::journal::Outcome;
use crate::recovery::Class;

/// When an attempt last showed what.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Arc<dyn Clock>,
    alive_ms: AtomicU64,
    event_ms: AtomicU64,
    tokens_ms: AtomicU64,
}

impl Pulse {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let now = AtomicU64::new(ms(clock.monotonic()));
        let same = || AtomicU64::new(now.load(Ordering::Relaxed));
        Self {
            alive_ms: same(),
            event_ms: same(),
            tokens_ms: same(),
            clock,
        }
    }

    /// The agent lives.
    pub(crate) fn alive(&self) {
        self.set(&[&self.alive_ms]);
    }

    /// A step began.
    pub(crate) fn event(&self) {
        self.set(&[&self.alive_ms, &self.event_ms]);
    }

    /// A step ended.
    pub(crate) fn outcome(&self, outcome: &Outcome) {
        let tokens = [
            Unit::TokensIn,
            Unit::TokensOut,
            Unit::TokensCached,
            Unit::TokensReasoning,
        ];
        let has_tokens = outcome
            .usage
            .iter()
            .any(|record| tokens.iter().any(|unit| record.usage.get(*unit) > 0));
        self.event();
        if has_tokens {
            self.set(&[&self.tokens_ms]);
        }
    }

    fn set(&self, marks: &[&AtomicU64]) {
        let now = ms(self.clock.monotonic());
        for mark in marks {
            mark.store(now, Ordering::Relaxed);
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a probe found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The agent is to be restarted.
    Dead(Failure),
    /// The task is to be recovered.
    Stuck(Failure),
}

impl Finding {
    pub(crate) const fn failure(&self) -> &Failure {
        match self {
            Self::Dead(failure) | Self::Stuck(failure) => failure,
        }
    }
}

/// Waits until a probe of an attempt fails; for ever if there is none.
pub(crate) async fn watch(pulse: &Pulse, probes: &Probes) -> Finding {
    loop {
        let marks = [
            (&pulse.alive_ms, probes.liveness),
            (&pulse.event_ms, probes.events),
            (&pulse.tokens_ms, probes.tokens),
        ];
        let now = ms(pulse.clock.monotonic());
        let mut wait = None;
        for (n, (mark, window)) in marks.into_iter().enumerate() {
            let Some(window) = window else { continue };
            let passed = Duration::from_millis(now.saturating_sub(mark.load(Ordering::Relaxed)));
            if passed >= window {
                return finding(n, window);
            }
            let left = window - passed;
            wait = Some(wait.map_or(left, |wait: Duration| wait.min(left)));
        }
        match wait {
            Some(wait) => pulse.clock.sleep(wait).await,
            None => std::future::pending().await,
        }
    }
}

fn finding(n: usize, window: Duration) -> Finding {
    let (probe, fix) = match n {
        0 => {
            let fix = "call `Ctx::alive` during long work, or widen `probes.liveness`";
            ("shows no sign of life", fix)
        }
        1 => ("makes no step", "widen `probes.progress.events`"),
        _ => ("uses no tokens", "widen `probes.progress.tokens`"),
    };
    let message = format!("the attempt {probe} within {window:?}");
    let failure = |kind, code| Failure::new(kind, Retry::Unknown, code, &message, fix);
    match n {
        0 => Finding::Dead(failure(ErrorKind::TimedOut, "orch.not_alive")),
        _ => Finding::Stuck(failure(ErrorKind::TimedOut, Class::STUCK_CODE)),
    }
}

/// Waits until an agent that has not started by then is overdue; for ever if it is not probed or
/// has started.
pub(crate) async fn startup(started: &AtomicBool, probes: &Probes, clock: &dyn Clock) -> Failure {
    if let Some(within) = probes.startup {
        clock.sleep(within).await;
        if !started.load(Ordering::Acquire) {
            let message = format!("the agent did not ask for work within {within:?}");
            let fix = "see why it is not ready, or widen `probes.startup`";
            let kind = ErrorKind::TimedOut;
            return Failure::new(kind, Retry::Safe, "orch.not_started", &message, fix);
        }
    }
    std::future::pending().await
}
