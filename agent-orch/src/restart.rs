//! Restart decisions after the Open Telecom Platform's supervisors, as a pure function: no clock,
//! no tasks, so that every sequence of crashes can be tried.

use std::collections::VecDeque;
use std::time::Duration;

use agent_core::Timestamp;
use serde::{Deserialize, Serialize};

/// Which siblings restart with a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// Only the child itself.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The child and those started after it.
    RestForOne,
}

/// When a child is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only if it ended by a failure.
    #[default]
    Transient,
    /// Never.
    Temporary,
}

/// How many restarts are normal: more than `restarts` within `period` is a meltdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intensity {
    /// The most restarts within the period.
    pub restarts: u32,
    /// The period.
    pub period: Duration,
}

impl Default for Intensity {
    /// One restart in five seconds, the default of OTP.
    fn default() -> Self {
        Self::new(1, Duration::from_secs(5))
    }
}

impl Intensity {
    /// Creates a limit.
    #[must_use]
    pub const fn new(restarts: u32, period: Duration) -> Self {
        Self { restarts, period }
    }
}

/// What a supervisor does about a child that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The child stays ended.
    Leave,
    /// Stop the running ones of these children in reverse order, then start all in order.
    Restart(std::ops::Range<usize>),
    /// Too many restarts: stop all children in reverse order and start none.
    Meltdown,
}

/// The memory of one supervisor: when it restarted.
#[derive(Clone, Debug)]
pub struct RestartState {
    strategy: Strategy,
    intensity: Intensity,
    restarts: VecDeque<Timestamp>,
}

impl RestartState {
    /// Creates the state of a supervisor that restarted nothing yet.
    #[must_use]
    pub const fn new(strategy: Strategy, intensity: Intensity) -> Self {
        Self {
            strategy,
            intensity,
            restarts: VecDeque::new(),
        }
    }

    /// Decides about child number `child` of `n_children`, which ended at `now`.
    pub fn decide(
        &mut self,
        child: usize,
        n_children: usize,
        restart: Restart,
        failed: bool,
        now: Timestamp,
    ) -> Decision {
        let wanted = match restart {
            Restart::Permanent => true,
            Restart::Transient => failed,
            Restart::Temporary => false,
        };
        if !wanted {
            return Decision::Leave;
        }
        while self
            .restarts
            .front()
            .is_some_and(|at| now.since(*at) > self.intensity.period)
        {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        let limit = usize::try_from(self.intensity.restarts).unwrap_or(usize::MAX);
        if self.restarts.len() > limit {
            return Decision::Meltdown;
        }
        Decision::Restart(match self.strategy {
            Strategy::OneForOne => child..child.saturating_add(1),
            Strategy::OneForAll => 0..n_children,
            Strategy::RestForOne => child..n_children,
        })
    }
}
