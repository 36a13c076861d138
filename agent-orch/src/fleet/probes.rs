//! Probes as configuration: how an agent shows that it works.

use std::time::Duration;

use serde::Deserialize;

use super::text::maybe_duration;

/// How the agents of a pool show that they work. Whether one is ready for a task is asked of its
/// code: [`crate::Agent::ready`].
///
/// Probes run beside the agent's own future, in its tokio task: one that blocks its thread is
/// neither probed nor stopped before it awaits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probes {
    /// How long a started agent may take until it first asks for work; else it is restarted.
    /// Default: not probed.
    pub startup: Option<Duration>,
    /// How long an attempt may show no sign of life, such as a step or [`crate::Ctx::alive`]; else
    /// the agent is restarted and the task goes to the recovery table. Default: not probed.
    pub liveness: Option<Duration>,
    /// How long an attempt may pass without a step that begins or ends; else its task is stuck and
    /// goes to the recovery table. Default: not probed.
    pub events: Option<Duration>,
    /// As `events`, for steps that consume tokens. Default: not probed.
    pub tokens: Option<Duration>,
}

impl Probes {
    /// Describes no probes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            startup: None,
            liveness: None,
            events: None,
            tokens: None,
        }
    }

    /// Sets how long until the first request for work. Default: not probed.
    #[must_use]
    pub const fn with_startup(mut self, within: Duration) -> Self {
        self.startup = Some(within);
        self
    }

    /// Sets how long without a sign of life. Default: not probed.
    #[must_use]
    pub const fn with_liveness(mut self, within: Duration) -> Self {
        self.liveness = Some(within);
        self
    }

    /// Sets how long without a step and without tokens. Default: not probed.
    #[must_use]
    pub const fn with_progress(
        mut self,
        events: Option<Duration>,
        tokens: Option<Duration>,
    ) -> Self {
        (self.events, self.tokens) = (events, tokens);
        self
    }
}

/// `[pool.NAME.probes]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbesText {
    #[serde(default, deserialize_with = "maybe_duration")]
    startup: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    liveness: Option<Duration>,
    #[serde(default)]
    progress: ProgressText,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressText {
    #[serde(default, deserialize_with = "maybe_duration")]
    events: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    tokens: Option<Duration>,
}

impl From<ProbesText> for Probes {
    fn from(text: ProbesText) -> Self {
        Self {
            startup: text.startup,
            liveness: text.liveness,
            events: text.progress.events,
            tokens: text.progress.tokens,
        }
    }
}
