//! Limits before the intent: what waits for one has not begun, so giving up leaves nothing in
//! doubt.

use std::sync::Arc;

use super::Door;
use crate::agent::Ctx;
use crate::error::Result;
use crate::journal::Intent;
use crate::throttle::Passage;

impl Door {
    /// Waits until the limits let an effect through. A step that is recorded does not act, so it
    /// waits for nothing.
    pub(super) async fn throttled(&self, cx: &Ctx, intent: &Intent) -> Result<Passage> {
        let throttle = Arc::clone(&self.throttle.read());
        let is_free = !throttle.concerns(&intent.effect, &cx.fair_key)
            || self.journal.is_recorded(&cx.lease, &intent.step).await?;
        if is_free {
            return Ok(Passage::default());
        }
        let passing = throttle.pass(&cx.scope, &intent.effect, &cx.fair_key);
        passing.await
    }
}
