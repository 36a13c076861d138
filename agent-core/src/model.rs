//! Language models behind one object-safe call: streaming chat with tool calls and usage.

mod cassette;
#[cfg(feature = "conformance")]
pub mod conformance;
mod rate_limit;
mod recording;
mod replay;
mod retry;
mod scripted;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::usage::Usage;

pub use cassette::Cassette;
pub use replay::NotRecorded;
pub use scripted::Turn;
#[expect(
    clippy::module_name_repetitions,
    reason = "hosts import them by name, where `Retry` alone would say nothing"
)]
pub use {
    rate_limit::RateLimitModel, recording::RecordingModel, replay::ReplayModel, retry::RetryModel,
    scripted::ScriptedModel,
};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Instructions of the host.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be empty where there are tool calls.
    pub text: String,
    /// The calls an assistant asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// Creates a message without tool calls.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            text: text.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// Creates the answer to a tool call.
    #[must_use]
    pub fn tool_result(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            tool_call_id: Some(call_id.into()),
            ..Self::new(Role::Tool, text)
        }
    }
}

/// A call a model asks for. The arguments are hostile input until they are validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// The model's name for this call.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments.
    pub arguments: serde_json::Value,
}

impl ToolCall {
    /// Creates a call.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: serde_json::Value,
    ) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            arguments,
        }
    }
}

/// A tool as a model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolSpec {
    /// The name the model calls it by.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// The JSON Schema (2020-12) of its arguments.
    pub parameters: serde_json::Value,
}

impl ToolSpec {
    /// Creates a tool's description.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: serde_json::Value,
    ) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters,
        }
    }
}

/// What a model is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The chat so far, oldest first.
    pub messages: Vec<Message>,
    /// The tools the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// The most tokens the answer may have; budgets are reserved for this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_out_max: Option<u32>,
}

impl ChatRequest {
    /// Creates a request without tools.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }

    /// Sets the tools. Default: none.
    #[must_use]
    pub fn with_tools(mut self, tools: Vec<ToolSpec>) -> Self {
        self.tools = tools;
        self
    }

    /// Sets the most tokens of the answer. Default: the model's own limit.
    #[must_use]
    pub const fn with_tokens_out_max(mut self, tokens: u32) -> Self {
        self.tokens_out_max = Some(tokens);
        self
    }
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The answer is complete.
    Stop,
    /// Tool calls wait for their results.
    ToolCalls,
    /// The token limit was reached.
    Length,
    /// The provider withheld the answer.
    Filtered,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChatDelta {
    /// More text.
    Text(String),
    /// One whole tool call; adapters assemble a provider's fragments.
    ToolCall(ToolCall),
    /// The end: the last piece of every complete answer.
    #[non_exhaustive]
    Finish {
        /// Why the model stopped.
        reason: FinishReason,
        /// What the whole call consumed.
        usage: Usage,
    },
}

impl ChatDelta {
    /// Creates the last piece of an answer.
    #[must_use]
    pub const fn finish(reason: FinishReason, usage: Usage) -> Self {
        Self::Finish { reason, usage }
    }
}

/// The pieces of one answer. A stream that ends without [`ChatDelta::Finish`] was cut off.
pub type ChatStream = Pin<Box<dyn Stream<Item = Result<ChatDelta>> + Send>>;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatResponse {
    /// The assistant's message with its tool calls.
    pub message: Message,
    /// Why the model stopped.
    pub finish: FinishReason,
    /// What the call consumed.
    pub usage: Usage,
}

/// A language model.
///
/// This is the contract for _implementors_: one streaming call. Users call
/// [`ModelExt::complete`] where they want the whole answer.
#[async_trait]
pub trait Model: fmt::Debug + Send + Sync + 'static {
    /// Returns the provider's name of the model; prices are looked up by it.
    fn name(&self) -> &str;

    /// Starts an answer.
    ///
    /// # Errors
    /// `Invalid` for a request the model refuses, `Exhausted` with a wait for a rate limit,
    /// `Unavailable` for a provider that is away; an item of the stream may fail the same way.
    ///
    /// # Cancel safety
    /// Dropping the future or the stream stops the call; what was generated may be billed.
    async fn chat(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream>;
}

#[async_trait]
impl<M: Model + ?Sized> Model for Arc<M> {
    fn name(&self) -> &str {
        (**self).name()
    }

    async fn chat(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        (**self).chat(scope, request).await
    }
}

/// Shorthands over [`Model`], for users. Do not implement it.
#[async_trait]
#[expect(
    clippy::module_name_repetitions,
    reason = "the `Ext` suffix is the house name for shorthands over a trait"
)]
pub trait ModelExt: Model {
    /// Collects a whole answer.
    ///
    /// # Errors
    /// Those of [`Model::chat`]; `Invalid` if the stream ends without its last piece or exceeds
    /// [`ChatResponse::BYTES_MAX`].
    ///
    /// # Cancel safety
    /// As [`Model::chat`].
    async fn complete(&self, scope: &Scope, request: ChatRequest) -> Result<ChatResponse> {
        let mut stream = self.chat(scope, request).await?;
        let mut message = Message::new(Role::Assistant, "");
        let mut n_bytes = 0_usize;
        while let Some(delta) = stream.next().await {
            match delta? {
                ChatDelta::Text(text) => {
                    n_bytes = n_bytes.saturating_add(text.len());
                    message.text.push_str(&text);
                }
                ChatDelta::ToolCall(call) => {
                    let n_arguments = call.arguments.to_string().len();
                    n_bytes = n_bytes.saturating_add(n_arguments);
                    message.tool_calls.push(call);
                }
                ChatDelta::Finish { reason, usage } => {
                    return Ok(ChatResponse {
                        message,
                        finish: reason,
                        usage,
                    });
                }
            }
            let over = n_bytes > ChatResponse::BYTES_MAX
                || message.tool_calls.len() > ChatResponse::TOOL_CALLS_MAX;
            if over {
                return Err(Error::invalid("model answer", "longer than the limit"));
            }
        }
        Err(Error::invalid(
            "model answer",
            "the stream ended before the answer did",
        ))
    }
}

impl<M: Model + ?Sized> ModelExt for M {}

impl ChatResponse {
    /// The most collected text and arguments: far above any context window's output, far below memory.
    pub const BYTES_MAX: usize = 16 << 20;
    /// The most tool calls in one answer.
    pub const TOOL_CALLS_MAX: usize = 128;
}
