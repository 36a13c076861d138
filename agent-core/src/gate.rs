//! Who may, how much, and who must be asked: the decision before an effect.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::error::Result;
use crate::scope::Scope;

/// What a gate says about one effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
#[non_exhaustive]
pub enum Verdict {
    /// The effect may happen.
    Allow,
    /// The effect may not happen.
    #[non_exhaustive]
    Deny {
        /// A stable code, `gate.reason`.
        code: String,
        /// Which rule refused it and why, for people and for the agent.
        reason: String,
    },
    /// Somebody must approve this exact effect first.
    #[non_exhaustive]
    Ask {
        /// A stable code, `gate.reason`.
        code: String,
        /// What the approver should know.
        reason: String,
    },
}

impl Verdict {
    /// Refuses an effect.
    #[must_use]
    pub fn deny(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Deny {
            code: code.into(),
            reason: reason.into(),
        }
    }

    /// Asks for approval of an effect.
    #[must_use]
    pub fn ask(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Ask {
            code: code.into(),
            reason: reason.into(),
        }
    }
}

/// Decides whether an effect may happen.
///
/// This is the contract for _implementors_. A gate decides and changes nothing: it may be asked
/// again about the same effect after a crash.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Decides about one effect.
    ///
    /// # Errors
    /// Of any kind if no decision can be reached; the effect must not happen then.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn check(&self, scope: &Scope, effect: &Effect) -> Result<Verdict>;
}

#[async_trait]
impl<G: Gate + ?Sized> Gate for Arc<G> {
    async fn check(&self, scope: &Scope, effect: &Effect) -> Result<Verdict> {
        (**self).check(scope, effect).await
    }
}

/// Gates in order: the first that does not allow decides. An empty list allows everything.
#[derive(Clone, Debug, Default)]
pub struct Gates(Vec<Arc<dyn Gate>>);

impl Gates {
    /// Creates the list; cheap checks go first.
    #[must_use]
    pub fn new(gates: Vec<Arc<dyn Gate>>) -> Self {
        Self(gates)
    }
}

#[async_trait]
impl Gate for Gates {
    async fn check(&self, scope: &Scope, effect: &Effect) -> Result<Verdict> {
        for gate in &self.0 {
            let verdict = gate.check(scope, effect).await?;
            if verdict != Verdict::Allow {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Allow)
    }
}
