//! Supervision as configuration: which agents restart together, when, and how often.

use std::time::Duration;

use serde::Deserialize;

use super::text::{maybe_duration, parsed};
use crate::restart::{Intensity, OnMeltdown, Restart, RestartDelay, Strategy};

/// How a supervisor treats its children: those of a pool are its agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Supervision {
    /// Which siblings restart with a crashed child. Default: one for one.
    pub strategy: Strategy,
    /// When a child restarts. Default: transient.
    pub restart: Restart,
    /// How many restarts are normal. Default: 1 in 5 s.
    pub intensity: Intensity,
    /// How long to wait before a restart. Default: not at all.
    pub delay: RestartDelay,
    /// How long a child may take to stop before it is aborted. Default: 5 s.
    pub shutdown: Duration,
    /// What becomes of more restarts than are normal. Default: quarantine.
    pub on_meltdown: OnMeltdown,
}

impl Supervision {
    /// How long a child may take to stop unless told otherwise: that of OTP.
    pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

    /// Describes supervision with the defaults of each field.
    #[must_use]
    pub fn new() -> Self {
        Self {
            strategy: Strategy::default(),
            restart: Restart::default(),
            intensity: Intensity::default(),
            delay: RestartDelay::NONE,
            shutdown: Self::SHUTDOWN_DEFAULT,
            on_meltdown: OnMeltdown::default(),
        }
    }

    /// Sets which siblings restart together. Default: one for one.
    #[must_use]
    pub const fn with_strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets when a child restarts. Default: transient.
    #[must_use]
    pub const fn with_restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how many restarts are normal. Default: 1 in 5 s.
    #[must_use]
    pub const fn with_intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.intensity = Intensity::new(restarts, period);
        self
    }

    /// Sets the wait before a restart. Default: none.
    #[must_use]
    pub const fn with_delay(mut self, delay: RestartDelay) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how long a child may take to stop. Default: 5 s.
    #[must_use]
    pub const fn with_shutdown(mut self, shutdown: Duration) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets what becomes of more restarts than are normal. Default: quarantine.
    #[must_use]
    pub const fn with_on_meltdown(mut self, on_meltdown: OnMeltdown) -> Self {
        self.on_meltdown = on_meltdown;
        self
    }
}

impl Default for Supervision {
    fn default() -> Self {
        Self::new()
    }
}

/// A supervisor over pools and other supervisors: its children start in order and stop in
/// reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Branch {
    /// How it treats its children.
    pub supervision: Supervision,
    /// What it supervises, each `pool.NAME`, `lane.NAME` or `supervisor.NAME`.
    pub children: Vec<String>,
}

impl Branch {
    /// The most children of one supervisor: its decisions look through all of them.
    pub const CHILDREN_MAX: usize = 1_000;
    /// How deep supervisors may nest: beyond that nobody can tell what restarts with what.
    pub const DEPTH_MAX: usize = 8;

    /// Describes a supervisor of these children.
    #[must_use]
    pub fn new<'a>(supervision: Supervision, children: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            supervision,
            children: children.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// The keys of supervision, as they stand in `[supervisor]` and `[pool.NAME.supervisor]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupervisionText {
    strategy: Option<Strategy>,
    restart: Option<Restart>,
    intensity: Option<u32>,
    #[serde(default, deserialize_with = "maybe_duration")]
    period: Option<Duration>,
    #[serde(default, deserialize_with = "parsed")]
    backoff: Option<RestartDelay>,
    #[serde(default, deserialize_with = "maybe_duration")]
    shutdown: Option<Duration>,
    on_meltdown: Option<OnMeltdown>,
}

/// `[supervisor.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BranchText {
    children: Vec<String>,
    strategy: Option<Strategy>,
    restart: Option<Restart>,
    intensity: Option<u32>,
    #[serde(default, deserialize_with = "maybe_duration")]
    period: Option<Duration>,
    #[serde(default, deserialize_with = "parsed")]
    backoff: Option<RestartDelay>,
    #[serde(default, deserialize_with = "maybe_duration")]
    shutdown: Option<Duration>,
    on_meltdown: Option<OnMeltdown>,
}

impl SupervisionText {
    /// Returns what is stated here, over what holds otherwise.
    pub(super) fn over(&self, base: Supervision) -> Supervision {
        Supervision {
            strategy: self.strategy.unwrap_or(base.strategy),
            restart: self.restart.unwrap_or(base.restart),
            intensity: Intensity::new(
                self.intensity.unwrap_or(base.intensity.restarts),
                self.period.unwrap_or(base.intensity.period),
            ),
            delay: self.backoff.unwrap_or(base.delay),
            shutdown: self.shutdown.unwrap_or(base.shutdown),
            on_meltdown: self.on_meltdown.unwrap_or(base.on_meltdown),
        }
    }
}

impl From<BranchText> for Branch {
    fn from(text: BranchText) -> Self {
        let stated = SupervisionText {
            strategy: text.strategy,
            restart: text.restart,
            intensity: text.intensity,
            period: text.period,
            backoff: text.backoff,
            shutdown: text.shutdown,
            on_meltdown: text.on_meltdown,
        };
        Self {
            supervision: stated.over(Supervision::new()),
            children: text.children,
        }
    }
}
