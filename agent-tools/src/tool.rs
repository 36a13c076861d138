//! Typed tools inside the process: an async function and the schema of its arguments.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use agent_core::model::ToolSpec;
use agent_core::{Amount, BoxError, EffectClass, Scope, Unit, Usage};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Violation};
use crate::info::{Annotations, ToolInfo};
use crate::schema;

/// One call as the tool's function sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Invocation {
    /// Who calls, until when, and under which idempotency key.
    pub scope: Scope,
    /// The model's name for the call; it may be empty.
    pub call_id: String,
    usage: Arc<Mutex<Usage>>,
}

impl Invocation {
    /// Creates the invocation of a call.
    #[must_use]
    pub fn new(scope: Scope, call_id: impl Into<String>) -> Self {
        Self {
            scope,
            call_id: call_id.into(),
            usage: Arc::new(Mutex::new(Usage::new())),
        }
    }

    /// Notes what the call consumes; it is in the outcome, also if the tool fails.
    pub fn consume(&self, unit: Unit, quantity: u64) {
        self.usage.lock().add(unit, quantity);
    }

    /// Returns what the call has consumed so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage.lock().clone()
    }
}

/// Why a tool's function has no result.
///
/// Any error becomes a failure the model is told, by its message alone, except an
/// [`Error`] of this crate, which breaks the call. So `?` does what is usually wanted:
///
/// ```
/// # use agent_tools::ToolError;
/// fn parse(text: &str) -> Result<u32, ToolError> {
///     if text.is_empty() {
///         return Err(ToolError::failed("there is nothing to read"));
///     }
///     Ok(text.parse()?)
/// }
/// assert!(parse("x").is_err());
/// ```
#[derive(Debug)]
pub struct ToolError(pub(crate) Cause);

#[derive(Debug)]
pub(crate) enum Cause {
    Failed(String),
    Broken(Error),
}

impl ToolError {
    /// Tells the model that the tool failed, and how, so that it can try otherwise.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self(Cause::Failed(text.into()))
    }

    /// Breaks the call with a typed error for the host.
    #[must_use]
    pub const fn broken(error: Error) -> Self {
        Self(Cause::Broken(error))
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ToolError {
    fn from(error: E) -> Self {
        let error: BoxError = Box::new(error);
        match error.downcast::<Error>() {
            Ok(broken) => Self::broken(*broken),
            Err(other) => Self::failed(other.to_string()),
        }
    }
}

/// The future of a tool's function.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Value, ToolError>> + Send>>;

/// A tool's function behind one type: it takes validated arguments.
type Function = Arc<dyn Fn(Invocation, Value) -> Running + Send + Sync>;

/// A tool inside the process. Cheap to clone.
#[derive(Clone)]
pub struct Tool {
    info: ToolInfo,
    function: Function,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Tool {
    /// Makes a tool of an async function.
    ///
    /// The schema of the arguments comes from `A`, which must be a JSON object. The result is
    /// returned as structured content and as JSON text; a string is text alone, and nothing
    /// (`()`) is nothing.
    ///
    /// The class is `Opaque` until [`Self::with_class`] says better, so that an unknown outcome
    /// is never repeated by mistake.
    #[must_use]
    pub fn new<A, R, F, Fut>(
        name: impl Into<String>,
        description: impl Into<String>,
        function: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize,
        F: Fn(Invocation, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, ToolError>> + Send + 'static,
    {
        let name = name.into();
        let spec = ToolSpec::new(name.clone(), description, schema::input_of::<A>());
        let function = Arc::new(function);
        Self {
            info: ToolInfo::new(spec),
            function: Arc::new(move |invocation, arguments| {
                let (name, function) = (name.clone(), Arc::clone(&function));
                Box::pin(async move {
                    let arguments = read(&name, arguments)?;
                    let result = function(invocation, arguments).await?;
                    serde_json::to_value(result)
                        .map_err(|e| unreadable(&name, &e))
                        .map_err(ToolError::broken)
                })
            }),
        }
    }

    /// Sets the effect class, and the hints that follow from it. Default: `Opaque`.
    #[must_use]
    pub fn with_class(mut self, class: EffectClass) -> Self {
        self.info = self.info.with_class(class);
        self
    }

    /// Sets the hints. Default: those of the class.
    #[must_use]
    pub fn with_annotations(mut self, annotations: Annotations) -> Self {
        self.info = self.info.with_annotations(annotations);
        self
    }

    /// Promises structured content of the schema of `R`, which every result is checked against.
    /// Default: no promise.
    #[must_use]
    pub fn with_output_schema<R: JsonSchema>(mut self) -> Self {
        self.info = self.info.with_output_schema(schema::output_of::<R>());
        self
    }

    /// Sets the most one call may cost. Default: nothing is reserved.
    #[must_use]
    pub fn with_cost_max(mut self, cost_max: Amount) -> Self {
        self.info = self.info.with_cost_max(cost_max);
        self
    }

    /// Returns what is known about the tool.
    #[must_use]
    pub const fn info(&self) -> &ToolInfo {
        &self.info
    }

    /// Starts the function with validated arguments.
    pub(crate) fn run(&self, invocation: Invocation, arguments: Value) -> Running {
        (self.function)(invocation, arguments)
    }
}

/// Reads the typed arguments. A type may be narrower than its schema, for example `i32`.
fn read<A: DeserializeOwned>(name: &str, arguments: Value) -> Result<A, ToolError> {
    let got = arguments.to_string();
    serde_json::from_value(arguments).map_err(|e| {
        let violation = Violation::new("", &e.to_string(), &got);
        ToolError::broken(Error::invalid_arguments(name, vec![violation]))
    })
}

fn unreadable(name: &str, error: &serde_json::Error) -> Error {
    let violation = Violation::new("", "a JSON value", &error.to_string());
    Error::invalid_result(name, vec![violation], EffectClass::Opaque)
}
