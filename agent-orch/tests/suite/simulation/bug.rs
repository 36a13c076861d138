//! Bugs to plant, so that the simulation is seen to find them.

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The store does not look at the fence of a write.
    SkipFence,
    /// The store answers before the write is on disk.
    AckBeforeSync,
    /// The store lets an opaque step that is in doubt go ahead.
    RepeatOpaque,
    /// The store parks a task that was woken meanwhile.
    LoseWakeUp,
    /// The store lets an author verify its own work.
    AcceptOwnWork,
    /// A worker acts without looking whether its lease has ended.
    ActWithoutLease,
    /// The store takes a torn record for a whole one.
    TrustTorn,
}
