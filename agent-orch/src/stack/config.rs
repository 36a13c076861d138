//! What a host says about the stack it opens.

use std::path::PathBuf;
use std::sync::Arc;

use agent_core::store::Durability;
use agent_identity::vault::Unlock;
use agent_pay::RateCard;
use agent_sandbox::Runtime;
use agent_tools::Toolset;

/// How a stack is opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct StackConfig {
    pub(super) data: PathBuf,
    pub(super) unlock: Unlock,
    pub(super) durability: Durability,
    pub(super) rates: RateCard,
}

impl StackConfig {
    /// Describes a stack on a data directory, whose key vault `unlock` opens: durability
    /// `PowerLoss`. What agents consume is priced by `rates`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, unlock: Unlock, rates: RateCard) -> Self {
        Self {
            data: data.into(),
            unlock,
            durability: Durability::default(),
            rates,
        }
    }

    /// Sets what acknowledged writes survive. Default: `PowerLoss`.
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// The layers a host chooses; the others are the embedded defaults.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layers {
    /// Where guests run.
    pub sandbox: Arc<dyn Runtime>,
    /// What agents may call.
    pub tools: Arc<dyn Toolset>,
}

impl Layers {
    /// Chooses the sandbox runtime and the tools.
    #[must_use]
    pub fn new(sandbox: Arc<dyn Runtime>, tools: Arc<dyn Toolset>) -> Self {
        Self { sandbox, tools }
    }
}
