//! What a task of a pool may use in all: `[pool.NAME.limits]`.

use std::time::Duration;

use agent_core::Timestamp;
use serde::Deserialize;

use super::text::maybe_duration;
use crate::task::NewTask;
use crate::tree::Spawn;

/// The limits of a pool's tasks and of what they delegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many delegations a child of the pool's tasks may be away from its root. Default: 3.
    pub delegation_depth: u32,
    /// How many children one task may have. Default: 256.
    pub children_max: u32,
    /// How long a task may take in all, not counting the time in which it waits for somebody.
    /// Default: 2 h.
    pub wall: Duration,
    /// How long a task may take whatever it waits for. Default: 30 d.
    pub life: Duration,
    /// How often a task and what it delegates may be retried or corrected. Default: 64.
    pub tree_retries: u32,
}

impl Limits {
    /// Gives a task of the pool the limits it does not set itself.
    pub(crate) fn bound(&self, task: &mut NewTask, now: Timestamp) {
        task.wall = task.wall.or(Some(self.wall));
        task.deadline = task.deadline.or_else(|| Some(now.after(self.life)));
        // The journal's own default needs no row of its own.
        if self.tree_retries != NewTask::TREE_RETRIES {
            task.tree_retries = task.tree_retries.or(Some(self.tree_retries));
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            delegation_depth: Spawn::DEPTH_DEFAULT,
            children_max: Spawn::CHILDREN_DEFAULT,
            wall: Duration::from_secs(2 * 3_600),
            life: Duration::from_secs(30 * 86_400),
            tree_retries: NewTask::TREE_RETRIES,
        }
    }
}

/// The text form.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsText {
    delegation_depth: Option<u32>,
    children_max: Option<u32>,
    #[serde(default, deserialize_with = "maybe_duration")]
    wall: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_duration")]
    life: Option<Duration>,
    tree_retries: Option<u32>,
}

impl From<LimitsText> for Limits {
    fn from(text: LimitsText) -> Self {
        let defaults = Self::default();
        Self {
            delegation_depth: text.delegation_depth.unwrap_or(defaults.delegation_depth),
            children_max: text.children_max.unwrap_or(defaults.children_max),
            wall: text.wall.unwrap_or(defaults.wall),
            life: text.life.unwrap_or(defaults.life),
            tree_retries: text.tree_retries.unwrap_or(defaults.tree_retries),
        }
    }
}
