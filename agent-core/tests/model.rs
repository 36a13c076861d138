//! What models and their layers promise beyond the laws.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests await the tasks they spawn"
)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use agent_core::fault::{Chaos, Fault};
use agent_core::model::{
    Cassette, ChatRequest, FinishReason, Message, ModelExt, NotRecorded, RateLimitModel,
    RecordingModel, ReplayModel, RetryModel, Role, ScriptedModel, ToolCall, Turn,
};
use agent_core::{
    Classify, Clock, Env, Error, ErrorKind, ManualClock, Principal, Retry, Scope, SeededEntropy,
    Timestamp, Unit, Usage,
};
use serde_json::json;

fn scope() -> Scope {
    Scope::new(Principal::host())
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::new(Role::User, text)])
}

fn failure(retry: Retry) -> Error {
    Error::backend("test", "answer", ErrorKind::Unavailable, retry, "away")
}

fn manual() -> (Arc<ManualClock>, Env) {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let env = Env::new(
        Arc::<ManualClock>::clone(&clock),
        Arc::new(SeededEntropy::new(1)),
    );
    (clock, env)
}

/// Advances the clock in small steps until the task is done; returns the time it took.
async fn drive<T>(clock: &ManualClock, task: tokio::task::JoinHandle<T>) -> (T, Duration) {
    while !task.is_finished() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        if !task.is_finished() {
            clock.advance(Duration::from_millis(10));
        }
        assert!(
            clock.monotonic() < Duration::from_secs(600),
            "it waits for ever"
        );
    }
    (task.await.unwrap(), clock.monotonic())
}

#[tokio::test]
async fn a_script_checks_requests_and_streams_its_answers() {
    let call = ToolCall::new("call-1", "search", json!({"q": "rust"}));
    let model = ScriptedModel::new(
        "scripted",
        [
            Turn::tool_calls(vec![call.clone()]).expecting_text("find"),
            Turn::text("It is a language.").expecting(|request| {
                let answered = request.messages.iter().any(|m| m.role == Role::Tool);
                answered
                    .then_some(())
                    .ok_or_else(|| "no tool result".to_owned())
            }),
            Turn::text("Cut")
                .with_finish(FinishReason::Length)
                .with_usage(Usage::new()),
        ],
    );
    let first = model.complete(&scope(), ask("find rust")).await.unwrap();
    assert_eq!(
        (first.message.tool_calls, first.finish),
        (vec![call], FinishReason::ToolCalls)
    );
    assert_eq!(first.usage.get(Unit::TokensIn), 2);
    let refused = model.complete(&scope(), ask("and?")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(model.n_turns_left(), 1);
    let third = model.complete(&scope(), ask("go on")).await.unwrap();
    assert_eq!(
        (third.message.text.as_str(), third.finish),
        ("Cut", FinishReason::Length)
    );
    assert!(third.usage.is_empty());
    let ended = model.complete(&scope(), ask("more")).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_stream_that_fails_or_is_cut_off_is_not_an_answer() {
    let model = ScriptedModel::new(
        "scripted",
        [Turn::text("Half an").then_error(failure(Retry::Unknown))],
    );
    let error = model.complete(&scope(), ask("tell")).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Unknown);
    let canceled = scope();
    canceled.cancellation.cancel();
    let model = ScriptedModel::new("scripted", [Turn::text("never said")]);
    let error = model.complete(&canceled, ask("tell")).await.unwrap_err();
    assert_eq!(
        (error.kind(), model.n_turns_left()),
        (ErrorKind::Canceled, 1)
    );
}

#[tokio::test]
async fn an_endless_answer_is_refused() {
    let call = || ToolCall::new("c", "search", json!({"q": "x".repeat(1 << 20)}));
    let calls = |n| Turn::tool_calls((0..n).map(|_| call()).collect());
    let many = |n| Turn::tool_calls((0..n).map(|_| ToolCall::new("c", "f", json!({}))).collect());
    let turns = [calls(15), calls(17), many(128), many(129)];
    let model = ScriptedModel::new("m", turns);
    for is_whole in [true, false, true, false] {
        let answer = model.complete(&scope(), ask("?")).await;
        assert_eq!(answer.is_ok(), is_whole, "{:?}", answer.err());
    }
}

#[tokio::test]
async fn replay_gives_back_what_was_recorded_in_order() {
    let call = ToolCall::new("c", "pay", json!({"amount": "1.25 USD", "to": ["é", null]}));
    let turns = [
        Turn::text("first answer"),
        Turn::text("second answer"),
        Turn::tool_calls(vec![call]),
        Turn::error(failure(Retry::Safe).with_retry_after(Duration::from_secs(3))),
        Turn::text("broken").then_error(failure(Retry::Unknown)),
    ];
    let recording = RecordingModel::new(ScriptedModel::new("gpt-test", turns));
    let requests = ["same", "same", "call", "fail", "break"];
    let mut recorded = Vec::new();
    for request in requests {
        recorded.push(recording.complete(&scope(), ask(request)).await);
    }
    let text = recording.cassette().to_string();
    let cassette: Cassette = text.parse().unwrap();
    assert_eq!((cassette.model(), cassette.len()), ("gpt-test", 5));
    assert_eq!(cassette, recording.cassette());
    let replay = ReplayModel::new(cassette).unwrap();
    for (request, recorded) in requests.into_iter().zip(recorded) {
        let replayed = replay.complete(&scope(), ask(request)).await;
        match (replayed, recorded) {
            (Ok(replayed), Ok(recorded)) => assert_eq!(replayed, recorded),
            (Err(replayed), Err(recorded)) => {
                assert_eq!(replayed.kind(), recorded.kind());
                assert_eq!(replayed.retry(), recorded.retry());
                assert_eq!(replayed.retry_after(), recorded.retry_after());
            }
            (replayed, recorded) => panic!("{replayed:?} for {recorded:?}"),
        }
    }
}

#[tokio::test]
async fn an_unrecorded_request_names_the_nearest_recorded_one() {
    let recording = RecordingModel::new(ScriptedModel::new(
        "gpt-test",
        [Turn::text("a"), Turn::text("b")],
    ));
    for request in ["weather in Oslo", "price of tea"] {
        recording.complete(&scope(), ask(request)).await.unwrap();
    }
    let replay = ReplayModel::new(recording.cassette()).unwrap();
    let missing = |error: Error| {
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::NotFound, Retry::Never)
        );
        let source = std::error::Error::source(&error).unwrap();
        source.downcast_ref::<NotRecorded>().unwrap().clone()
    };
    let error = replay
        .complete(&scope(), ask("weather in Rome"))
        .await
        .unwrap_err();
    let found = missing(error);
    let nearest = agent_core::Digest::of_json(&ask("weather in Oslo")).unwrap();
    assert_eq!(found.nearest, Some(nearest));
    assert!(
        found.found.starts_with("Rome") && found.recorded.starts_with("Oslo"),
        "{found}"
    );
    replay
        .complete(&scope(), ask("price of tea"))
        .await
        .unwrap();
    let error = replay
        .complete(&scope(), ask("price of tea"))
        .await
        .unwrap_err();
    let used_up = missing(error);
    assert_eq!(used_up.nearest, Some(used_up.request));
}

#[tokio::test]
async fn an_altered_or_foreign_cassette_is_refused() {
    let recording = RecordingModel::new(ScriptedModel::new("m", [Turn::text("yes")]));
    recording.complete(&scope(), ask("sell?")).await.unwrap();
    let text = recording.cassette().to_string();
    for altered in [
        text.replace("sell?", "buy?"),
        text.replace("\"cassette\":1", "\"cassette\":2"),
        text.replace("\"deltas\"", "\"words\""),
        String::new(),
    ] {
        assert_ne!(altered, text);
        assert_eq!(
            altered.parse::<Cassette>().unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}

#[tokio::test]
async fn only_calls_without_effect_are_repeated() {
    let (_clock, env) = manual();
    for retry in [Retry::Never, Retry::Unknown] {
        let script = ScriptedModel::new("m", [Turn::error(failure(retry)), Turn::text("late")]);
        let script = Arc::new(script);
        let model = RetryModel::new(Arc::clone(&script), &env);
        assert_eq!(
            model
                .complete(&scope(), ask("?"))
                .await
                .unwrap_err()
                .retry(),
            retry
        );
        assert_eq!(script.n_turns_left(), 1);
    }
    let broken = Turn::text("half of").then_error(failure(Retry::Safe));
    let script = Arc::new(ScriptedModel::new("m", [broken, Turn::text("again")]));
    let model = RetryModel::new(Arc::clone(&script), &env);
    assert!(model.complete(&scope(), ask("?")).await.is_err());
    assert_eq!(
        script.n_turns_left(),
        1,
        "pieces were delivered, so nothing is repeated"
    );
}

#[tokio::test]
async fn waits_grow_honour_the_other_side_and_end() {
    let (clock, env) = manual();
    let safe = || Turn::error(failure(Retry::Safe));
    let slow = Turn::error(failure(Retry::Safe).with_retry_after(Duration::from_secs(7)));
    let script = ScriptedModel::new("m", [safe(), slow, safe(), Turn::text("there")]);
    let model = Arc::new(RetryModel::new(script, &env));
    let called = Arc::clone(&model);
    let task = tokio::task::spawn(async move { called.complete(&scope(), ask("?")).await });
    let (answer, took) = drive(&clock, task).await;
    assert_eq!(answer.unwrap().message.text, "there");
    // 500 ms, then 7 s as asked, then 2 s, each with at most as much jitter again.
    assert!((9_500..=13_030).contains(&took.as_millis()), "{took:?}");

    let script = Arc::new(ScriptedModel::new("m", (0..5).map(|_| safe())));
    let model = RetryModel::new(Arc::clone(&script), &env);
    let task = tokio::task::spawn(async move { model.complete(&scope(), ask("?")).await });
    let (answer, _took) = drive(&clock, task).await;
    assert_eq!(answer.unwrap_err().retry(), Retry::Safe);
    assert_eq!(script.n_turns_left(), 1, "four attempts");
}

#[tokio::test]
async fn a_retry_does_not_wait_past_the_deadline_or_a_cancellation() {
    let (clock, env) = manual();
    let script = || ScriptedModel::new("m", [Turn::error(failure(Retry::Safe)), Turn::text("x")]);
    let soon = scope().with_deadline(clock.now().after(Duration::from_millis(100)));
    let error = RetryModel::new(script(), &env)
        .complete(&soon, ask("?"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "the cause, at once");

    let (model, canceled) = (RetryModel::new(script(), &env), scope());
    let cancellation = canceled.cancellation.clone();
    let task = tokio::task::spawn(async move { model.complete(&canceled, ask("?")).await });
    tokio::task::yield_now().await;
    cancellation.cancel();
    assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
}

#[tokio::test]
async fn a_rate_limit_spreads_calls_over_the_period() {
    let (clock, env) = manual();
    let script = ScriptedModel::new("m", (0..6).map(|_| Turn::text("ok")));
    let calls = NonZeroU32::new(2).unwrap();
    let period = Duration::from_secs(1);
    let model = Arc::new(RateLimitModel::new(script, calls, period, &env).unwrap());
    let called = Arc::clone(&model);
    let task = tokio::task::spawn(async move {
        for _ in 0..6 {
            called.complete(&scope(), ask("?")).await.unwrap();
        }
    });
    // Two at once, then one each half second.
    let ((), took) = drive(&clock, task).await;
    assert!((2_000..=2_100).contains(&took.as_millis()), "{took:?}");
    let soon = scope().with_deadline(clock.now().after(Duration::from_millis(5)));
    let error = model.complete(&soon, ask("?")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Exhausted, Retry::Safe)
    );
    assert!(error.retry_after().is_some());
}

#[test]
fn chaos_repeats_with_its_seed_and_keeps_its_shares() {
    let draw = |seed| {
        let chaos = Chaos::new(Arc::new(SeededEntropy::new(seed)))
            .with(Fault::LostAnswer, 200_000)
            .with(Fault::Duplicate, 50_000);
        (0..10_000).map(|_| chaos.next()).collect::<Vec<_>>()
    };
    let faults = draw(3);
    assert_eq!(faults, draw(3));
    assert_ne!(faults, draw(4));
    let count = |fault| faults.iter().filter(|f| **f == fault).count();
    assert!((1_800..2_200).contains(&count(Fault::LostAnswer)));
    assert!((400..600).contains(&count(Fault::Duplicate)));
    assert_eq!((count(Fault::Slow), count(Fault::LostRequest)), (0, 0));
    let none = Chaos::new(Arc::new(SeededEntropy::new(3)));
    assert!((0..1_000).all(|_| none.next() == Fault::None));
    let all = Chaos::new(Arc::new(SeededEntropy::new(3))).with_each(250_000);
    assert!((0..1_000).all(|_| all.next() != Fault::None));
    assert_eq!(
        Fault::LostRequest.error("send").unwrap().retry(),
        Retry::Safe
    );
    assert_eq!(
        Fault::LostAnswer.error("send").unwrap().retry(),
        Retry::Unknown
    );
    assert!(Fault::Duplicate.error("send").is_none());
}
