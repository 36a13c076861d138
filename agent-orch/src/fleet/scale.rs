//! How many agents a pool has: a pure function of its backlog, after Kubernetes' horizontal
//! autoscaler.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use super::text::maybe_duration;

/// How a pool grows beyond its least size and shrinks back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scale {
    /// The most agents.
    pub max: u32,
    /// How many ready or leased tasks there are to be for each agent. Default: 1.
    pub target: u32,
    /// For how long more agents must have been wanted before they start. Default: 0, at once.
    pub up_window: Duration,
    /// For how long fewer agents must have been wanted before some stop. Default: 300 s, as
    /// Kubernetes has it.
    pub down_window: Duration,
}

impl Scale {
    /// How long a lull must last before agents stop, unless told otherwise.
    pub const DOWN_WINDOW_DEFAULT: Duration = Duration::from_secs(300);
    /// The longest window: what was wanted is remembered for so long.
    pub const WINDOW_MAX: Duration = Duration::from_secs(86_400);

    /// Describes scaling up to `max` agents, one for each task.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self {
            max,
            target: 1,
            up_window: Duration::ZERO,
            down_window: Self::DOWN_WINDOW_DEFAULT,
        }
    }

    /// Sets how many tasks there are to be for each agent. Default: 1.
    #[must_use]
    pub const fn with_target(mut self, target: u32) -> Self {
        self.target = target;
        self
    }

    /// Sets the windows of stabilization. Default: up at once, down after 300 s.
    #[must_use]
    pub const fn with_windows(mut self, up: Duration, down: Duration) -> Self {
        (self.up_window, self.down_window) = (up, down);
        self
    }

    /// Returns how many agents a backlog wants, as if it had always been like this.
    #[must_use]
    pub fn wanted(&self, min: u32, backlog: u64) -> u32 {
        let wanted = backlog.div_ceil(u64::from(self.target.max(1)));
        u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .clamp(min, self.max.max(min))
    }
}

/// What a pool wanted lately.
#[derive(Clone, Debug, Default)]
pub struct Scaler {
    /// When how many agents were wanted. Neighbors differ, so that a steady pool remembers little.
    past: VecDeque<(Duration, u32)>,
}

impl Scaler {
    /// The most changes that are remembered; beyond it the oldest are forgotten early.
    pub const PAST_MAX: usize = 4_096;

    /// Creates a scaler that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            past: VecDeque::new(),
        }
    }

    /// Takes in the backlog at `now` and returns how many agents there are to be instead of
    /// `current`: no more than were wanted at every moment of the window for growing, no fewer
    /// than at any moment of the window for shrinking.
    pub fn desired(
        &mut self,
        scale: &Scale,
        min: u32,
        backlog: u64,
        current: u32,
        now: Duration,
    ) -> u32 {
        let wanted = scale.wanted(min, backlog);
        if self.past.back().is_none_or(|(_, last)| *last != wanted) {
            self.past.push_back((now, wanted));
        }
        let (up, down) = (
            self.over(now, scale.up_window).min(),
            self.over(now, scale.down_window).max(),
        );
        self.forget(now, scale.up_window.max(scale.down_window));
        let (up, down) = (up.unwrap_or(wanted), down.unwrap_or(wanted));
        match current {
            n if n < up => up,
            n if n > down => down,
            n => n,
        }
    }

    /// Returns what was wanted within a window before `now`: what held when it began, and every
    /// change since.
    fn over(&self, now: Duration, window: Duration) -> impl Iterator<Item = u32> {
        let begin = now.saturating_sub(window);
        let n_before = self.past.partition_point(|(at, _)| *at <= begin);
        let skip = n_before.saturating_sub(1);
        self.past.iter().skip(skip).map(|(_, wanted)| *wanted)
    }

    fn forget(&mut self, now: Duration, window: Duration) {
        let begin = now.saturating_sub(window);
        while self.past.len() > Self::PAST_MAX
            || self.past.get(1).is_some_and(|(at, _)| *at <= begin)
        {
            self.past.pop_front();
        }
    }
}

/// The only signal there is: ready and leased tasks of the pool.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Metric {
    #[default]
    ReadyTasks,
}

/// `scale = { … }` of a pool.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScaleText {
    #[serde(default, rename = "metric")]
    _metric: Metric,
    target: Option<u32>,
    #[serde(default, deserialize_with = "maybe_duration")]
    up_window: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    down_window: Option<Duration>,
}

impl ScaleText {
    pub(super) fn into_scale(self, max: u32) -> Scale {
        let defaults = Scale::new(max);
        Scale {
            max,
            target: self.target.unwrap_or(defaults.target),
            up_window: self.up_window.unwrap_or(defaults.up_window),
            down_window: self.down_window.unwrap_or(defaults.down_window),
        }
    }
}
