use agent_core::Unit;
use serde_json::json;

use super::{Subject, scope};
use crate::schema::Schema;

/// A text goes through the tool unchanged, whatever characters it has.
pub async fn text_comes_back_unchanged(subject: Subject) {
    for text in ["", "plain", "\u{202e}\u{0}\u{feff}é日本𝕏\r\n\"\\{}"] {
        let call = subject.call("echo", json!({ "text": text }));
        let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
        assert!(!outcome.is_error);
        assert_eq!(outcome.to_text(), text);
    }
}

/// Structured content matches the listed output schema, and the text is the same as JSON.
pub async fn structured_content_matches_its_schema(subject: Subject) {
    let tools = subject.toolset.list(&scope()).await.expect("lists");
    let add = tools.iter().find(|tool| tool.spec.name.ends_with("add"));
    let schema = add.and_then(|tool| tool.output_schema.clone());
    let schema = Schema::compile("add", schema.expect("promises a schema")).expect("compiles");
    let call = subject.call("add", json!({"a": 2_000_000_000, "b": 2_000_000_000}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    let content = outcome.structured_content.clone().expect("is structured");
    schema.check(&content).expect("matches");
    assert_eq!(content, json!({"sum": 4_000_000_000_i64}));
    let text: serde_json::Value = serde_json::from_str(&outcome.to_text()).expect("JSON");
    assert_eq!(text, content);
}

/// What a tool fails with is content for the model, not an error for the host; what it consumed
/// until then is told.
pub async fn a_failure_of_the_tool_is_a_value(subject: Subject) {
    let call = subject.call("fail", json!({"reason": "the disk is full"}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    assert!(outcome.is_error);
    assert_eq!(outcome.to_text(), "the disk is full");
    assert_eq!(outcome.usage.get(Unit::EgressBytes), 7);
}

/// Every call that ran counts as one.
pub async fn a_call_consumes_at_least_itself(subject: Subject) {
    let call = subject.call("add", json!({"a": 1, "b": 1}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    assert_eq!(outcome.usage.get(Unit::Calls), 1);
}

/// Calls at the same time get their own results, and each has its effect once.
pub async fn concurrent_calls_keep_their_results(subject: Subject) {
    let one = |n: i32| {
        let call = subject.call("add", json!({"a": n, "b": n}));
        let toolset = &subject.toolset;
        async move { toolset.call(&scope(), call).await.expect("answers") }
    };
    let (a, b, c) = tokio::join!(one(1), one(10), one(100));
    let sums = [a, b, c].map(|outcome| outcome.structured_content.expect("is structured"));
    assert_eq!(sums, [2, 20, 200].map(|sum| json!({ "sum": sum })));

    let tally = || {
        let call = subject.call("tally", json!({"step": 1}));
        let toolset = &subject.toolset;
        async move { toolset.call(&scope(), call).await.expect("answers") }
    };
    tokio::join!(tally(), tally());
    let last = tally().await.structured_content.expect("is structured");
    assert_eq!(last["total"], 3);
}
