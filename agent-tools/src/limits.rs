//! Bounds on what goes into a tool, what comes out, and how long it takes.

use std::time::Duration;

use agent_core::model::ToolCall;
use agent_core::{Clock, Scope};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::outcome::{Part, ToolOutcome};

/// Bounds on one call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    arguments_bytes_max: usize,
    arguments_depth_max: usize,
    result_bytes_max: usize,
    timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// Creates the default limits: arguments of 256 KiB and 32 levels, results of 256 KiB, 60 s.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arguments_bytes_max: 256 << 10,
            arguments_depth_max: 32,
            result_bytes_max: 256 << 10,
            timeout: Duration::from_secs(60),
        }
    }

    /// Sets the most bytes of arguments: texts and keys, and eight for each value. Default: 256
    /// KiB, a long document.
    #[must_use]
    pub const fn with_arguments_bytes_max(mut self, bytes: usize) -> Self {
        self.arguments_bytes_max = bytes;
        self
    }

    /// Sets the most levels of arguments. Default: 32; recursive code walks them.
    #[must_use]
    pub const fn with_arguments_depth_max(mut self, levels: usize) -> Self {
        self.arguments_depth_max = levels;
        self
    }

    /// Sets the most bytes of a result. Default: 256 KiB, about 64k LLM tokens.
    #[must_use]
    pub const fn with_result_bytes_max(mut self, bytes: usize) -> Self {
        self.result_bytes_max = bytes;
        self
    }

    /// Sets how long a call may take. Default: 60 s.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the scope with the deadline the time limit asks for, if that is earlier.
    #[must_use]
    pub fn narrow(&self, scope: &Scope, clock: &dyn Clock) -> Scope {
        scope.clone().with_deadline(clock.now().after(self.timeout))
    }

    /// Checks the size and depth of the arguments without recursion, stopping at the first excess.
    ///
    /// # Errors
    /// `Invalid` with [`Error::ArgumentsTooLarge`].
    pub fn check_arguments(&self, call: &ToolCall) -> Result<()> {
        measure(
            &call.arguments,
            self.arguments_bytes_max,
            self.arguments_depth_max,
        )
        .map_err(|(limit, unit)| Error::arguments_too_large(&call.name, limit, unit))
    }

    /// Cuts a result down to the limit. The texts that do not fit are cut, with a note that says
    /// so; structured content is whole or, if it does not fit, absent. The call stays a success or
    /// a failure: its effect has happened.
    #[must_use]
    pub fn clip(&self, mut outcome: ToolOutcome) -> ToolOutcome {
        let text_bytes: usize = outcome
            .content
            .iter()
            .map(|Part::Text { text }| text.len())
            .sum();
        let data_bytes = outcome
            .structured_content
            .as_ref()
            .map_or(0, |value| value.to_string().len());
        if text_bytes.max(data_bytes) <= self.result_bytes_max {
            return outcome;
        }
        outcome.structured_content = None;
        let mut left = self.result_bytes_max;
        outcome.content = outcome
            .content
            .into_iter()
            .map_while(|Part::Text { text }| {
                let kept = clip(&text, left);
                left = left.saturating_sub(text.len());
                (!kept.is_empty()).then(|| Part::text(kept))
            })
            .collect();
        outcome.content.push(Part::text(format!(
            "[the result was cut: it has {} bytes, the limit is {}; ask for less]",
            text_bytes.max(data_bytes),
            self.result_bytes_max
        )));
        outcome
    }
}

/// What each JSON value counts beside its text: roughly what it costs as JSON text.
const VALUE_BYTES: usize = 8;

/// Measures a JSON value without recursion; the error is the first limit exceeded and its unit.
pub(crate) fn measure(
    value: &Value,
    bytes_max: usize,
    depth_max: usize,
) -> Result<(), (usize, &'static str)> {
    let mut open = vec![(value, 1_usize)];
    let mut bytes = 0_usize;
    while let Some((value, depth)) = open.pop() {
        if depth > depth_max {
            return Err((depth_max, "levels"));
        }
        let inner = depth.saturating_add(1);
        bytes = bytes.saturating_add(VALUE_BYTES);
        match value {
            Value::String(text) => bytes = bytes.saturating_add(text.len()),
            Value::Array(items) => open.extend(items.iter().map(|item| (item, inner))),
            Value::Object(fields) => {
                for (key, field) in fields {
                    bytes = bytes.saturating_add(key.len());
                    open.push((field, inner));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        if bytes > bytes_max {
            return Err((bytes_max, "bytes"));
        }
    }
    Ok(())
}

/// Shortens text to at most `bytes_max` bytes on a character boundary.
pub(crate) fn clip(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    text.get(..end).unwrap_or_default().to_owned()
}
