//! The dispatcher: one task per run that delivers what is due.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, ClockExt, EntropyExt, ErrorKind, Failure, Retry, Scope};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::{Deliver, Message, Undelivered};
use crate::error::Result;
use crate::runner::Shared;

/// How long the dispatcher waits when nothing is due, or when the journal cannot be reached.
const IDLE: Duration = Duration::from_secs(60);
const AWAY: Duration = Duration::from_secs(1);

/// The handlers by topic.
pub(crate) type Handlers = BTreeMap<String, Arc<dyn Deliver>>;

/// Delivers until the token is canceled.
pub(crate) async fn dispatch(
    shared: Arc<Shared>,
    handlers: Handlers,
    scope: Scope,
    cancel: CancellationToken,
) {
    let mut on_their_way = FuturesUnordered::new();
    loop {
        let mail = shared.mail.notified();
        let clock = shared.env.clock.as_ref();
        let free = Message::TAKE_MAX.saturating_sub(on_their_way.len());
        let taken = shared.journal.take_messages(&scope, shared.run, free).await;
        let until = match taken {
            Ok(taken) => {
                for message in taken.messages {
                    on_their_way.push(one(&shared, &handlers, &scope, message));
                }
                taken.next.unwrap_or_else(|| clock.now().after(IDLE))
            }
            Err(error) => {
                tracing::warn!(%error, "messages were not taken");
                clock.now().after(AWAY)
            }
        };
        tokio::select! {
            Some(done) = on_their_way.next(), if !on_their_way.is_empty() => {
                if let Err(error) = done {
                    tracing::warn!(%error, "a delivery was not recorded; it comes again");
                }
            }
            () = mail => {}
            () = clock.sleep_until(until), if free > 0 => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Delivers one message and records what came of it.
async fn one(shared: &Shared, handlers: &Handlers, scope: &Scope, message: Message) -> Result<()> {
    let clock = shared.env.clock.as_ref();
    let until = clock.now().after(Message::DELIVERY_MAX);
    let delivered = match handlers.get(&message.topic) {
        Some(handler) => {
            let delivery = AssertUnwindSafe(handler.deliver(&message)).catch_unwind();
            match clock.deadline(until, delivery).await {
                Some(Ok(delivered)) => delivered,
                Some(Err(_panic)) => Err(crashed()),
                None => Err(late()),
            }
        }
        None => Err(unknown(&message.topic)),
    };
    let Err(failure) = delivered else {
        return shared.journal.ack_message(scope, &message).await;
    };
    let fleet = shared.fleet();
    let at = (clock.now(), shared.env.entropy.next_u64());
    let next = Undelivered::of(&message, &failure, &fleet.backoff, &fleet.escalation, at);
    shared
        .journal
        .fail_message(scope, &message, failure, next)
        .await
}

fn crashed() -> Failure {
    Failure::new(
        ErrorKind::Internal,
        Retry::Unknown,
        "orch.delivery_panicked",
        "the handler panicked",
        "look at the handler's code",
    )
}

fn late() -> Failure {
    Failure::new(
        ErrorKind::TimedOut,
        Retry::Unknown,
        "orch.delivery_timed_out",
        "the delivery took longer than 30 s",
        "see whether the receiver is up",
    )
}

fn unknown(topic: &str) -> Failure {
    Failure::new(
        ErrorKind::NotFound,
        Retry::Never,
        "orch.no_handler",
        &format!("no handler delivers `{topic}`"),
        "register one with `Supervisor::with_outbox`, then deliver again",
    )
}
