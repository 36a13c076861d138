//! The laws every [`Model`] and every layer around one keeps. Unstable: may change in any release.
//!
//! `model_conformance!(make)` runs them; `make` gives a model that answers [`request`] at least
//! [`N_CALLS`] times.

#![expect(
    clippy::missing_panics_doc,
    reason = "a law fails its test by panicking"
)]

use std::sync::Arc;

use futures_util::StreamExt;

use super::{ChatDelta, ChatRequest, Message, Model, ModelExt, Role};
use crate::scope::{Principal, Scope};

/// How many answers to [`request`] a law asks for at most.
pub const N_CALLS: usize = 4;

/// The request the laws make.
#[must_use]
pub fn request() -> ChatRequest {
    ChatRequest::new(vec![Message::new(Role::User, "Say hello.")]).with_tokens_out_max(64)
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

/// A complete answer ends with one `Finish`, and nothing follows it.
pub async fn the_last_piece_is_the_only_finish(model: Arc<dyn Model>) {
    let started = model.chat(&scope(), request()).await;
    let Ok(answer) = started else {
        assert!(started.is_ok(), "the call fails");
        return;
    };
    let pieces: Vec<_> = answer.collect().await;
    let finishes = pieces
        .iter()
        .filter(|piece| matches!(piece, Ok(ChatDelta::Finish { .. })));
    assert_eq!(finishes.count(), 1);
    assert!(matches!(pieces.last(), Some(Ok(ChatDelta::Finish { .. }))));
}

/// The collected answer is an assistant's and counts what it consumed.
pub async fn a_whole_answer_is_the_assistants_and_is_counted(model: Arc<dyn Model>) {
    let answer = model.complete(&scope(), request()).await;
    let answered = answer
        .as_ref()
        .is_ok_and(|whole| whole.message.role == Role::Assistant && !whole.usage.is_empty());
    assert!(answered, "{answer:?}");
}

/// A caller that drops an answer in the middle does not disturb later calls.
pub async fn a_dropped_answer_disturbs_nobody(model: Arc<dyn Model>) {
    if let Ok(mut answer) = model.chat(&scope(), request()).await {
        let _first = answer.next().await;
    }
    let next = model.complete(&scope(), request()).await;
    assert!(next.is_ok(), "{next:?}");
}

/// Calls at the same time each get a whole answer.
pub async fn concurrent_calls_get_their_own_answers(model: Arc<dyn Model>) {
    let scope = scope();
    let calls = (0..N_CALLS).map(|_| model.complete(&scope, request()));
    for answer in futures_util::future::join_all(calls).await {
        assert!(answer.is_ok(), "{answer:?}");
    }
}

/// The name prices are looked up by is not empty and does not change.
pub async fn the_name_is_stable(model: Arc<dyn Model>) {
    let before = model.name().to_owned();
    let _answer = model.complete(&scope(), request()).await;
    assert!(!before.is_empty());
    assert_eq!(model.name(), before);
}

/// Expands one test per law; `$make` is an async closure that gives an `Arc<dyn Model>`.
#[macro_export]
macro_rules! model_conformance {
    ($make:expr) => {
        $crate::model_conformance!(@laws $make,
            the_last_piece_is_the_only_finish,
            a_whole_answer_is_the_assistants_and_is_counted,
            a_dropped_answer_disturbs_nobody,
            concurrent_calls_get_their_own_answers,
            the_name_is_stable,
        );
    };
    (@laws $make:expr, $($law:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $law() {
                let make = $make;
                $crate::model::conformance::$law(make().await).await;
            }
        )+
    };
}
