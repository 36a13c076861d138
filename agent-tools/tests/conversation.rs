//! The loop between a model and its tools.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::fault::{Chaos, Fault};
use agent_core::model::{ChatRequest, FinishReason, Message, Role, ScriptedModel, ToolCall, Turn};
use agent_core::{
    Classify, Clock, Env, ErrorKind, IdempotencyKey, ManualClock, OsEntropy, Principal, Retry,
    Scope, SeededEntropy, Timestamp, Unit, Usage,
};
use agent_tools::layer::{Faulty, Policed};
use agent_tools::{
    Conversation, Error, InProcess, Invocation, JsonSchema, Policy, Rule, Tool, ToolError,
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
struct Charge {
    amount: u32,
}

/// A toolset with one tool that notes each charge, and what it noted.
struct Shop {
    env: Env,
    clock: Arc<ManualClock>,
    tools: InProcess,
    charges: Arc<AtomicU32>,
    keys: Arc<Mutex<Vec<String>>>,
}

fn shop() -> Shop {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let env = Env::new(shared, Arc::new(OsEntropy::new()));
    let charges = Arc::new(AtomicU32::new(0));
    let keys = Arc::new(Mutex::new(Vec::new()));
    let (n, k) = (Arc::clone(&charges), Arc::clone(&keys));
    let charge = move |call: Invocation, charge: Charge| {
        let (n, k) = (Arc::clone(&n), Arc::clone(&k));
        async move {
            if let Some(key) = &call.scope.idempotency_key {
                k.lock().push(key.as_str().to_owned());
            }
            call.consume(Unit::EgressBytes, 5);
            n.fetch_add(1, Ordering::SeqCst);
            match charge.amount {
                13 => Err(ToolError::failed("the card was declined")),
                99 => std::future::pending().await,
                amount => Ok(format!("charged {amount}")),
            }
        }
    };
    let tools = InProcess::new(&env, [Tool::new("charge", "Charges a card.", charge)]).unwrap();
    Shop {
        env,
        clock,
        tools,
        charges,
        keys,
    }
}

fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall::new(id, name, arguments)
}

fn charge(id: &str, amount: u32) -> ToolCall {
    call(id, "charge", json!({ "amount": amount }))
}

/// A model whose every answer uses 10 tokens in and 1 out.
fn script(turns: impl IntoIterator<Item = Turn>) -> ScriptedModel {
    let usage = Usage::new()
        .with(Unit::TokensIn, 10)
        .with(Unit::TokensOut, 1);
    let turns = turns.into_iter().map(|turn| turn.with_usage(usage.clone()));
    ScriptedModel::new("scripted", turns)
}

fn text(text: &str) -> Turn {
    Turn::text(text)
}

fn calls(calls: Vec<ToolCall>) -> Turn {
    Turn::tool_calls(calls)
}

fn cut() -> Turn {
    Turn::text("The").with_finish(FinishReason::Length)
}

fn away() -> Turn {
    let kind = ErrorKind::Unavailable;
    Turn::error(agent_core::Error::backend(
        "scripted",
        "answer",
        kind,
        Retry::Safe,
        "away",
    ))
}

fn start() -> Conversation {
    Conversation::new(vec![Message::new(Role::User, "charge the card")])
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

/// The texts of the results the model was given.
fn results(conversation: &Conversation) -> Vec<&str> {
    let messages = conversation.messages().iter();
    messages
        .filter(|message| message.role == Role::Tool)
        .map(|message| message.text.as_str())
        .collect()
}

#[tokio::test]
async fn calls_are_answered_until_the_model_is_done() {
    let shop = shop();
    let model = script([
        calls(vec![charge("a", 1), charge("b", 2)]),
        calls(vec![charge("a", 13)]).expecting(|request| {
            let is_told = request.tools.iter().any(|tool| tool.name == "charge");
            is_told.then_some(()).ok_or_else(|| "no tools".to_owned())
        }),
        text("done").expecting_text("the card was declined"),
    ]);
    let mut conversation = start();
    let answer = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await;
    assert_eq!(answer.unwrap(), "done");
    assert_eq!(
        results(&conversation),
        [
            "charged 1",
            "charged 2",
            "The tool failed: the card was declined"
        ]
    );
    assert_eq!(shop.charges.load(Ordering::SeqCst), 3);
    assert_eq!((conversation.n_rounds(), conversation.n_calls()), (3, 3));
    let usage = conversation.usage();
    assert_eq!(usage.get(Unit::TokensIn), 30);
    assert_eq!(usage.get(Unit::TokensOut), 3);
    assert_eq!(usage.get(Unit::Calls), 3);
    assert_eq!(usage.get(Unit::EgressBytes), 15);
}

#[tokio::test]
async fn what_the_model_can_repair_goes_back_to_it() {
    let shop = shop();
    let model = script([
        calls(vec![
            call("a", "charge", json!({"amount": "1"})),
            call("b", "refund", json!({})),
        ]),
        calls(vec![charge("c", 1)]),
        text("done"),
    ]);
    let mut conversation = start();
    let answer = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await;
    assert_eq!(answer.unwrap(), "done");
    let results = results(&conversation);
    assert!(results[0].contains("/amount") && results[0].contains("integer"));
    assert!(results[1].contains("refund"));
    assert_eq!(results[2], "charged 1");
    assert_eq!(shop.charges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_goes_back_to_the_model_with_its_rule() {
    let shop = shop();
    let policy = Policy::new().with_rule(Rule::deny("charge").with_name("no money"));
    let tools = Policed::new(shop.tools, policy, &shop.env);
    let unlisted = |request: &ChatRequest| match request.tools.as_slice() {
        [] => Ok(()),
        _ => Err("a refused tool is listed".to_owned()),
    };
    let model = script([
        calls(vec![charge("a", 1)]).expecting(unlisted),
        text("sorry"),
    ]);
    let mut conversation = start();
    let answer = conversation.run(&scope(), &shop.env, &model, &tools).await;
    assert_eq!(answer.unwrap(), "sorry");
    assert!(results(&conversation)[0].contains("no money"));
    assert_eq!(model.n_turns_left(), 0);
    assert_eq!(shop.charges.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_interrupted_call_is_never_repeated() {
    let shop = shop();
    let model = script([calls(vec![charge("a", 99), charge("b", 2)]), text("done")]);
    let mut conversation = start();
    let stopped = scope();
    let (ended, ()) = tokio::join!(
        conversation.run(&stopped, &shop.env, &model, &shop.tools),
        async { stopped.cancellation.cancel() }
    );
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Canceled);
    assert_eq!(error.retry(), Retry::Unknown);
    assert_eq!(conversation.usage().get(Unit::TokensIn), 10);

    let answer = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await;
    assert_eq!(answer.unwrap(), "done");
    let results = results(&conversation);
    assert!(results[0].contains("not known"));
    assert_eq!(results[1], "charged 2");
    assert_eq!(shop.charges.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_dropped_run_leaves_its_call_in_doubt() {
    let shop = shop();
    let model = script([calls(vec![charge("a", 99)]), text("done")]);
    let mut conversation = start();
    let scope = scope();
    let run = conversation.run(&scope, &shop.env, &model, &shop.tools);
    tokio::select! {
        biased;
        _ended = run => panic!("the call never ends"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(shop.charges.load(Ordering::SeqCst), 1);
    let answer = conversation
        .run(&scope, &shop.env, &model, &shop.tools)
        .await;
    assert_eq!(answer.unwrap(), "done");
    assert!(results(&conversation)[0].contains("not known"));
    assert_eq!(shop.charges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_slow_tool_is_told_to_the_model_and_a_passed_deadline_to_the_host() {
    let shop = shop();
    let model = script([calls(vec![charge("a", 99)]), calls(vec![charge("b", 99)])]);
    let mut conversation = start();
    let two_minutes = shop.clock.now().after(Duration::from_secs(120));
    let bounded = scope().with_deadline(two_minutes);
    let (ended, ()) = tokio::join!(
        conversation.run(&bounded, &shop.env, &model, &shop.tools),
        async {
            for n_charges in [1, 2] {
                while shop.charges.load(Ordering::SeqCst) < n_charges {
                    tokio::task::yield_now().await;
                }
                shop.clock.advance(Duration::from_secs(60));
            }
        }
    );
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(results(&conversation).len(), 1);
    assert!(results(&conversation)[0].contains("took too long"));
}

#[tokio::test]
async fn rounds_and_calls_are_bounded() {
    let shop = shop();
    let forever = || script((0..100).map(|_| calls(vec![charge("a", 1)])));
    let mut conversation = start().with_rounds_max(3);
    let error = conversation
        .run(&scope(), &shop.env, &forever(), &shop.tools)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "tools.conversation_limit");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!((conversation.n_rounds(), conversation.n_calls()), (3, 3));

    let mut conversation = start().with_calls_max(2);
    let error = conversation
        .run(&scope(), &shop.env, &forever(), &shop.tools)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(conversation.n_calls(), 2);
}

#[tokio::test]
async fn a_model_that_is_away_can_be_asked_again() {
    let shop = shop();
    let model = script([calls(vec![charge("a", 1)]), away(), text("done")]);
    let mut conversation = start();
    let error = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry(), Retry::Safe);
    let answer = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await;
    assert_eq!(answer.unwrap(), "done");
    assert_eq!(shop.charges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cut_answer_is_an_error_and_its_usage_counts() {
    let shop = shop();
    let model = script([cut()]);
    let mut conversation = start();
    let ended = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await;
    assert!(matches!(ended, Err(Error::AnswerCut { .. })));
    assert_eq!(conversation.usage().get(Unit::TokensIn), 10);
}

#[tokio::test]
async fn repeated_and_empty_call_ids_get_a_result_each() {
    let shop = shop();
    let model = script([
        calls(vec![charge("a", 1), charge("a", 2), charge("", 3)]),
        text("done"),
    ]);
    let mut conversation = start();
    let answer = conversation
        .run(&scope(), &shop.env, &model, &shop.tools)
        .await;
    assert_eq!(answer.unwrap(), "done");
    assert_eq!(
        results(&conversation),
        ["charged 1", "charged 2", "charged 3"]
    );
}

#[tokio::test]
async fn each_call_has_an_idempotency_key_of_its_own() {
    let run = async |key: &str| {
        let shop = shop();
        let model = script([calls(vec![charge("a", 1), charge("b", 1)]), text("done")]);
        let scope = scope().with_idempotency_key(IdempotencyKey::new(key).unwrap());
        let answer = start().run(&scope, &shop.env, &model, &shop.tools).await;
        assert_eq!(answer.unwrap(), "done");
        shop.keys.lock().clone()
    };
    let keys = run("step-1").await;
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys, run("step-1").await);
    assert_ne!(keys, run("step-2").await);
}

#[tokio::test]
async fn a_lost_answer_is_not_repeated_and_a_lost_request_is() {
    for (fault, n_charges) in [(Fault::LostAnswer, 1), (Fault::LostRequest, 1)] {
        let shop = shop();
        let chaos = Chaos::new(Arc::new(SeededEntropy::new(1))).with(fault, 1_000_000);
        let tools = Arc::new(shop.tools);
        let faulty = Faulty::new(Arc::clone(&tools), chaos, &shop.env);
        let model = script([calls(vec![charge("a", 1)]), text("done")]);
        let mut conversation = start();
        let error = conversation
            .run(&scope(), &shop.env, &model, &faulty)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let answer = conversation.run(&scope(), &shop.env, &model, &tools).await;
        assert_eq!(answer.unwrap(), "done");
        assert_eq!(shop.charges.load(Ordering::SeqCst), n_charges, "{fault:?}");
    }
}
