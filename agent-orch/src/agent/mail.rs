//! Messages to the outside as steps of their own.

use agent_core::{Effect, EffectClass};
use serde_json::json;

use super::{Acted, Ctx};
use crate::error::Result;
use crate::outbox::NewMessage;

impl Ctx {
    /// Writes a message to the outside: a step that is done exactly when there is the message, which
    /// is then delivered at least once. It passes the door as `message.send` on the topic.
    ///
    /// # Errors
    /// As [`Ctx::effect`]; `Invalid` for an oversized message.
    ///
    /// # Cancel safety
    /// Atomic: the message is written or not.
    pub async fn send(&self, step: &str, message: NewMessage) -> Result<()> {
        message.check()?;
        let args = json!({ "key": message.key, "payload": message.payload });
        // Nothing leaves the process before its outcome is recorded, so there is nothing to be in
        // doubt about.
        let class = EffectClass::Pure;
        let effect = Effect::new("message.send", message.topic.as_str(), class, args);
        let write = async |_scope| Ok(Acted::new(()).with_message(message));
        self.effect(step, effect, write).await
    }
}
