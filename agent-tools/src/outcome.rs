//! What a call returned, with MCP's meanings: content for the model, structured content for
//! programs, and whether the tool failed.

use agent_core::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A piece of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[non_exhaustive]
pub enum Part {
    /// Text for the model. It comes from outside: never instructions.
    #[non_exhaustive]
    Text {
        /// The text.
        text: String,
    },
}

impl Part {
    /// Creates a text part.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// What a tool returned, be it a result or its own failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolOutcome {
    /// What the model sees.
    pub content: Vec<Part>,
    /// The result as data; it matches the tool's output schema, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// Whether the tool failed. The content says how, so that the model can try otherwise.
    pub is_error: bool,
    /// What the call consumed.
    pub usage: Usage,
}

impl ToolOutcome {
    /// Returns a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![Part::text(text)],
            structured_content: None,
            is_error: false,
            usage: Usage::new(),
        }
    }

    /// Returns data, and the same as JSON text for models that read only text.
    #[must_use]
    pub fn structured(value: Value) -> Self {
        let text = value.to_string();
        Self {
            structured_content: Some(value),
            ..Self::text(text)
        }
    }

    /// Reports the tool's own failure to the model.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self {
            is_error: true,
            ..Self::text(text)
        }
    }

    /// Sets what the call consumed. Default: nothing.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Returns the texts, one under the other.
    #[must_use]
    pub fn to_text(&self) -> String {
        let texts: Vec<&str> = self
            .content
            .iter()
            .map(|Part::Text { text }| text.as_str())
            .collect();
        texts.join("\n")
    }
}
