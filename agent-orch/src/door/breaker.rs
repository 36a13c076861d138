//! Circuit breakers: one for each (action, target, tenant), so that agents stop asking a side that
//! does not answer, and one of them at a time finds out whether it is back.
//!
//! ```text
//!            half of the window's calls failed
//!  closed ─────────────────────────────────────► open ──┐ the wait is over
//!    ▲                                            ▲     ▼
//!    │ the probe is answered     the probe fails: │  half open: one probe at a time
//!    └────────────────────────────────────────────┴─────┘   a longer wait
//! ```
//!
//! [`Breaker`] is pure: the clock is passed in. [`Breakers`] keeps one for each other side.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Classify, Effect, ErrorKind, Scope, Timestamp};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::fleet::BreakerPolicy;

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// No call before the moment.
    #[non_exhaustive]
    Open {
        /// When the other side is asked again.
        until: Timestamp,
    },
    /// One call at a time, to see whether the other side is back.
    HalfOpen,
}

impl BreakerState {
    /// Returns the kind of the audit record of a change to it.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Closed => "breaker.closed",
            Self::Open { .. } => "breaker.opened",
            Self::HalfOpen => "breaker.half_opened",
        }
    }
}

/// How a call ended, as far as it says something about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It answered, be it with an error.
    Answered,
    /// It was away or did not answer in time.
    Nothing,
    /// The call was stopped on this side.
    Stopped,
}

impl Said {
    pub(super) fn by<T>(result: &Result<T>) -> Self {
        let Err(error) = result else {
            return Self::Answered;
        };
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::TimedOut => Self::Nothing,
            ErrorKind::Canceled => Self::Stopped,
            _ if matches!(error, Error::LeaseLost { .. }) => Self::Stopped,
            _ => Self::Answered,
        }
    }
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Make it.
    Go,
    /// Make it: what it says decides whether others may.
    Probe,
    /// Not now; ask again after this long.
    Wait(Duration),
}

/// The calls of a tenth of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    n: u64,
    calls: u32,
    failed: u32,
}

/// The parts of a window, so that it slides without a record of each call.
const BUCKETS: u64 = 10;

/// What is known of one other side.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    state: BreakerState,
    buckets: [Bucket; 10],
    /// How often it opened since it was last closed.
    n_opened: u32,
    /// Until when a probe is out: one that is never answered for does not keep others away.
    probe_until: Option<Timestamp>,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self {
            state: BreakerState::Closed,
            buckets: [Bucket {
                n: 0,
                calls: 0,
                failed: 0,
            }; 10],
            n_opened: 0,
            probe_until: None,
        }
    }

    /// Decides about one call and returns the state it moved to, if it moved.
    pub(super) fn admit(
        &mut self,
        policy: &BreakerPolicy,
        now: Timestamp,
    ) -> (Admission, Option<BreakerState>) {
        let moved = match self.state {
            BreakerState::Closed => return (Admission::Go, None),
            BreakerState::Open { until } if now < until => {
                return (Admission::Wait(until.since(now)), None);
            }
            BreakerState::Open { .. } => {
                self.state = BreakerState::HalfOpen;
                self.probe_until = None;
                Some(self.state)
            }
            BreakerState::HalfOpen => None,
        };
        match self.probe_until {
            Some(until) if now < until => (Admission::Wait(until.since(now)), moved),
            _ => {
                self.probe_until = Some(now.after(policy.wait(1)));
                (Admission::Probe, moved)
            }
        }
    }

    /// Takes note of how a call ended and returns the state it moved to, if it moved.
    pub(super) fn record(
        &mut self,
        policy: &BreakerPolicy,
        now: Timestamp,
        admitted: Admission,
        said: Said,
    ) -> Option<BreakerState> {
        match (self.state, admitted, said) {
            (BreakerState::HalfOpen, Admission::Probe, Said::Stopped) => {
                self.probe_until = None;
                None
            }
            (BreakerState::HalfOpen, Admission::Probe, Said::Answered) => {
                *self = Self::new();
                Some(self.state)
            }
            (BreakerState::HalfOpen, Admission::Probe, Said::Nothing) => {
                Some(self.open(policy, now))
            }
            (BreakerState::Closed, _, Said::Answered | Said::Nothing) => {
                let (calls, failed) = self.count(policy, now, said == Said::Nothing);
                let share = u64::from(calls).saturating_mul(policy.failed_percent.into());
                let is_over = u64::from(failed).saturating_mul(100) >= share;
                (calls >= policy.calls_min && is_over).then(|| self.open(policy, now))
            }
            // Calls that began before it opened say nothing about the time since.
            _ => None,
        }
    }

    fn open(&mut self, policy: &BreakerPolicy, now: Timestamp) -> BreakerState {
        self.n_opened = self.n_opened.saturating_add(1);
        self.buckets = [Bucket::default(); 10];
        self.probe_until = None;
        self.state = BreakerState::Open {
            until: now.after(policy.wait(self.n_opened)),
        };
        self.state
    }

    /// Adds a call to the window and returns the calls in it, and how many of them failed.
    fn count(&mut self, policy: &BreakerPolicy, now: Timestamp, is_failed: bool) -> (u32, u32) {
        let window_ms = u64::try_from(policy.window.as_millis()).unwrap_or(u64::MAX);
        let n = now.as_unix_ms_u64() / (window_ms / BUCKETS).max(1);
        let (mut calls, mut failed) = (0_u32, 0_u32);
        for (slot, bucket) in (0..).zip(&mut self.buckets) {
            if slot == n % BUCKETS {
                if bucket.n != n {
                    *bucket = Bucket {
                        n,
                        ..Bucket::default()
                    };
                }
                bucket.calls = bucket.calls.saturating_add(1);
                bucket.failed = bucket.failed.saturating_add(is_failed.into());
            }
            if bucket.n.saturating_add(BUCKETS) > n {
                calls = calls.saturating_add(bucket.calls);
                failed = failed.saturating_add(bucket.failed);
            }
        }
        (calls, failed)
    }
}

/// The breakers of one door.
#[derive(Debug)]
pub(super) struct Breakers {
    policy: RwLock<BreakerPolicy>,
    known: Mutex<BTreeMap<String, Breaker>>,
}

/// A call that was let through, until it is known how it ended.
#[derive(Debug)]
pub(super) struct Admitted {
    key: String,
    admission: Admission,
}

/// A change to be audited.
pub(super) type Change = Option<BreakerState>;

impl Breakers {
    /// The most sides that are watched; of those beyond, every call is let through. Enough for each
    /// tool of each tenant of a large fleet.
    const KNOWN_MAX: usize = 4_096;

    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy: RwLock::new(policy),
            known: Mutex::default(),
        }
    }

    /// Changes when breakers open from then on.
    pub(super) fn set_policy(&self, policy: BreakerPolicy) {
        *self.policy.write() = policy;
    }

    /// Lets a call through, or says how long to wait.
    pub(super) fn admit(
        &self,
        now: Timestamp,
        scope: &Scope,
        effect: &Effect,
    ) -> (Result<Admitted>, Change) {
        let key = format!("{}/{}/{}", scope.tenant, effect.action, effect.target);
        let policy = *self.policy.read();
        let mut known = self.known.lock();
        if known.len() >= Self::KNOWN_MAX && !known.contains_key(&key) {
            known.retain(|_, breaker| breaker.state != BreakerState::Closed);
        }
        if known.len() >= Self::KNOWN_MAX && !known.contains_key(&key) {
            let admission = Admission::Go;
            return (Ok(Admitted { key, admission }), None);
        }
        let breaker = known.entry(key.clone()).or_insert_with(Breaker::new);
        let (admission, change) = breaker.admit(&policy, now);
        drop(known);
        let admitted = match admission {
            Admission::Wait(retry_after) => Err(Error::BreakerOpen {
                action: effect.action.clone(),
                target: effect.target.clone(),
                retry_after,
            }),
            admission => Ok(Admitted { key, admission }),
        };
        (admitted, change)
    }

    /// Takes note of how a call ended.
    pub(super) fn record(&self, now: Timestamp, admitted: &Admitted, said: Said) -> Change {
        let policy = *self.policy.read();
        let mut known = self.known.lock();
        let breaker = known.get_mut(&admitted.key)?;
        breaker.record(&policy, now, admitted.admission, said)
    }

    /// Returns those that do not let every call through, by `tenant/action/target`.
    pub(super) fn tripped(&self) -> BTreeMap<String, BreakerState> {
        let known = self.known.lock();
        let tripped = known
            .iter()
            .filter(|(_, b)| b.state != BreakerState::Closed);
        tripped.map(|(key, b)| (key.clone(), b.state)).collect()
    }
}

#[cfg(test)]
mod tests;
