//! Limits at the door: how many effects of a kind are under way, and how many begin in a time.
//!
//! Who waits is served in the order they came. A limit can be turned down when the other side asks
//! for it and comes back bit by bit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use agent_core::{Clock, ClockExt, Effect, ErrorKind, Failure, Retry, Scope};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::{Error, Result, failure_of};
use crate::fleet::Limit;
use crate::recovery::Class;

/// A whole limit, in thousandths.
const FULL: u32 = 1_000;
/// The least of a limit that is left however often the other side objects.
const LEAST: u32 = 10;
/// How much of a limit comes back with each effect that went well.
const STEP: u32 = 10;
/// Begins the keys that are about tenants.
const TENANT: &str = "tenant:";

/// The limits in use in this process, so that runs with the same one share it, and a reload that
/// leaves it as it is does not forget what it has let through.
#[derive(Debug, Default)]
pub(crate) struct Gauges(Mutex<BTreeMap<String, Weak<Gauge>>>);

impl Gauges {
    /// Returns the gauge of a limit. Where the limit under a key changes, what begins from then on
    /// counts against the new one.
    fn get(&self, key: &str, limit: Limit) -> Arc<Gauge> {
        let mut gauges = self.0.lock();
        let known = gauges.get(key).and_then(Weak::upgrade);
        if let Some(gauge) = known.filter(|gauge| gauge.limit == limit) {
            return gauge;
        }
        gauges.retain(|_, gauge| gauge.strong_count() > 0);
        let gauge = Arc::new(Gauge::new(key.to_owned(), limit));
        gauges.insert(key.to_owned(), Arc::downgrade(&gauge));
        gauge
    }
}

/// All limits of a fleet.
pub(crate) struct Throttle {
    clock: Arc<dyn Clock>,
    exact: BTreeMap<String, Arc<Gauge>>,
    /// Those whose name ends in `*`, without it.
    prefixes: Vec<(String, Arc<Gauge>)>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("limits", &(self.exact.len() + self.prefixes.len()))
            .finish_non_exhaustive()
    }
}

impl Throttle {
    pub(crate) fn new(
        limits: &BTreeMap<String, Limit>,
        gauges: &Gauges,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (mut exact, mut prefixes) = (BTreeMap::new(), Vec::new());
        for (key, limit) in limits {
            let gauge = gauges.get(key, *limit);
            match key.strip_suffix('*') {
                Some(prefix) => prefixes.push((prefix.to_owned(), gauge)),
                None => {
                    exact.insert(key.clone(), gauge);
                }
            }
        }
        Self {
            clock,
            exact,
            prefixes,
        }
    }

    /// Returns whether a limit concerns an effect.
    pub(crate) fn concerns(&self, effect: &Effect, fair_key: &str) -> bool {
        !self.gauges(effect, fair_key).is_empty()
    }

    /// Waits until every limit that concerns an effect lets it through, at most until the scope's
    /// deadline. What was let through counts until the passage is dropped.
    ///
    /// # Errors
    /// `Canceled`; `TimedOut`, safe to repeat, since nothing has happened.
    ///
    /// # Cancel safety
    /// Cancel safe: a place in line and what was taken of other limits is given back.
    pub(crate) async fn pass(
        &self,
        scope: &Scope,
        effect: &Effect,
        fair_key: &str,
    ) -> Result<Passage> {
        let mut entering = Passage::default();
        // All in the order of their keys, so that no two wait for one another.
        for gauge in self.gauges(effect, fair_key) {
            let key = gauge.key.clone();
            let permit = Gauge::enter(gauge, self.clock.as_ref());
            match scope.guard(self.clock.as_ref(), permit).await {
                Ok(permit) => entering.permits.push(permit),
                Err(agent_core::Error::TimedOut) => return Err(too_late(&key)),
                Err(error) => return Err(error.into()),
            }
        }
        for permit in &mut entering.permits {
            permit.is_used = true;
        }
        Ok(entering)
    }

    fn gauges(&self, effect: &Effect, fair_key: &str) -> Vec<Arc<Gauge>> {
        let mut found: BTreeMap<&str, &Arc<Gauge>> = BTreeMap::new();
        let dots = effect.action.match_indices('.').map(|(at, _)| at);
        let ends = dots.chain([effect.action.len()]);
        let kinds = ends.filter_map(|end| effect.action.get(..end));
        let named = kinds.map(|kind| (kind, effect.target.as_str()));
        let named = named.map(|(kind, name)| format!("{kind}:{name}"));
        for key in named.chain([format!("{TENANT}{fair_key}")]) {
            let of_prefix = self
                .prefixes
                .iter()
                .filter(|(prefix, _)| key.starts_with(prefix.as_str()))
                .map(|(_, gauge)| gauge);
            for gauge in self.exact.get(&key).into_iter().chain(of_prefix) {
                found.insert(&gauge.key, gauge);
            }
        }
        found.into_values().map(Arc::clone).collect()
    }
}

fn too_late(key: &str) -> Error {
    Error::Agent(Failure::new(
        ErrorKind::TimedOut,
        Retry::Safe,
        "orch.throttled",
        &format!("the deadline passed while waiting for the limit {key}"),
        "raise the limit, or give the attempt more time",
    ))
}

/// What an effect counts against limits while it is under way.
#[derive(Debug, Default)]
#[must_use = "dropping it frees the limits"]
pub(crate) struct Passage {
    permits: Vec<Permit>,
}

impl Passage {
    /// Frees the limits and learns from how the effect ended: one that the other side refused
    /// because of its own limit halves what ours let through, one that went well gives a little of
    /// it back.
    pub(crate) fn end<T>(self, clock: &dyn Clock, ended: &Result<T>) {
        let refused = match ended {
            Ok(_) => None,
            Err(error) => Some(failure_of(error)),
        };
        // How a tenant is doing says nothing about the other side.
        let of_other_side = |permit: &&Permit| !permit.gauge.key.starts_with(TENANT);
        for permit in self.permits.iter().filter(of_other_side) {
            match &refused {
                None => permit.gauge.speed_up(),
                Some(failure) if Class::of(failure) == Class::RateLimited => {
                    let wait = failure.retry_after_ms.map(Duration::from_millis);
                    let resumes = clock.monotonic().saturating_add(wait.unwrap_or_default());
                    permit.gauge.slow_down(resumes);
                }
                Some(_) => {}
            }
        }
    }
}

/// One limit: a line in which only the first waits for it to let something through.
struct Gauge {
    key: String,
    limit: Limit,
    line: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    freed: Notify,
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    in_use: u32,
    /// How much of the limit holds, in thousandths.
    share: u32,
    /// When the bucket is full again, in the clock's monotonic time.
    full_at: Duration,
    /// Nothing passes before.
    resumes: Duration,
}

/// Why nothing passes at the moment.
enum Closed {
    Until(Duration),
    WhileInUse,
}

impl Gauge {
    fn new(key: String, limit: Limit) -> Self {
        Self {
            key,
            limit,
            line: tokio::sync::Mutex::new(()),
            state: Mutex::new(State {
                in_use: 0,
                share: FULL,
                full_at: Duration::ZERO,
                resumes: Duration::ZERO,
            }),
            freed: Notify::new(),
        }
    }

    /// Lets half as much through, and nothing before `resumes`.
    fn slow_down(&self, resumes: Duration) {
        let mut state = self.state.lock();
        state.share = (state.share / 2).max(LEAST);
        state.resumes = state.resumes.max(resumes);
    }

    /// Lets a little more through, up to the whole limit.
    fn speed_up(&self) {
        let mut state = self.state.lock();
        state.share = state.share.saturating_add(STEP).min(FULL);
    }

    async fn enter(gauge: Arc<Self>, clock: &dyn Clock) -> Permit {
        let first_in_line = gauge.line.lock().await;
        loop {
            let now = clock.monotonic();
            let admitted = gauge.state.lock().admit(&gauge.limit, now);
            match admitted {
                Ok(()) => break,
                Err(Closed::WhileInUse) => gauge.freed.notified().await,
                Err(Closed::Until(at)) => {
                    // Clocks wait in whole milliseconds, so a shorter rest must not become no wait.
                    let wait = at.saturating_sub(now) + Duration::from_millis(1);
                    clock.sleep(wait).await;
                }
            }
        }
        drop(first_in_line);
        Permit {
            gauge,
            is_used: false,
        }
    }
}

impl State {
    fn admit(&mut self, limit: &Limit, now: Duration) -> Result<(), Closed> {
        if now < self.resumes {
            return Err(Closed::Until(self.resumes));
        }
        if let Some(most) = limit.concurrency {
            let most = u64::from(most) * u64::from(self.share) / u64::from(FULL);
            if u64::from(self.in_use) >= most.max(1) {
                return Err(Closed::WhileInUse);
            }
        }
        if let Some(rate) = limit.rate {
            let interval = rate.interval() * FULL / self.share.max(1);
            let tolerance = interval * rate.burst.saturating_sub(1);
            let full_at = self.full_at.max(now);
            if full_at > now.saturating_add(tolerance) {
                return Err(Closed::Until(full_at.saturating_sub(tolerance)));
            }
            self.full_at = full_at.saturating_add(interval);
        }
        self.in_use = self.in_use.saturating_add(1);
        Ok(())
    }
}

/// One place of a limit.
#[derive(Debug)]
struct Permit {
    gauge: Arc<Gauge>,
    /// Whether the effect it was for began; otherwise the bucket gets its token back.
    is_used: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gauge.state.lock();
        state.in_use = state.in_use.saturating_sub(1);
        if let (false, Some(rate)) = (self.is_used, self.gauge.limit.rate) {
            state.full_at = state.full_at.saturating_sub(rate.interval());
        }
        drop(state);
        self.gauge.freed.notify_one();
    }
}
