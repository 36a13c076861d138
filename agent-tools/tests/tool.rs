//! Typed tools: definitions, schemas, results, and reading hostile JSON.

use agent_core::model::{ToolCall, ToolSpec};
use agent_core::{
    Amount, Asset, BoxError, Classify, EffectClass, Env, ErrorKind, Principal, Retry, Scope,
};
use agent_tools::schema::{Schema, parse_arguments};
use agent_tools::{
    Error, InProcess, JsonSchema, Limits, Tool, ToolError, ToolInfo, ToolOutcome, Toolset,
    ToolsetExt,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
struct Empty {}

#[derive(Serialize, JsonSchema)]
struct Named {
    name: String,
}

fn nothing(name: &str) -> Tool {
    Tool::new(name, "Does nothing.", async |_, _: Empty| Ok(()))
}

async fn run(tool: Tool) -> agent_tools::Result<ToolOutcome> {
    let name = tool.info().spec.name.clone();
    let tools = InProcess::new(&Env::system(), [tool])?;
    let scope = Scope::new(Principal::host());
    tools
        .call(&scope, ToolCall::new("1", name, json!({})))
        .await
}

#[test]
fn bad_definitions_are_refused() {
    let env = Env::system();
    for name in ["", "a b", "a.b", "é", "a\0", "\u{200b}", &"x".repeat(65)] {
        let error = InProcess::new(&env, [nothing(name)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        assert!(error.to_string().is_ascii());
    }
    let error = InProcess::new(&env, [nothing("a"), nothing("a")]).unwrap_err();
    assert!(matches!(error, Error::Collision { .. }));
    let scalar = Tool::new("scalar", "", async |_, text: String| Ok(text));
    let error = InProcess::new(&env, [scalar]).unwrap_err();
    assert!(matches!(error, Error::InvalidDefinition { .. }));
}

#[test]
fn the_schema_says_what_the_type_says() {
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Search {
        /// What to look for.
        query: String,
        /// How many to return.
        #[serde(default)]
        limit: Option<u8>,
    }
    let tool = Tool::new("search", "Searches.", async |_, _: Search| Ok(()));
    let schema = &tool.info().spec.parameters;
    assert_eq!(schema["required"], json!(["query"]));
    assert_eq!(
        schema["properties"]["query"]["description"],
        "What to look for."
    );
    assert_eq!(schema["properties"]["limit"]["maximum"], 255);
    assert_eq!(schema.get("$schema"), None);
}

#[tokio::test]
async fn results_become_text_or_structured_content() {
    let text = run(Tool::new("t", "", async |_, _: Empty| Ok("plain")))
        .await
        .unwrap();
    assert_eq!(
        (text.to_text().as_str(), text.structured_content),
        ("plain", None)
    );
    let unit = run(nothing("t")).await.unwrap();
    assert_eq!(
        (unit.to_text().as_str(), unit.structured_content),
        ("", None)
    );
    let data = run(Tool::new("t", "", async |_, _: Empty| Ok(vec![1, 2])))
        .await
        .unwrap();
    assert_eq!(data.to_text(), "[1,2]");
    assert_eq!(data.structured_content, Some(json!([1, 2])));
}

#[tokio::test]
async fn a_broken_promise_of_a_schema_is_internal() {
    let tool = Tool::new("t", "", async |_, _: Empty| Ok(json!({"name": 7})))
        .with_output_schema::<Named>();
    let error = run(tool).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResult { .. }));
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.retry(), Retry::Unknown);
}

#[tokio::test]
async fn foreign_errors_are_failures_and_own_errors_break_the_call() {
    let foreign = Tool::new("t", "", async |_, _: Empty| {
        let number: u8 = "x".parse()?;
        Ok(number)
    });
    assert!(run(foreign).await.unwrap().is_error);
    let own = Tool::new("t", "", async |_, _: Empty| -> Result<(), ToolError> {
        let cause: BoxError = "connection refused".into();
        Err(Error::backend(
            "crm",
            "connect",
            ErrorKind::Unavailable,
            Retry::Safe,
            cause,
        ))?
    });
    let error = run(own).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Safe)
    );
}

#[tokio::test]
async fn a_panic_before_the_first_await_is_contained_too() {
    let tool = Tool::new("t", "", |_, _: Empty| {
        if true {
            panic!("before there is a future");
        }
        async { Ok(()) }
    });
    let error = run(tool.with_class(EffectClass::Pure)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Internal, Retry::Safe)
    );
}

#[tokio::test]
async fn a_cut_result_keeps_whole_characters_and_its_verdict() {
    let limits = Limits::new().with_result_bytes_max(10);
    let long = ToolOutcome::failed("日本語日本語");
    let cut = limits.clip(long);
    assert!(cut.is_error);
    assert!(cut.to_text().starts_with("日本語\n["));
    let data = limits.clip(ToolOutcome::structured(json!({"a": "0123456789"})));
    assert_eq!(data.structured_content, None);
    let short = ToolOutcome::structured(json!({"a": 1}));
    assert_eq!(limits.clip(short.clone()), short);
}

#[tokio::test]
async fn the_effect_of_a_call_names_tool_class_arguments_and_cost() {
    let cost = Amount::from_units(5, Asset::USD);
    let tool = nothing("pay")
        .with_class(EffectClass::Probeable)
        .with_cost_max(cost);
    let tools = InProcess::new(&Env::system(), [tool]).unwrap();
    let scope = Scope::new(Principal::host());
    let call = ToolCall::new("1", "pay", json!({}));
    let effect = tools.effect(&scope, &call).await.unwrap();
    assert_eq!(
        (effect.action.as_str(), effect.target.as_str()),
        ("tool.call", "pay")
    );
    assert_eq!(effect.class, EffectClass::Probeable);
    assert_eq!(effect.cost_max, Some(cost));
    let rounded = ToolCall::new("1", "pay", json!({"to": u64::MAX}));
    let error = tools.effect(&scope, &rounded).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let other = ToolCall::new("1", "other", json!({}));
    let error = tools.effect(&scope, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let info = ToolInfo::new(ToolSpec::new("pay", "", json!({})));
    assert!(info.effect(&other).is_err());
    assert_eq!(info.class, EffectClass::Opaque);
    assert!(info.annotations.destructive && !info.annotations.read_only);
}

#[test]
fn hostile_schemas_are_refused() {
    let deep = (0..200).fold(json!({}), |inner, _| json!({ "not": inner }));
    for schema in [
        json!({"$ref": "http://127.0.0.1:1/schema.json"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"type": "no such type"}),
        json!({"pattern": "(a+)+$(?=x)"}),
        json!({"description": "x".repeat(2 << 20)}),
        json!(7),
        deep,
    ] {
        let error = Schema::compile("t", schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().len() < 1_000);
    }
}

#[test]
fn references_that_lead_to_themselves_end() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$dynamicRef": "#m", "$dynamicAnchor": "m"}),
    ] {
        if let Ok(schema) = Schema::compile("t", schema) {
            assert!(schema.check(&json!({"a": 1})).is_ok());
        }
    }
}

#[test]
fn violations_are_few_and_short() {
    let schema = Schema::compile("t", json!({"items": {"type": "string"}})).unwrap();
    let violations = schema.check(&Value::from(vec![1; 1_000])).unwrap_err();
    assert_eq!(violations.len(), Schema::VIOLATIONS_MAX);
    assert_eq!(violations[1].path, "/1");
    assert!(violations[0].expected.contains("\"string\""));
    assert_eq!(violations[0].got, "1");
}

#[test]
fn strict_reading_refuses_what_two_readers_could_differ_on() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"x":[{"b":1,"b":1}]}"#,
        r#"{"a":1} {"a":2}"#,
        r#"{"a":1e999}"#,
        r#"{"a":NaN}"#,
        "{",
        "",
        &"[".repeat(100_000),
    ] {
        let error = parse_arguments("t", text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().len() < 1_000);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Strict reading takes every JSON text a writer writes, and reads the same value.
    #[test]
    fn strict_reading_reads_what_was_written(value in any_json()) {
        let read = parse_arguments("t", &value.to_string()).unwrap();
        prop_assert_eq!(read, value);
    }

    /// No JSON value panics a check or makes its violations long.
    #[test]
    fn any_value_can_be_checked(value in any_json()) {
        let schema = Schema::compile("t", json!({
            "type": "object",
            "properties": {"a": {"type": "integer", "maximum": 5}},
            "required": ["a"],
            "additionalProperties": false,
        })).unwrap();
        if let Err(violations) = schema.check(&value) {
            let text = Error::invalid_arguments("t", violations).to_string();
            prop_assert!(text.len() < 6_000);
        }
    }
}
