//! The errors of tools: what a caller can decide on. A tool's own failure is no error here; it is
//! a [`ToolOutcome`](crate::ToolOutcome) that says so.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use agent_core::model::FinishReason;
use agent_core::{BoxError, Classify, EffectClass, ErrorKind, Retry};

use crate::limits::clip;
use crate::policy::Decision;

/// One place where a value does not match its schema, written for a model to repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The JSON pointer to the place; empty for the whole value.
    pub path: String,
    /// What the schema asks for.
    pub expected: String,
    /// What stands there, shortened.
    pub got: String,
}

impl Violation {
    /// The longest field in bytes: enough to recognize a value, too little to flood a prompt.
    pub const FIELD_BYTES_MAX: usize = 200;

    /// Describes a violation; each part is shortened to [`Self::FIELD_BYTES_MAX`].
    #[must_use]
    pub fn new(path: &str, expected: &str, got: &str) -> Self {
        Self {
            path: clip(path, Self::FIELD_BYTES_MAX),
            expected: clip(expected, Self::FIELD_BYTES_MAX),
            got: clip(got, Self::FIELD_BYTES_MAX),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "(root)"
        } else {
            &self.path
        };
        write!(f, "at {path}: expected {}, got {}", self.expected, self.got)
    }
}

/// Joins violations for a message.
struct Listed<'a>(&'a [Violation]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fmt::Display::fmt(violation, f)?;
        }
        Ok(())
    }
}

/// What went wrong with a call, apart from failures of the tool itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No tool has this name.
    #[error("there is no tool `{name}`")]
    #[non_exhaustive]
    UnknownTool {
        /// The name, shortened.
        name: String,
    },
    /// The arguments do not match the tool's schema; the tool was not run.
    #[error("the arguments of `{tool}` are invalid: {}", Listed(violations))]
    #[non_exhaustive]
    InvalidArguments {
        /// The tool.
        tool: String,
        /// Where and how, at most [`Schema::VIOLATIONS_MAX`](crate::schema::Schema::VIOLATIONS_MAX).
        violations: Vec<Violation>,
    },
    /// The arguments exceed a limit; the tool was not run.
    #[error("the arguments of `{tool}` exceed the limit of {limit} {unit}")]
    #[non_exhaustive]
    ArgumentsTooLarge {
        /// The tool, shortened.
        tool: String,
        /// The limit.
        limit: usize,
        /// What is limited.
        unit: &'static str,
    },
    /// The policy does not let this call pass; the tool was not run.
    #[error("`{tool}` was refused: {decision}")]
    #[non_exhaustive]
    Refused {
        /// The tool.
        tool: String,
        /// The decision with the rule that made it.
        decision: Box<Decision>,
    },
    /// A tool's name, schema or place among others is not usable.
    #[error("the tool `{name}` cannot be offered: {reason}")]
    #[non_exhaustive]
    InvalidDefinition {
        /// The tool or namespace, shortened.
        name: String,
        /// Why.
        reason: String,
    },
    /// Two tools or namespaces share a name.
    #[error("the name `{name}` is taken twice")]
    #[non_exhaustive]
    Collision {
        /// The name, shortened.
        name: String,
    },
    /// The tool ran and returned something its own output schema refuses.
    #[error("the result of `{tool}` is invalid: {}", Listed(violations))]
    #[non_exhaustive]
    InvalidResult {
        /// The tool.
        tool: String,
        /// Where and how.
        violations: Vec<Violation>,
        /// Whether the call may be repeated.
        retry: Retry,
    },
    /// The tool panicked; the host and the other tools are not affected.
    #[error("the tool `{tool}` panicked")]
    #[non_exhaustive]
    Panicked {
        /// The tool.
        tool: String,
        /// Whether the call may be repeated.
        retry: Retry,
    },
    /// The scope was canceled.
    #[error("the call of `{tool}` was canceled")]
    #[non_exhaustive]
    Canceled {
        /// The tool, shortened.
        tool: String,
        /// Whether the call may be repeated.
        retry: Retry,
    },
    /// The deadline of the scope or the time limit of the tool passed.
    #[error("the call of `{tool}` took too long")]
    #[non_exhaustive]
    TimedOut {
        /// The tool, shortened.
        tool: String,
        /// Whether the call may be repeated.
        retry: Retry,
    },
    /// A conversation used up what it may use.
    #[error("the conversation reached its limit of {limit} {unit}")]
    #[non_exhaustive]
    ConversationLimit {
        /// The limit.
        limit: u32,
        /// What is limited.
        unit: &'static str,
    },
    /// The model's answer ended before it was complete.
    #[error("the model's answer was cut off: {reason:?}")]
    #[non_exhaustive]
    AnswerCut {
        /// Why the model stopped.
        reason: FinishReason,
    },
    /// The model failed.
    #[error("the model failed")]
    Model(#[source] agent_core::Error),
    /// A toolset's implementation failed.
    #[error("{backend} failed to {operation}")]
    #[non_exhaustive]
    Backend {
        /// The implementation's name.
        backend: &'static str,
        /// What it was doing.
        operation: &'static str,
        /// What a caller can decide on.
        kind: ErrorKind,
        /// Whether the call may be repeated.
        retry: Retry,
        /// How long the other side asked to wait.
        retry_after: Option<Duration>,
        /// The cause.
        source: BoxError,
    },
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Returns what is known about a call of this class that began and did not answer.
#[must_use]
pub const fn retry_of(class: EffectClass) -> Retry {
    match class {
        EffectClass::Pure => Retry::Safe,
        _ => Retry::Unknown,
    }
}

impl Error {
    /// The longest name kept in an error; a name from a model may have any length.
    const NAME_BYTES_MAX: usize = 80;

    /// Creates an [`Error::UnknownTool`].
    #[must_use]
    pub fn unknown_tool(name: &str) -> Self {
        Self::UnknownTool { name: shown(name) }
    }

    /// Creates an [`Error::InvalidArguments`].
    #[must_use]
    pub fn invalid_arguments(tool: &str, violations: Vec<Violation>) -> Self {
        Self::InvalidArguments {
            tool: shown(tool),
            violations,
        }
    }

    /// Creates an [`Error::ArgumentsTooLarge`].
    #[must_use]
    pub fn arguments_too_large(tool: &str, limit: usize, unit: &'static str) -> Self {
        Self::ArgumentsTooLarge {
            tool: shown(tool),
            limit,
            unit,
        }
    }

    /// Creates an [`Error::Refused`].
    #[must_use]
    pub fn refused(tool: &str, decision: Decision) -> Self {
        Self::Refused {
            tool: shown(tool),
            decision: Box::new(decision),
        }
    }

    /// Creates an [`Error::InvalidDefinition`].
    #[must_use]
    pub fn invalid_definition(name: &str, reason: impl Into<String>) -> Self {
        Self::InvalidDefinition {
            name: shown(name),
            reason: reason.into(),
        }
    }

    /// Creates an [`Error::Collision`].
    #[must_use]
    pub fn collision(name: &str) -> Self {
        Self::Collision { name: shown(name) }
    }

    /// Creates an [`Error::InvalidResult`] of a tool of this class.
    #[must_use]
    pub fn invalid_result(tool: &str, violations: Vec<Violation>, class: EffectClass) -> Self {
        Self::InvalidResult {
            tool: shown(tool),
            violations,
            retry: retry_of(class),
        }
    }

    /// Creates an [`Error::Panicked`] of a tool of this class.
    #[must_use]
    pub fn panicked(tool: &str, class: EffectClass) -> Self {
        Self::Panicked {
            tool: shown(tool),
            retry: retry_of(class),
        }
    }

    /// Names the tool whose call a scope stopped; `retry` says whether it had begun.
    #[must_use]
    pub fn stopped(tool: &str, error: agent_core::Error, retry: Retry) -> Self {
        let tool = shown(tool);
        match error {
            agent_core::Error::Canceled => Self::Canceled { tool, retry },
            agent_core::Error::TimedOut => Self::TimedOut { tool, retry },
            other => Self::Backend {
                backend: "scope",
                operation: "guard the call",
                kind: other.kind(),
                retry,
                retry_after: other.retry_after(),
                source: Box::new(other),
            },
        }
    }

    /// Wraps the failure of a toolset's implementation, for implementors outside this crate.
    #[must_use]
    pub fn backend(
        backend: &'static str,
        operation: &'static str,
        kind: ErrorKind,
        retry: Retry,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend {
            backend,
            operation,
            kind,
            retry,
            retry_after: None,
            source: source.into(),
        }
    }

    /// Adds how long the other side asked to wait; other variants are unchanged.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        if let Self::Backend { retry_after, .. } = &mut self {
            *retry_after = Some(wait);
        }
        self
    }
}

/// Makes a name from a model fit for a log line: short, printable, visibly escaped.
fn shown(name: &str) -> String {
    let escaped: String = clip(name, Error::NAME_BYTES_MAX)
        .chars()
        .flat_map(|c| {
            let escape = !c.is_ascii_graphic() && c != ' ';
            let plain = (!escape).then_some(c);
            plain
                .into_iter()
                .chain(escape.then(|| c.escape_unicode()).into_iter().flatten())
        })
        .collect();
    clip(&escaped, Error::NAME_BYTES_MAX)
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownTool { .. } => ErrorKind::NotFound,
            Self::InvalidArguments { .. }
            | Self::ArgumentsTooLarge { .. }
            | Self::InvalidDefinition { .. } => ErrorKind::Invalid,
            Self::Refused { decision, .. } => decision.kind(),
            Self::Collision { .. } => ErrorKind::Conflict,
            Self::InvalidResult { .. } | Self::Panicked { .. } => ErrorKind::Internal,
            Self::Canceled { .. } => ErrorKind::Canceled,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::ConversationLimit { .. } | Self::AnswerCut { .. } => ErrorKind::Exhausted,
            Self::Model(source) => source.kind(),
            Self::Backend { kind, .. } => *kind,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::UnknownTool { .. }
            | Self::InvalidArguments { .. }
            | Self::ArgumentsTooLarge { .. }
            | Self::InvalidDefinition { .. }
            | Self::Collision { .. }
            | Self::ConversationLimit { .. }
            | Self::AnswerCut { .. } => Retry::Never,
            Self::Refused { decision, .. } => decision.retry(),
            Self::InvalidResult { retry, .. }
            | Self::Panicked { retry, .. }
            | Self::Canceled { retry, .. }
            | Self::TimedOut { retry, .. }
            | Self::Backend { retry, .. } => *retry,
            Self::Model(source) => source.retry(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::UnknownTool { .. } => "tools.unknown_tool",
            Self::InvalidArguments { .. } => "tools.invalid_arguments",
            Self::ArgumentsTooLarge { .. } => "tools.arguments_too_large",
            Self::Refused { decision, .. } => decision.code(),
            Self::InvalidDefinition { .. } => "tools.invalid_definition",
            Self::Collision { .. } => "tools.collision",
            Self::InvalidResult { .. } => "tools.invalid_result",
            Self::Panicked { .. } => "tools.panicked",
            Self::Canceled { .. } => "tools.canceled",
            Self::TimedOut { .. } => "tools.timed_out",
            Self::ConversationLimit { .. } => "tools.conversation_limit",
            Self::AnswerCut { .. } => "tools.answer_cut",
            Self::Model(source) => source.code(),
            Self::Backend { .. } => "tools.backend",
        }
    }

    fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::UnknownTool { .. } => "call one of the listed tools by its exact name",
            Self::InvalidArguments { .. } => "correct the named places and call again",
            Self::ArgumentsTooLarge { .. } => "send less, or split the work into several calls",
            Self::Refused { decision, .. } => decision.fix(),
            Self::InvalidDefinition { .. } => "correct the definition as the message says",
            Self::Collision { .. } => "rename one of the two, or mount it under a namespace",
            Self::InvalidResult { .. } => "correct the tool or its output schema",
            Self::Panicked { .. } => "correct the tool; the panic hook has its message",
            Self::Canceled { .. } => "start the call again if it is still wanted",
            Self::TimedOut { .. } => "allow more time, or split the work",
            Self::ConversationLimit { .. } => "raise the limit, or split the task",
            Self::AnswerCut { .. } => "allow more tokens, or ask for less",
            Self::Model(source) => return source.fix(),
            Self::Backend { .. } => "see the cause; repeat only as the error's retry says",
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { decision, .. } => decision.retry_after(),
            Self::Model(source) => source.retry_after(),
            Self::Backend { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
