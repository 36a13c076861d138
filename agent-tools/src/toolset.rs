//! The contract: what tools there are, and calling one.

use std::fmt;
use std::sync::Arc;

use agent_core::model::{ToolCall, ToolSpec};
use agent_core::{Effect, Scope};
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::info::ToolInfo;
use crate::outcome::ToolOutcome;

/// Lists tools and calls them.
///
/// This is the contract for _implementors_. Users call [`ToolsetExt`] as well. An implementation
/// must pass the conformance suite, the module `conformance` behind the feature of that name.
///
/// What a toolset says about itself is as trustworthy as the toolset: put a
/// [`Policed`](crate::layer::Policed) around one that is not the host's own.
#[async_trait]
pub trait Toolset: fmt::Debug + Send + Sync + 'static {
    /// Returns the tools this scope may see, ordered by name.
    ///
    /// Names are unique and [valid](ToolInfo::check_name); there are at most
    /// [`ToolInfo::LIST_MAX`].
    ///
    /// # Errors
    /// `Conflict` if two tools share a name, `Unavailable` if the other side is away.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    async fn list(&self, scope: &Scope) -> Result<Vec<ToolInfo>>;

    /// Calls one tool.
    ///
    /// The arguments are validated before the tool runs. A failure of the tool itself is a value,
    /// [`ToolOutcome::is_error`]; an error means that the call broke. The process dying inside
    /// this call leaves the outcome unknown; the tool's effect class says what may be done then.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `Invalid` for arguments the model can repair, `Denied` and
    /// `Exhausted` by policy, `Canceled` and `TimedOut` through the scope, `Unavailable` if the
    /// other side is away, `Internal` if the tool broke. `retry()` tells whether it had begun.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropping the future leaves the outcome unknown.
    async fn call(&self, scope: &Scope, call: ToolCall) -> Result<ToolOutcome>;
}

#[async_trait]
impl<T: Toolset + ?Sized> Toolset for Arc<T> {
    async fn list(&self, scope: &Scope) -> Result<Vec<ToolInfo>> {
        (**self).list(scope).await
    }

    async fn call(&self, scope: &Scope, call: ToolCall) -> Result<ToolOutcome> {
        (**self).call(scope, call).await
    }
}

/// Shorthands over [`Toolset`], for users. Do not implement it.
#[async_trait]
pub trait ToolsetExt: Toolset {
    /// Returns what a model is told about the tools.
    ///
    /// # Errors
    /// Those of [`Toolset::list`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn specs(&self, scope: &Scope) -> Result<Vec<ToolSpec>> {
        let tools = self.list(scope).await?;
        Ok(tools.into_iter().map(|tool| tool.spec).collect())
    }

    /// Describes the effect of a call, for a gate and a journal.
    ///
    /// # Errors
    /// Those of [`Toolset::list`] and [`ToolInfo::effect`]; `NotFound` for an unknown name.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn effect(&self, scope: &Scope, call: &ToolCall) -> Result<Effect> {
        let tools = self.list(scope).await?;
        tools
            .iter()
            .find(|tool| tool.spec.name == call.name)
            .ok_or_else(|| Error::unknown_tool(&call.name))?
            .effect(call)
    }
}

impl<T: Toolset + ?Sized> ToolsetExt for T {}
