//! Joins several toolsets under one list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_core::Scope;
use agent_core::model::ToolCall;
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::info::ToolInfo;
use crate::outcome::ToolOutcome;
use crate::toolset::Toolset;

/// Several toolsets as one. The tool `list` of the toolset mounted as `github` is called
/// `github__list`.
#[derive(Clone, Debug, Default)]
pub struct Combined {
    root: Option<Arc<dyn Toolset>>,
    mounts: BTreeMap<String, Arc<dyn Toolset>>,
}

impl Combined {
    /// What stands between a namespace and a tool's name; a namespace does not contain it.
    pub const SEPARATOR: &'static str = "__";
    /// The longest namespace: it leaves 38 characters to a tool's name.
    pub const NAMESPACE_BYTES_MAX: usize = 24;

    /// Creates a toolset without tools.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the toolset whose tools keep their names. Default: none.
    #[must_use]
    pub fn with_root(mut self, toolset: Arc<dyn Toolset>) -> Self {
        self.root = Some(toolset);
        self
    }

    /// Mounts a toolset under a namespace.
    ///
    /// # Errors
    /// `Conflict` if the namespace is taken; `Invalid` if it is not a
    /// [valid name](ToolInfo::check_name), is longer than [`Self::NAMESPACE_BYTES_MAX`], contains
    /// the separator or ends with `_`.
    pub fn mount(mut self, namespace: &str, toolset: Arc<dyn Toolset>) -> Result<Self> {
        ToolInfo::check_name(namespace)?;
        let is_unclear = namespace.len() > Self::NAMESPACE_BYTES_MAX
            || namespace.contains(Self::SEPARATOR)
            || namespace.ends_with('_');
        if is_unclear {
            return Err(Error::invalid_definition(
                namespace,
                "a namespace has at most 24 characters, no `__` and no `_` at its end",
            ));
        }
        if self.mounts.contains_key(namespace) {
            return Err(Error::collision(namespace));
        }
        self.mounts.insert(namespace.to_owned(), toolset);
        Ok(self)
    }

    /// Finds the toolset a name belongs to, and the tool's name there.
    fn route<'a>(&self, name: &'a str) -> Option<(&Arc<dyn Toolset>, &'a str)> {
        let mounted = name
            .split_once(Self::SEPARATOR)
            .and_then(|(namespace, tool)| Some((self.mounts.get(namespace)?, tool)));
        mounted.or_else(|| Some((self.root.as_ref()?, name)))
    }
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a method left to its default would go around this layer"
)]
impl Toolset for Combined {
    async fn list(&self, scope: &Scope) -> Result<Vec<ToolInfo>> {
        let mut all = Vec::new();
        if let Some(root) = &self.root {
            all.extend(root.list(scope).await?);
        }
        for (namespace, toolset) in &self.mounts {
            for mut tool in toolset.list(scope).await? {
                tool.spec.name = format!("{namespace}{}{}", Self::SEPARATOR, tool.spec.name);
                all.push(tool);
            }
        }
        let mut names = BTreeSet::new();
        for tool in &all {
            ToolInfo::check_name(&tool.spec.name)?;
            if !names.insert(tool.spec.name.as_str()) {
                return Err(Error::collision(&tool.spec.name));
            }
        }
        if all.len() > ToolInfo::LIST_MAX {
            let reason = "the list is too long: narrow it with a policy";
            return Err(Error::invalid_definition("(all)", reason));
        }
        all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        Ok(all)
    }

    async fn call(&self, scope: &Scope, mut call: ToolCall) -> Result<ToolOutcome> {
        let Some((toolset, name)) = self.route(&call.name) else {
            return Err(Error::unknown_tool(&call.name));
        };
        call.name = name.to_owned();
        toolset.call(scope, call).await
    }
}
