use std::time::Duration;

use agent_core::{Classify, Clock, ErrorKind, Retry};
use serde_json::json;

use super::{Subject, scope};

async fn nothing_was_counted(subject: &Subject) {
    let call = subject.call("tally", json!({"step": 1}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    assert_eq!(outcome.structured_content, Some(json!({"total": 1})));
}

/// A canceled scope starts no tool, and says that repeating is safe.
pub async fn a_canceled_scope_starts_nothing(subject: Subject) {
    let canceled = scope();
    canceled.cancellation.cancel();
    let call = subject.call("tally", json!({"step": 1}));
    let error = subject.toolset.call(&canceled, call).await;
    let error = error.expect_err("is canceled");
    assert_eq!(error.kind(), ErrorKind::Canceled);
    assert_eq!(error.retry(), Retry::Safe);
    nothing_was_counted(&subject).await;
}

/// Canceling ends a call that waits; its effect may have happened.
pub async fn a_canceled_call_ends(subject: Subject) {
    let stopped = scope();
    let call = subject.call("wait", json!({}));
    let (ended, ()) = tokio::join!(subject.toolset.call(&stopped, call), async {
        stopped.cancellation.cancel();
    });
    let error = ended.expect_err("is canceled");
    assert_eq!(error.kind(), ErrorKind::Canceled);
    assert_eq!(error.retry(), Retry::Unknown);
    nothing_was_counted(&subject).await;
}

/// A deadline that has passed starts no tool, and says that repeating is safe.
pub async fn a_passed_deadline_starts_nothing(subject: Subject) {
    let late = scope().with_deadline(subject.clock.now());
    let call = subject.call("tally", json!({"step": 1}));
    let error = subject.toolset.call(&late, call).await;
    let error = error.expect_err("is late");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.retry(), Retry::Safe);
    nothing_was_counted(&subject).await;
}

/// A deadline ends a call that waits; its effect may have happened.
pub async fn a_passed_deadline_ends_the_call(subject: Subject) {
    let second = Duration::from_secs(1);
    let bounded = scope().with_deadline(subject.clock.now().after(second));
    let call = subject.call("wait", json!({}));
    let (ended, ()) = tokio::join!(subject.toolset.call(&bounded, call), async {
        subject.advance(second);
    });
    let error = ended.expect_err("is late");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.retry(), Retry::Unknown);
    nothing_was_counted(&subject).await;
}
