//! How a queue is opened.

use crate::merge::limits::Limits;
use crate::merge::object::ObjectId;
use crate::merge::plan::Snapshot;

/// How a queue is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueConfig {
    pub(super) target: String,
    pub(super) start: ObjectId,
    pub(super) limits: Limits,
    pub(super) snapshot: Snapshot,
}

impl QueueConfig {
    /// The target of a hygiene fleet.
    pub const TARGET_DEFAULT: &'static str = "refs/heads/agents/hygiene";

    /// Lands on [`QueueConfig::TARGET_DEFAULT`], which is created at `start`.
    #[must_use]
    pub fn new(start: ObjectId) -> Self {
        Self {
            target: Self::TARGET_DEFAULT.to_owned(),
            start,
            limits: Limits::default(),
            snapshot: Snapshot::default(),
        }
    }

    /// Sets the target. Default: [`QueueConfig::TARGET_DEFAULT`].
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Sets the numbers the plan goes by. Default: [`Limits::default`].
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what an earlier queue knew. Default: nothing.
    #[must_use]
    pub fn with_snapshot(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = snapshot;
        self
    }
}
