//! Faults at the door, to try out recovery: by chance, or at named fail points.
//!
//! ```text
//!  gate ──► intent ──► effect ──► outcome ──► the agent has its answer
//!        ▲          ▲          ▲           ▲
//!  BeforeIntent  AfterIntent  AfterEffect  AfterOutcome
//! ```
//!
//! Where a fail point strikes depends on its seed, the task's key, the fence and the step alone, so
//! that neither the order in which agents run nor the ids of a run change anything.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_core::{ClockExt, Digest, Effect, ErrorKind, Failure, Retry};

use crate::agent::Ctx;
use crate::error::{Error, Result};
use crate::journal::StepKey;

/// A place on an effect's road through the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Point {
    /// The gate allowed it; nothing is recorded.
    BeforeIntent,
    /// The intent is recorded and its money held; nothing has happened.
    AfterIntent,
    /// It has happened; no outcome is recorded.
    AfterEffect,
    /// The outcome is recorded; the agent has no answer.
    AfterOutcome,
}

impl Point {
    /// All points, in the order of the road.
    pub const ALL: [Self; 4] = [
        Self::BeforeIntent,
        Self::AfterIntent,
        Self::AfterEffect,
        Self::AfterOutcome,
    ];
}

/// What strikes at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// The call is known to have failed and may be repeated. Once the effect has happened nobody
    /// can know that, and it is a [`Fault::Lost`].
    Error,
    /// The connection is gone: the request before the effect, the answer after it. The caller
    /// cannot tell which.
    Lost,
    /// It takes [`Chaos::SLOW`] longer.
    Slow,
    /// The agent's code unwinds, as in a panic.
    Crash,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 4] = [Self::Error, Self::Lost, Self::Slow, Self::Crash];

    fn failure(self, point: Point) -> Failure {
        let (retry, code) = match (self, point) {
            (Self::Error, Point::AfterEffect) | (Self::Lost, Point::AfterEffect) => {
                (Retry::Unknown, "chaos.lost_answer")
            }
            (Self::Lost, Point::AfterIntent) => (Retry::Unknown, "chaos.lost_request"),
            _ => (Retry::Safe, "chaos.error"),
        };
        let fix = "none needed: recovery handles it";
        Failure::new(
            ErrorKind::Unavailable,
            retry,
            code,
            "an injected fault",
            fix,
        )
    }
}

/// A fault at a point: which effects meet it, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailPoint {
    point: Point,
    fault: Fault,
    action: String,
    hits: Option<Range<u64>>,
    per_million: u32,
}

impl FailPoint {
    /// Strikes every effect at a point.
    #[must_use]
    pub const fn new(point: Point, fault: Fault) -> Self {
        Self {
            point,
            fault,
            action: String::new(),
            hits: None,
            per_million: 1_000_000,
        }
    }

    /// Strikes only effects whose action begins with `prefix`, for example `sandbox.` for one
    /// layer. Default: all.
    #[must_use]
    pub fn on(mut self, prefix: impl Into<String>) -> Self {
        self.action = prefix.into();
        self
    }

    /// Strikes only the hits in the range, counted from zero in the order in which effects come.
    /// Default: all.
    #[must_use]
    pub const fn with_hits(mut self, hits: Range<u64>) -> Self {
        self.hits = Some(hits);
        self
    }

    /// Strikes `per_million` of a million hits, chosen by the seed. Default: all.
    #[must_use]
    pub const fn with_chance(mut self, per_million: u32) -> Self {
        self.per_million = per_million;
        self
    }
}

/// What a host's hook is told: an effect is at a point.
pub type Hook = Arc<dyn Fn(Point, &Effect) + Send + Sync>;

/// Faults to inject at the door, for trying out recovery.
#[derive(Clone, Default)]
pub struct Chaos {
    per_million: u32,
    seed: u64,
    points: Vec<FailPoint>,
    hook: Option<Hook>,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("per_million", &self.per_million)
            .field("seed", &self.seed)
            .field("points", &self.points)
            .finish_non_exhaustive()
    }
}

impl Chaos {
    /// The code of every injected failure begins with this.
    pub const CODE: &'static str = "chaos.";
    /// How long an injected delay lasts.
    pub const SLOW: Duration = Duration::from_millis(20);

    /// Lets `per_million` of a million effects meet a fault between intent and outcome; a quarter
    /// each loses the request or the answer, is slow, crashes. The seed is 0.
    #[must_use]
    pub const fn new(per_million: u32) -> Self {
        Self {
            per_million,
            seed: 0,
            points: Vec::new(),
            hook: None,
        }
    }

    /// Sets what the draws depend on beside the task's key, the fence and the step. Default: 0.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a fail point; of several that strike, the first counts. Default: none.
    #[must_use]
    pub fn with_point(mut self, point: FailPoint) -> Self {
        self.points.push(point);
        self
    }

    /// Calls `hook` at every point, before faults are drawn: a test may count there, or end its
    /// process. Default: none.
    #[must_use]
    pub fn with_hook(mut self, hook: impl Fn(Point, &Effect) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }
}

/// The payload of an injected crash, which unwinds the agent like a panic but prints nothing.
#[derive(Debug)]
pub(crate) struct InjectedCrash;

/// The faults of one door, with what was hit so far.
#[derive(Debug)]
pub(super) struct Faults {
    chaos: Chaos,
    hits: Vec<AtomicU64>,
}

impl Faults {
    pub(super) fn new(chaos: Chaos) -> Self {
        let hits = chaos.points.iter().map(|_| AtomicU64::new(0)).collect();
        Self { chaos, hits }
    }

    /// Meets whatever waits at a point.
    pub(super) async fn meet(
        &self,
        cx: &Ctx,
        point: Point,
        (step, effect): (&StepKey, &Effect),
    ) -> Result<()> {
        if let Some(hook) = &self.chaos.hook {
            hook(point, effect);
        }
        let Some(fault) = self.draw(cx, point, step, effect) else {
            return Ok(());
        };
        tracing::debug!(?point, ?fault, action = effect.action, "a fault on purpose");
        match fault {
            Fault::Slow => cx.door.clock().sleep(Chaos::SLOW).await,
            Fault::Crash => std::panic::resume_unwind(Box::new(InjectedCrash)),
            Fault::Error | Fault::Lost => return Err(Error::Agent(fault.failure(point))),
        }
        Ok(())
    }

    fn draw(&self, cx: &Ctx, point: Point, step: &StepKey, effect: &Effect) -> Option<Fault> {
        let chance = |n: usize| {
            let (lease, task) = (&cx.lease, cx.course.task_key());
            let named = format!(
                "{}/{n}/{task}/{}/{}/{}/{}",
                self.chaos.seed, lease.stage, lease.fence.0, step.name, step.ordinal
            );
            Digest::of_bytes(named.as_bytes()).to_bits()
        };
        let mut struck = None;
        for (n, (rule, hits)) in self.chaos.points.iter().zip(&self.hits).enumerate() {
            if rule.point != point || !effect.action.starts_with(&rule.action) {
                continue;
            }
            let hit = hits.fetch_add(1, Ordering::Relaxed);
            let is_meant = rule.hits.as_ref().is_none_or(|hits| hits.contains(&hit))
                && (rule.per_million >= 1_000_000
                    || chance(n) % 1_000_000 < u128::from(rule.per_million));
            struck = struck.or(is_meant.then_some(rule.fault));
        }
        match self.chaos.per_million {
            0 => struck,
            _ => struck.or_else(|| self.by_chance(point, chance(usize::MAX))),
        }
    }

    /// Draws one of the four faults of [`Chaos::new`], each at its own point.
    fn by_chance(&self, point: Point, drawn: u128) -> Option<Fault> {
        if drawn % 1_000_000 >= u128::from(self.chaos.per_million) {
            return None;
        }
        match (point, (drawn / 1_000_000) % 4) {
            (Point::AfterIntent, 0) => Some(Fault::Error),
            (Point::AfterEffect, 1) => Some(Fault::Lost),
            (Point::AfterIntent, 2) => Some(Fault::Slow),
            (Point::AfterIntent, 3) => Some(Fault::Crash),
            _ => None,
        }
    }
}
