//! A model that says what its script says: for tests and examples without a provider.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use super::{ChatDelta, ChatRequest, ChatStream, FinishReason, Model, ToolCall};
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::usage::{Unit, Usage};

type Expectation = Box<dyn Fn(&ChatRequest) -> Result<(), String> + Send>;

/// One answer of a script, and what must hold of the request it answers.
pub struct Turn {
    deltas: Vec<ChatDelta>,
    finish: FinishReason,
    usage: Option<Usage>,
    error: Option<Error>,
    expectations: Vec<Expectation>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("deltas", &self.deltas)
            .field("finish", &self.finish)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl Turn {
    fn new(deltas: Vec<ChatDelta>, finish: FinishReason) -> Self {
        Self {
            deltas,
            finish,
            usage: None,
            error: None,
            expectations: Vec::new(),
        }
    }

    /// Answers with text, streamed word by word.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let words = text.split_inclusive(' ');
        let deltas = words.map(|word| ChatDelta::Text(word.to_owned()));
        Self::new(deltas.collect(), FinishReason::Stop)
    }

    /// Asks for tool calls.
    #[must_use]
    pub fn tool_calls(calls: Vec<ToolCall>) -> Self {
        let deltas = calls.into_iter().map(ChatDelta::ToolCall);
        Self::new(deltas.collect(), FinishReason::ToolCalls)
    }

    /// Fails before the first piece of an answer.
    #[must_use]
    pub fn error(error: Error) -> Self {
        Self {
            error: Some(error),
            ..Self::new(Vec::new(), FinishReason::Stop)
        }
    }

    /// Fails after the pieces of this turn, in place of its end.
    #[must_use]
    pub fn then_error(mut self, error: Error) -> Self {
        self.error = Some(error);
        self
    }

    /// Sets what the answer consumed. Default: one call and a token per word read and written.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Sets why the model stopped. Default: `ToolCalls` for tool calls, else `Stop`.
    #[must_use]
    pub fn with_finish(mut self, finish: FinishReason) -> Self {
        self.finish = finish;
        self
    }

    /// Requires something of the request; the error says what is wrong with it. Default: any
    /// request is answered.
    #[must_use]
    pub fn expecting(
        mut self,
        expectation: impl Fn(&ChatRequest) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.expectations.push(Box::new(expectation));
        self
    }

    /// Requires the last message of the request to contain `text`.
    #[must_use]
    pub fn expecting_text(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.expecting(move |request| match request.messages.last() {
            Some(last) if last.text.contains(&text) => Ok(()),
            _ => Err(format!("the last message does not contain `{text}`")),
        })
    }

    fn usage_of(&self, request: &ChatRequest) -> Usage {
        let words_in = request.messages.iter().map(|message| words(&message.text));
        let words_out = self.deltas.iter().map(|delta| match delta {
            ChatDelta::Text(text) => words(text),
            _ => 1,
        });
        Usage::new()
            .with(Unit::Calls, 1)
            .with(Unit::TokensIn, words_in.sum())
            .with(Unit::TokensOut, words_out.sum())
    }
}

fn words(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

/// Answers each call with the next turn of a script.
#[derive(Debug)]
pub struct ScriptedModel {
    name: String,
    turns: Mutex<VecDeque<Turn>>,
}

impl ScriptedModel {
    /// Creates a model that has these turns, in order.
    #[must_use]
    pub fn new(name: impl Into<String>, turns: impl IntoIterator<Item = Turn>) -> Self {
        Self {
            name: name.into(),
            turns: Mutex::new(turns.into_iter().collect()),
        }
    }

    /// Returns how many turns have not been asked for.
    #[must_use]
    pub fn n_turns_left(&self) -> usize {
        self.turns.lock().len()
    }
}

#[async_trait]
impl Model for ScriptedModel {
    fn name(&self) -> &str {
        &self.name
    }

    /// Answers with the next turn. A request that does not meet its expectations, or that comes
    /// after the last turn, fails with `Invalid`.
    async fn chat(&self, scope: &Scope, request: ChatRequest) -> Result<ChatStream> {
        if scope.cancellation.is_cancelled() {
            return Err(Error::Canceled);
        }
        let turn = self.turns.lock().pop_front();
        let turn = turn.ok_or_else(|| Error::invalid("scripted chat", "the script has ended"))?;
        for expectation in &turn.expectations {
            expectation(&request).map_err(|reason| Error::invalid("scripted chat", reason))?;
        }
        let usage = turn.usage.clone();
        let usage = usage.unwrap_or_else(|| turn.usage_of(&request));
        let end = match turn.error {
            Some(error) if turn.deltas.is_empty() => return Err(error),
            Some(error) => Err(error),
            None => Ok(ChatDelta::finish(turn.finish, usage)),
        };
        let deltas = turn.deltas.into_iter().map(Ok).chain([end]);
        Ok(stream::iter(deltas).boxed())
    }
}
