//! Merge lanes: where verified changes land.

/// Where verified changes land: a pool of its own kind, whose agents hand changes to the merge
/// queue and wait for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lane {
    /// The agent's name in the host's registry.
    pub agent: String,
    /// How many changes are in the queue at once. Default: 64.
    pub size: u32,
    /// The branch, without `refs/heads/`.
    pub target: String,
    /// What its agents may do. Default: nothing.
    pub grants: Vec<String>,
}

impl Lane {
    /// How many changes are in the queue at once unless a manifest says otherwise: enough for
    /// batches, few enough to plan quickly.
    pub const SIZE_DEFAULT: u32 = 64;

    /// Describes a lane onto a branch.
    #[must_use]
    pub fn new(agent: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            size: Self::SIZE_DEFAULT,
            target: target.into(),
            grants: Vec::new(),
        }
    }

    /// Adds a grant `action:target`. Default: none.
    #[must_use]
    pub fn with_grant(mut self, grant: impl Into<String>) -> Self {
        self.grants.push(grant.into());
        self
    }
}
