//! The loop between a model and its tools.
//!
//! ```text
//!          ┌────────────── results, refusals, repairs ◄──┐
//!          ▼                                              │
//!   ask the model ── tool calls ──► answer each pending call
//!          │
//!          └── text ──► done
//! ```

use std::collections::BTreeSet;

use agent_core::model::{ChatRequest, FinishReason, Message, ModelExt, Role, ToolCall, ToolSpec};
use agent_core::{
    Classify, Digest, Env, ErrorKind, Failure, IdempotencyKey, Model, Retry, Scope, Usage,
};

use crate::error::{Error, Result};
use crate::outcome::ToolOutcome;
use crate::toolset::{Toolset, ToolsetExt};

/// A chat between a model and tools that can be stopped anywhere and resumed.
///
/// All that was said and consumed is here, also after an error. Running again goes on where it
/// stopped. A tool call that was interrupted, so that its outcome is unknown, is not repeated: the
/// model is told, and decides.
#[derive(Clone, Debug)]
pub struct Conversation {
    messages: Vec<Message>,
    usage: Usage,
    rounds_max: u32,
    calls_max: u32,
    tokens_out_max: Option<u32>,
    n_rounds: u32,
    n_calls: u32,
    /// Set while a call may have an effect that no message tells of.
    in_doubt: Option<String>,
}

/// Whether a conversation goes on after a call.
enum Step {
    Answered(String),
    Failed(Error),
}

impl Conversation {
    /// The longest id of a tool call kept as the model wrote it.
    const CALL_ID_BYTES_MAX: usize = 128;

    /// Starts from messages: at most 16 rounds with the model, 64 tool calls, no token limit of
    /// its own.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            usage: Usage::new(),
            rounds_max: 16,
            calls_max: 64,
            tokens_out_max: None,
            n_rounds: 0,
            n_calls: 0,
            in_doubt: None,
        }
    }

    /// Sets the most answers the model may give in this conversation. Default: 16.
    #[must_use]
    pub const fn with_rounds_max(mut self, rounds: u32) -> Self {
        self.rounds_max = rounds;
        self
    }

    /// Sets the most tool calls of this conversation. Default: 64.
    #[must_use]
    pub const fn with_calls_max(mut self, calls: u32) -> Self {
        self.calls_max = calls;
        self
    }

    /// Sets the most tokens of each answer. Default: the model's own limit.
    #[must_use]
    pub const fn with_tokens_out_max(mut self, tokens: u32) -> Self {
        self.tokens_out_max = Some(tokens);
        self
    }

    /// Adds what the user says next.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Returns all messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Returns what the model and the tools consumed together.
    #[must_use]
    pub const fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Returns how many answers the model gave.
    #[must_use]
    pub const fn n_rounds(&self) -> u32 {
        self.n_rounds
    }

    /// Returns how many tool calls were answered.
    #[must_use]
    pub const fn n_calls(&self) -> u32 {
        self.n_calls
    }

    /// Runs until the model answers without calling a tool, and returns that text.
    ///
    /// What a model can repair goes back to it as the result of its call: invalid arguments,
    /// unknown tools, refusals, limits, tools that took too long. Everything else ends the run.
    /// An answer that was cut off is not kept. Each tool call gets its own idempotency key, derived from the scope's, if that has one.
    ///
    /// # Errors
    /// Those of [`Toolset::list`] and of the model; `Canceled` and `TimedOut` through the scope;
    /// `Exhausted` when a limit is reached or an answer is cut off; `Unavailable`, `Corrupt` and
    /// `Internal` errors of a call.
    ///
    /// # Cancel safety
    /// Cancel safe in the sense above: an interrupted call is in doubt, nothing else is lost but
    /// the usage of an interrupted answer.
    pub async fn run(
        &mut self,
        scope: &Scope,
        env: &Env,
        model: &dyn Model,
        tools: &dyn Toolset,
    ) -> Result<String> {
        let stopped = |e| Error::stopped("(model)", e, Retry::Safe);
        scope.check(&*env.clock).map_err(stopped)?;
        let specs = tools.specs(scope).await?;
        loop {
            while let Some(call) = self.pending() {
                self.answer(scope, env, tools, call).await?;
            }
            if let Some(text) = self.answered() {
                return Ok(text);
            }
            scope.check(&*env.clock).map_err(stopped)?;
            self.ask(scope, env, model, &specs).await?;
        }
    }

    /// Returns the first call of the last answer that has no result.
    fn pending(&self) -> Option<ToolCall> {
        let asked = self
            .messages
            .iter()
            .rposition(|message| message.role == Role::Assistant)?;
        let (_, since) = self.messages.split_at_checked(asked)?;
        let (answer, results) = since.split_first()?;
        let is_open = |call: &&ToolCall| {
            !results
                .iter()
                .any(|result| result.tool_call_id.as_ref() == Some(&call.id))
        };
        answer.tool_calls.iter().find(is_open).cloned()
    }

    /// Returns the last message if it is an answer that asks for nothing.
    fn answered(&self) -> Option<String> {
        let last = self.messages.last()?;
        let is_answer = last.role == Role::Assistant && last.tool_calls.is_empty();
        is_answer.then(|| last.text.clone())
    }

    async fn ask(
        &mut self,
        scope: &Scope,
        env: &Env,
        model: &dyn Model,
        specs: &[ToolSpec],
    ) -> Result<()> {
        if self.n_rounds >= self.rounds_max {
            return Err(Error::ConversationLimit {
                limit: self.rounds_max,
                unit: "rounds",
            });
        }
        let mut request = ChatRequest::new(self.messages.clone()).with_tools(specs.to_vec());
        request.tokens_out_max = self.tokens_out_max;
        let response = scope
            .guard(&*env.clock, model.complete(scope, request))
            .await
            .map_err(|e| Error::stopped("(model)", e, Retry::Unknown))?
            .map_err(Error::Model)?;
        self.n_rounds = self.n_rounds.saturating_add(1);
        self.usage.merge(&response.usage);
        let mut message = response.message;
        if matches!(
            response.finish,
            FinishReason::Length | FinishReason::Filtered
        ) {
            return Err(Error::AnswerCut {
                reason: response.finish,
            });
        }
        self.name_calls(&mut message.tool_calls);
        self.messages.push(message);
        Ok(())
    }

    /// Gives every call an id of its own: results are matched by id, and a model may leave ids
    /// out or repeat one.
    fn name_calls(&self, calls: &mut [ToolCall]) {
        let ids: BTreeSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        let is_usable = |id: &&str| !id.is_empty() && id.len() <= Self::CALL_ID_BYTES_MAX;
        if ids.len() == calls.len() && ids.iter().all(is_usable) {
            return;
        }
        for (index, call) in calls.iter_mut().enumerate() {
            call.id = format!("call_{}_{index}", self.n_rounds);
        }
    }

    async fn answer(
        &mut self,
        scope: &Scope,
        env: &Env,
        tools: &dyn Toolset,
        call: ToolCall,
    ) -> Result<()> {
        let id = call.id.clone();
        if self.in_doubt.as_ref() == Some(&id) {
            self.push_result(
                &id,
                "The call was interrupted. Whether it had its effect is not known: \
                 check before calling again.",
            );
            return Ok(());
        }
        scope
            .check(&*env.clock)
            .map_err(|e| Error::stopped(&call.name, e, Retry::Safe))?;
        if self.n_calls >= self.calls_max {
            return Err(Error::ConversationLimit {
                limit: self.calls_max,
                unit: "tool calls",
            });
        }
        let call_scope = self.call_scope(scope);
        self.in_doubt = Some(id.clone());
        let ended = tools.call(&call_scope, call).await;
        match self.judge(scope, env, ended) {
            Step::Answered(text) => {
                self.push_result(&id, &text);
                Ok(())
            }
            Step::Failed(error) => {
                if error.retry() == Retry::Safe {
                    self.in_doubt = None;
                }
                Err(error)
            }
        }
    }

    fn judge(&mut self, scope: &Scope, env: &Env, ended: Result<ToolOutcome>) -> Step {
        match ended {
            Ok(outcome) => {
                self.usage.merge(&outcome.usage);
                let text = outcome.to_text();
                Step::Answered(if outcome.is_error {
                    format!("The tool failed: {text}")
                } else {
                    text
                })
            }
            Err(error) if is_repairable(&error) && scope.check(&*env.clock).is_ok() => {
                let failure = Failure::of(&error);
                Step::Answered(format!(
                    "The call failed: {failure}. To do: {}.",
                    failure.fix
                ))
            }
            Err(error) => Step::Failed(error),
        }
    }

    fn push_result(&mut self, id: &str, text: &str) {
        self.messages.push(Message::tool_result(id, text));
        self.n_calls = self.n_calls.saturating_add(1);
        self.in_doubt = None;
    }

    /// Two calls of one conversation are two effects, so they must not share a key.
    fn call_scope(&self, scope: &Scope) -> Scope {
        let key = scope.idempotency_key.as_ref().and_then(|key| {
            let place = format!("{} call {}", key.as_str(), self.n_calls);
            IdempotencyKey::new(Digest::of_bytes(place.as_bytes()).to_string()).ok()
        });
        let mut scope = scope.child();
        scope.idempotency_key = key;
        scope
    }
}

/// Returns whether the model, rather than the host, can do something about an error.
fn is_repairable(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::Invalid
            | ErrorKind::Denied
            | ErrorKind::Exhausted
            | ErrorKind::Unsupported
            | ErrorKind::TimedOut
    )
}
