use agent_core::{Classify, ErrorKind, Retry};
use serde_json::{Value, json};

use super::{Subject, scope};
use crate::error::{Error, Violation};
use crate::schema::Schema;

async fn violations(subject: &Subject, tool: &str, arguments: Value) -> Vec<Violation> {
    let call = subject.call(tool, arguments);
    match subject.toolset.call(&scope(), call).await {
        Err(error @ Error::InvalidArguments { .. }) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.retry(), Retry::Never);
            let Error::InvalidArguments { violations, .. } = error else {
                return Vec::new();
            };
            violations
        }
        other => panic!("expected invalid arguments, got {other:?}"),
    }
}

/// Arguments that do not match the schema never reach the tool.
pub async fn arguments_are_checked_before_the_tool_runs(subject: Subject) {
    for arguments in [
        json!({"step": "1"}),
        json!({"step": -1}),
        json!({"step": 256}),
        json!({"step": 1.5}),
        json!({}),
        json!([1]),
        json!("step"),
    ] {
        violations(&subject, "tally", arguments).await;
    }
    let call = subject.call("tally", json!({"step": 1}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    assert_eq!(outcome.structured_content, Some(json!({"total": 1})));
}

/// A violation says where, what is expected and what is there, and each is short.
pub async fn violations_name_the_place(subject: Subject) {
    let long = "x".repeat(10_000);
    let found = violations(&subject, "add", json!({"a": long, "b": 1})).await;
    let [violation] = found.as_slice() else {
        panic!("expected one violation, got {found:?}");
    };
    assert_eq!(violation.path, "/a");
    assert!(violation.expected.contains("integer"));
    assert!(violation.got.starts_with("\"xxx"));
    assert!(violation.got.len() <= Violation::FIELD_BYTES_MAX);

    let found = violations(&subject, "add", json!({})).await;
    assert_eq!(found.len(), 2);
    assert!(found.len() <= Schema::VIOLATIONS_MAX);
    assert!(found.iter().all(|violation| violation.got == "nothing"));
}

/// A number the schema lets pass and the tool's type does not hold is invalid, not wrapped.
pub async fn an_argument_beyond_its_type_is_invalid(subject: Subject) {
    for huge in [json!(i64::MAX), json!(u64::MAX), json!(1e300), json!(1e19)] {
        let found = violations(&subject, "add", json!({"a": huge, "b": 1})).await;
        assert_eq!(found.len(), 1);
    }
}

/// `null` is taken for no arguments, which a tool with required arguments refuses.
pub async fn null_stands_for_no_arguments(subject: Subject) {
    let found = violations(&subject, "echo", Value::Null).await;
    assert_eq!(found.len(), 1);
    let call = subject.call("panic", Value::Null);
    let error = subject.toolset.call(&scope(), call).await;
    let error = error.expect_err("the tool without arguments runs, and panics");
    assert_eq!(error.kind(), ErrorKind::Internal);
}
