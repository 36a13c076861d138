//! The outbox: messages to the outside, written with the step they belong to and delivered at least
//! once.
//!
//! A message is recorded in the transaction that settles its effect, so there is one exactly when the
//! step is done. A dispatcher hands it to the host's [`Deliver`] of its topic until that takes it;
//! after a crash between delivery and its record the same message comes again, under the same id,
//! which is the receiver's idempotency key. What cannot be delivered becomes a question to a person.

mod dispatch;

use std::fmt;
use std::time::Duration;

use agent_core::{Failure, Retry, RunId, TaskId, Timestamp};
use async_trait::async_trait;
use serde_json::{Value, json};

pub(crate) use dispatch::{Handlers, dispatch};

use crate::error::{Error, Result};
use crate::fleet::Escalation;
use crate::inbox::NewRequest;
use crate::recovery::Backoff;

agent_core::define_id!(
    /// A message; the same for every delivery of it.
    MessageId, "message"
);

/// A message to write with an effect's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewMessage {
    /// Which handler delivers it.
    pub topic: String,
    /// Messages of one topic and key are delivered in the order they were written, each after the
    /// one before it. Without a key there is no order.
    pub key: Option<String>,
    /// What it says; no secrets.
    pub payload: Value,
}

impl NewMessage {
    /// The longest topic or key in bytes.
    pub const NAME_BYTES_MAX: usize = 256;
    /// The largest payload in bytes; bulk data belongs in a file or blob the payload names.
    pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;
    /// The most messages of one effect.
    pub const PER_EFFECT_MAX: usize = 64;

    /// Describes a message without an order.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: Value) -> Self {
        Self {
            topic: topic.into(),
            key: None,
            payload,
        }
    }

    /// Sets what it is ordered by. Default: nothing.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Returns an error if a part is too large.
    pub(crate) fn check(&self) -> Result<()> {
        let is_name = |name: &str| !name.is_empty() && name.len() <= Self::NAME_BYTES_MAX;
        if !is_name(&self.topic) || self.key.as_deref().is_some_and(|key| !is_name(key)) {
            return Err(Error::invalid(
                "message",
                "a topic and a key have 1 to 256 bytes",
            ));
        }
        if self.payload.to_string().len() > Self::PAYLOAD_BYTES_MAX {
            return Err(Error::invalid(
                "message.payload",
                "the payload is over 256 KiB; send where it lies",
            ));
        }
        Ok(())
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The message: the receiver's idempotency key.
    pub id: MessageId,
    /// The run it belongs to.
    pub run: RunId,
    /// The task that wrote it.
    pub task: TaskId,
    /// Which handler delivers it.
    pub topic: String,
    /// What it is ordered by.
    pub key: Option<String>,
    /// What it says.
    pub payload: Value,
    /// Which delivery this is, counted from one since it was written or a person sent it again.
    pub n_try: u32,
    /// When it was written.
    pub created: Timestamp,
}

impl Message {
    /// The most deliveries before a person is asked.
    pub const TRIES_MAX: u32 = 10;
    /// The most messages of one take.
    pub const TAKE_MAX: usize = 64;
    /// How long one delivery may take.
    pub const DELIVERY_MAX: Duration = Duration::from_secs(30);
    /// How long a taken message is its taker's: longer than a delivery may take.
    pub const LEASE: Duration = Duration::from_secs(60);
    /// The answer that delivers a dead letter again, which is also what happens at the deadline.
    pub const AGAIN: &'static str = "deliver again";
    /// The answer that drops a dead letter.
    pub const DROP: &'static str = "drop";
}

/// Messages that were taken for delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// The messages, oldest first, at most one of a topic and key.
    pub messages: Vec<Message>,
    /// When the next one is due.
    pub next: Option<Timestamp>,
}

/// What becomes of a message that was not delivered.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Undelivered {
    /// It is tried again at this moment.
    Retry(Timestamp),
    /// It waits for the answer of a person, and what is ordered after it waits with it.
    Dead(Box<NewRequest>),
}

impl Undelivered {
    /// Decides; pure. A failure that cannot be repeated, or is the last allowed, asks a person.
    #[must_use]
    pub fn of(
        message: &Message,
        failure: &Failure,
        backoff: &Backoff,
        escalation: &Escalation,
        (now, seed): (Timestamp, u64),
    ) -> Self {
        if failure.retry != Retry::Never && message.n_try < Message::TRIES_MAX {
            let asked = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
            return Self::Retry(now.after(backoff.wait(message.n_try, seed).max(asked)));
        }
        let question = format!(
            "A message to `{}` was not delivered in {} tries: {}. {}",
            message.topic, message.n_try, failure.message, failure.fix
        );
        let mut request = NewRequest::new(
            message.run,
            message.task,
            // A message that is sent again and fails again is a new question.
            format!("outbox/{}/{now}", message.id),
            question,
            &[Message::DROP, Message::AGAIN],
            now.after(escalation.deadline),
        );
        request.route.clone_from(&escalation.route);
        request.details = json!({
            "message": message.id, "topic": message.topic, "key": message.key, "failure": failure,
        });
        Self::Dead(Box::new(request))
    }
}

/// Delivers messages of a topic to the outside.
///
/// A message comes until it was taken once, and after a crash it may come once more: the receiver
/// must treat [`Message::id`] as its idempotency key. A delivery may take
/// [`Message::DELIVERY_MAX`].
#[async_trait]
pub trait Deliver: fmt::Debug + Send + Sync + 'static {
    /// Delivers one message.
    ///
    /// # Errors
    /// The failure's `retry` decides: `Never` asks a person at once, everything else is tried again
    /// with growing waits, at most [`Message::TRIES_MAX`] times.
    ///
    /// # Cancel safety
    /// Dropped at any await when the host stops or the time is up; the message comes again.
    async fn deliver(&self, message: &Message) -> Result<(), Failure>;
}
