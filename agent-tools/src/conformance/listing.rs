use agent_core::EffectClass;
use serde_json::json;

use super::{Subject, scope};
use crate::info::ToolInfo;
use crate::schema::Schema;
use crate::toolset::ToolsetExt;

/// Listed names are valid, unique and ordered, and are those of the fixture.
pub async fn listed_names_are_valid_and_ordered(subject: Subject) {
    let tools = subject.toolset.list(&scope()).await.expect("lists");
    let names: Vec<String> = tools.into_iter().map(|tool| tool.spec.name).collect();
    for name in &names {
        ToolInfo::check_name(name).expect("a valid name");
    }
    let expected: Vec<String> = ["add", "echo", "fail", "large", "panic", "tally", "wait"]
        .iter()
        .map(|name| format!("{}{name}", subject.prefix))
        .collect();
    assert_eq!(names, expected);
}

/// Every listed schema is a JSON Schema that compiles; that of the arguments is of an object.
pub async fn listed_schemas_compile(subject: Subject) {
    for tool in subject.toolset.list(&scope()).await.expect("lists") {
        let name = &tool.spec.name;
        assert_eq!(tool.spec.parameters.get("type"), Some(&json!("object")));
        Schema::compile(name, tool.spec.parameters).expect("compiles");
        if let Some(schema) = tool.output_schema {
            Schema::compile(name, schema).expect("compiles");
        }
    }
}

/// Listing changes nothing.
pub async fn listing_twice_gives_the_same(subject: Subject) {
    let first = subject.toolset.list(&scope()).await.expect("lists");
    let second = subject.toolset.list(&scope()).await.expect("lists");
    assert_eq!(first, second);
}

/// The effect of a call is on the tool's listed name, in the tool's class.
pub async fn effects_carry_the_class(subject: Subject) {
    for (tool, arguments, class) in [
        ("echo", json!({"text": "a"}), EffectClass::Pure),
        ("tally", json!({"step": 1}), EffectClass::Opaque),
    ] {
        let call = subject.call(tool, arguments.clone());
        let effect = subject.toolset.effect(&scope(), &call).await;
        let effect = effect.expect("has an effect");
        assert_eq!(effect.action, ToolInfo::ACTION);
        assert_eq!(effect.target, call.name);
        assert_eq!(effect.class, class);
        assert_eq!(effect.arguments, arguments);
    }
}

/// Calls that differ only in the order of their arguments are the same effect; others are not.
pub async fn effects_are_equal_for_equal_calls(subject: Subject) {
    let digest = async |arguments: &str| {
        let arguments = serde_json::from_str(arguments).expect("JSON");
        let call = subject.call("add", arguments);
        let effect = subject.toolset.effect(&scope(), &call).await;
        effect.expect("has an effect").digest().expect("digests")
    };
    let first = digest(r#"{"a":1,"b":2}"#).await;
    assert_eq!(first, digest(r#"{"b":2,"a":1}"#).await);
    assert_ne!(first, digest(r#"{"a":2,"b":1}"#).await);
}
