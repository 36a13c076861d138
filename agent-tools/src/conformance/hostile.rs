use agent_core::model::ToolCall;
use agent_core::{Classify, ErrorKind, Retry};
use serde_json::{Value, json};

use super::{Subject, scope};

/// A panic of a tool fails its call alone.
pub async fn a_panic_is_contained(subject: Subject) {
    let call = subject.call("panic", json!({}));
    let error = subject.toolset.call(&scope(), call).await;
    let error = error.expect_err("panicked");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.retry(), Retry::Unknown);
    let call = subject.call("echo", json!({"text": "alive"}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    assert_eq!(outcome.to_text(), "alive");
}

/// Arguments nested a thousand levels are refused without exhausting the stack.
pub async fn deep_arguments_are_refused(subject: Subject) {
    let deep = (0..1_000).fold(json!(1), |inner, level| {
        if level % 2 == 0 {
            json!([inner])
        } else {
            json!({ "a": inner })
        }
    });
    let call = subject.call("echo", json!({"text": "a", "further": deep}));
    let error = subject.toolset.call(&scope(), call).await;
    assert_eq!(error.expect_err("is refused").kind(), ErrorKind::Invalid);
}

/// Megabytes of arguments are refused: one text, one key, or many small values. The error is
/// short.
pub async fn huge_arguments_are_refused(subject: Subject) {
    let megabytes = "x".repeat(4 << 20);
    for arguments in [
        json!({ "text": megabytes }),
        json!({ "text": "a", &megabytes: 1 }),
        json!({ "text": "a", "further": vec![Value::Null; 1 << 20] }),
    ] {
        let call = subject.call("echo", arguments);
        let error = subject.toolset.call(&scope(), call).await;
        let error = error.expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().len() < 2_000);
    }
}

/// A result above the limit is a success that says it was cut.
pub async fn long_results_are_cut_with_a_note(subject: Subject) {
    let call = subject.call("large", json!({"n_bytes": 4 << 20}));
    let outcome = subject.toolset.call(&scope(), call).await.expect("answers");
    assert!(!outcome.is_error);
    let text = outcome.to_text();
    assert!(text.len() < 1 << 20);
    assert!(text.starts_with("xxx") && text.contains("cut"));
}

/// Only the exact name calls a tool; the error shows other names short and escaped.
pub async fn look_alike_names_are_unknown(subject: Subject) {
    for name in [
        String::new(),
        "ECHO".to_owned(),
        " echo".to_owned(),
        "echo ".to_owned(),
        "echo\0".to_owned(),
        "\u{435}cho".to_owned(),
        "ech\u{3bf}".to_owned(),
        "echo\u{200b}".to_owned(),
        "\u{202e}ohce".to_owned(),
        "e\u{301}cho".to_owned(),
        "../echo".to_owned(),
        "no__echo".to_owned(),
        "x".repeat(1 << 20),
    ] {
        let call = ToolCall::new("call_1", format!("{}{name}", subject.prefix), json!({}));
        let error = subject.toolset.call(&scope(), call).await;
        let error = error.expect_err("is unknown");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let message = error.to_string();
        assert!(message.len() < 200);
        assert!(message.is_ascii() && !message.contains('\0'));
    }
}
