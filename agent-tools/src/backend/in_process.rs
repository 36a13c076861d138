//! Tools that are functions of the host's own program.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use agent_core::model::ToolCall;
use agent_core::{Clock, Env, Retry, Scope, Unit};
use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::{Error, Result, retry_of};
use crate::info::ToolInfo;
use crate::limits::Limits;
use crate::outcome::ToolOutcome;
use crate::schema::Schema;
use crate::tool::{Cause, Invocation, Running, Tool, ToolError};
use crate::toolset::Toolset;

/// Tools inside the process.
///
/// A tool that panics is contained: the call fails, the host and the other tools go on. (A host
/// built with `panic = "abort"` gives that up.) A stopped call drops the tool's future at its next
/// `.await`; a function that blocks the thread cannot be stopped.
#[derive(Debug)]
pub struct InProcess {
    clock: Arc<dyn Clock>,
    limits: Limits,
    tools: BTreeMap<String, Offered>,
}

/// A tool with its compiled schemas.
#[derive(Debug)]
struct Offered {
    tool: Tool,
    parameters: Schema,
    output: Option<Schema>,
}

impl InProcess {
    /// Offers tools with the default [`Limits`], compiling their schemas.
    ///
    /// # Errors
    /// `Conflict` if two tools share a name; `Invalid` for a name or schema that cannot be
    /// offered, or more than [`ToolInfo::LIST_MAX`] tools.
    pub fn new(env: &Env, tools: impl IntoIterator<Item = Tool>) -> Result<Self> {
        let mut offered = BTreeMap::new();
        for tool in tools {
            let name = tool.info().spec.name.clone();
            let tool = Offered::new(&name, tool)?;
            if offered.insert(name.clone(), tool).is_some() {
                return Err(Error::collision(&name));
            }
            if offered.len() > ToolInfo::LIST_MAX {
                return Err(Error::invalid_definition(&name, "there are too many tools"));
            }
        }
        Ok(Self {
            clock: Arc::clone(&env.clock),
            limits: Limits::new(),
            tools: offered,
        })
    }

    /// Sets the limits of every call. Default: [`Limits::new`].
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

#[async_trait]
impl Toolset for InProcess {
    async fn list(&self, _scope: &Scope) -> Result<Vec<ToolInfo>> {
        let infos = self.tools.values().map(|offered| offered.tool.info());
        Ok(infos.cloned().collect())
    }

    async fn call(&self, scope: &Scope, mut call: ToolCall) -> Result<ToolOutcome> {
        let offered = self
            .tools
            .get(&call.name)
            .ok_or_else(|| Error::unknown_tool(&call.name))?;
        scope
            .check(&*self.clock)
            .map_err(|e| Error::stopped(&call.name, e, Retry::Safe))?;
        self.limits.check_arguments(&call)?;
        // Models write `null` for the arguments of a tool that takes none.
        if call.arguments.is_null() {
            call.arguments = Value::Object(Map::new());
        }
        offered
            .parameters
            .check(&call.arguments)
            .map_err(|violations| Error::invalid_arguments(&call.name, violations))?;
        self.run(scope, offered, call).await
    }
}

impl InProcess {
    #[tracing::instrument(level = "debug", skip_all, fields(tool = %call.name))]
    async fn run(&self, scope: &Scope, offered: &Offered, call: ToolCall) -> Result<ToolOutcome> {
        let info = offered.tool.info();
        let scope = self.limits.narrow(scope, &*self.clock);
        let invocation = Invocation::new(scope.clone(), call.id);
        invocation.consume(Unit::Calls, 1);
        let running = contain(|| offered.tool.run(invocation.clone(), call.arguments));
        let ended = scope
            .guard(&*self.clock, running)
            .await
            .map_err(|e| Error::stopped(&call.name, e, retry_of(info.class)))?
            .ok_or_else(|| Error::panicked(&call.name, info.class))?;
        let outcome = match ended {
            Ok(value) => offered.outcome(value)?,
            Err(ToolError(Cause::Failed(text))) => ToolOutcome::failed(text),
            Err(ToolError(Cause::Broken(error))) => return Err(error),
        };
        Ok(self.limits.clip(outcome.with_usage(invocation.usage())))
    }
}

impl Offered {
    fn new(name: &str, tool: Tool) -> Result<Self> {
        ToolInfo::check_name(name)?;
        let info = tool.info();
        if info.spec.parameters.get("type").and_then(Value::as_str) != Some("object") {
            let reason = "its arguments must be a JSON object: take a struct with named fields";
            return Err(Error::invalid_definition(name, reason));
        }
        let parameters = Schema::compile(name, info.spec.parameters.clone())?;
        let output = match &info.output_schema {
            Some(schema) => Some(Schema::compile(name, schema.clone())?),
            None => None,
        };
        Ok(Self {
            tool,
            parameters,
            output,
        })
    }

    fn outcome(&self, value: Value) -> Result<ToolOutcome> {
        let info = self.tool.info();
        if let Some(output) = &self.output {
            output.check(&value).map_err(|violations| {
                Error::invalid_result(&info.spec.name, violations, info.class)
            })?;
            return Ok(ToolOutcome::structured(value));
        }
        Ok(match value {
            Value::String(text) => ToolOutcome::text(text),
            Value::Null => ToolOutcome::text(""),
            value => ToolOutcome::structured(value),
        })
    }
}

/// Runs a function's future and catches a panic of either; `None` says that there was one.
async fn contain(start: impl FnOnce() -> Running) -> Option<Result<Value, ToolError>> {
    let mut running = catch_unwind(AssertUnwindSafe(start)).ok()?;
    // A future that panicked is not polled again, so nothing sees its broken state.
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(ended)) => Poll::Ready(Some(ended)),
            Err(_panic) => Poll::Ready(None),
        },
    )
    .await
}
