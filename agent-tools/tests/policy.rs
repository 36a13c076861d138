//! Decisions of a policy, and what the layers do with them.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::fault::{Chaos, Fault};
use agent_core::model::ToolCall;
use agent_core::{
    Classify, Clock, Env, ErrorKind, ManualClock, OsEntropy, Principal, Retry, Scope,
    SeededEntropy, Timestamp,
};
use agent_tools::conformance::tools;
use agent_tools::layer::{Combined, Faulty, Policed};
use agent_tools::{Constraint, Decision, Error, InProcess, Policy, Rule, Toolset};
use proptest::prelude::*;
use serde_json::{Value, json};

fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall::new("call_1", name, arguments)
}

fn env() -> (Env, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (Env::new(shared, Arc::new(OsEntropy::new())), clock)
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

#[test]
fn without_a_rule_everything_is_denied() {
    let decision = Policy::new().decide(&call("echo", json!({})));
    assert!(matches!(decision, Decision::Deny { rule: None, .. }));
}

#[test]
fn the_first_rule_that_applies_decides() {
    let policy = Policy::new()
        .with_rule(Rule::deny("fs_delete").with_name("never delete"))
        .with_rule(Rule::allow("fs_*").with_constraint(Constraint::prefix("/path", "/srv/")))
        .with_rule(
            Rule::allow("fs_read").with_constraint(Constraint::equals("/path", "/etc/hosts")),
        );
    let decide = |name: &str, path: &str| policy.decide(&call(name, json!({ "path": path })));
    let Decision::Deny { rule, .. } = decide("fs_delete", "/srv/a") else {
        panic!("is denied");
    };
    assert_eq!(rule.unwrap(), "never delete");
    assert!(
        matches!(decide("fs_read", "/srv/a"), Decision::Allow { rule, .. } if rule == "allow fs_*")
    );
    assert!(
        matches!(decide("fs_read", "/etc/hosts"), Decision::Allow { rule, .. } if rule == "allow fs_read")
    );
    let Decision::Deny { rule, reason, .. } = decide("fs_read", "/etc/passwd") else {
        panic!("is denied");
    };
    assert_eq!(rule.unwrap(), "allow fs_*");
    assert!(reason.contains("/srv/"));
    assert!(!decide("net_get", "/srv/a").is_allow());
}

#[test]
fn constraints_hold_for_hostile_arguments() {
    let max = || Constraint::number_max("/n", 100);
    let within = || Constraint::prefix("/s", "/srv/");
    let short = || Constraint::length_max("/s", 3);
    let one_of = || Constraint::one_of("/s", ["a", "b"]);
    for (constraint, arguments, expected) in [
        (max(), json!({"n": 100}), true),
        (max(), json!({"n": -5}), true),
        (max(), json!({"n": 99.5}), true),
        (max(), json!({"n": 101}), false),
        (max(), json!({"n": 100.5}), false),
        (max(), json!({"n": u64::MAX}), false),
        (max(), json!({"n": 1e300}), false),
        (max(), json!({"n": "1"}), false),
        (max(), json!({"n": null}), false),
        (max(), json!({}), false),
        (max(), json!([100]), false),
        (within(), json!({"s": "/srv/a/b.txt"}), true),
        (within(), json!({"s": "/srv/"}), true),
        (within(), json!({"s": "/srv/a..b/...c"}), true),
        (within(), json!({"s": "/srv"}), false),
        (within(), json!({"s": "/srv/../etc"}), false),
        (within(), json!({"s": "/srv/a/.."}), false),
        (within(), json!({"s": "/srv/%2e%2E/etc"}), false),
        (within(), json!({"s": "/srv/..%2fetc"}), false),
        (within(), json!({"s": "/srv/%252e%252e/etc"}), false),
        (within(), json!({"s": "/srv/..\\etc"}), false),
        (within(), json!({"s": "/srv/a\0"}), false),
        (within(), json!({"s": ["/srv/"]}), false),
        (short(), json!({"s": "日本語"}), true),
        (short(), json!({"s": "日本語x"}), false),
        (short(), json!({"s": [1, 2, 3]}), true),
        (short(), json!({"s": [1, 2, 3, 4]}), false),
        (short(), json!({"s": 1}), false),
        (one_of(), json!({"s": "b"}), true),
        (one_of(), json!({"s": "B"}), false),
        (one_of(), json!({"s": ["a"]}), false),
    ] {
        let shown = format!("{constraint} with {arguments}");
        let policy = Policy::new().with_rule(Rule::allow("t").with_constraint(constraint));
        let decision = policy.decide(&call("t", arguments));
        assert_eq!(decision.is_allow(), expected, "{shown}");
    }
}

#[tokio::test]
async fn a_refused_call_is_typed_and_never_reaches_the_tool() {
    let (env, _clock) = env();
    let inner = InProcess::new(&env, tools()).unwrap();
    let policy = Policy::new()
        .with_rule(Rule::allow("tally").with_constraint(Constraint::number_max("/step", 10)));
    let policed = Policed::new(inner, policy, &env);
    let error = policed
        .call(&scope(), call("tally", json!({"step": 11})))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.code(), "tools.denied");
    let Error::Refused { decision, .. } = error else {
        panic!("is refused");
    };
    assert!(matches!(*decision, Decision::Deny { rule: Some(_), .. }));
    let outcome = policed
        .call(&scope(), call("tally", json!({"step": 10})))
        .await
        .unwrap();
    assert_eq!(outcome.structured_content.unwrap()["total"], 10);
}

#[tokio::test]
async fn tools_no_call_can_reach_are_not_listed() {
    let (env, _clock) = env();
    let inner = InProcess::new(&env, tools()).unwrap();
    let policy = Policy::new()
        .with_rule(Rule::deny("wait"))
        .with_rule(Rule::deny("tally").with_constraint(Constraint::equals("/step", 1)))
        .with_rule(Rule::allow("*a*"));
    let policed = Policed::new(inner, policy, &env);
    let names: Vec<_> = policed.list(&scope()).await.unwrap();
    let names: Vec<_> = names.iter().map(|tool| &*tool.spec.name).collect();
    assert_eq!(names, ["add", "fail", "large", "panic", "tally"]);
    let error = policed.call(&scope(), call("nothing", json!({}))).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_rate_holds_in_every_window_and_says_when_to_come_back() {
    let (env, clock) = env();
    let inner = InProcess::new(&env, tools()).unwrap();
    let policy = Policy::new().with_rule(Rule::allow("*").with_per_minute_max(2));
    let policed = Policed::new(inner, policy, &env);
    let add = || policed.admit(&call("add", json!({"a": 1, "b": 1})));
    assert!(add().is_allow());
    clock.advance(Duration::from_secs(40));
    assert!(add().is_allow());
    let Decision::RateLimit { retry_after, .. } = add() else {
        panic!("is limited");
    };
    assert_eq!(retry_after, Duration::from_secs(20));
    let error = policed
        .call(&scope(), call("add", json!({"a": 1, "b": 1})))
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.retry(), Retry::Safe);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
    clock.advance(retry_after);
    assert!(add().is_allow());
    assert!(!add().is_allow());
}

#[tokio::test]
async fn a_call_limit_counts_what_was_let_through() {
    let (env, _clock) = env();
    let inner = InProcess::new(&env, tools()).unwrap();
    let policy = Policy::new()
        .with_rule(Rule::allow("add").with_calls_max(1))
        .with_rule(Rule::allow("echo").with_per_minute_max(0));
    let policed = Policed::new(inner, policy, &env);
    let add = call("add", json!({"a": 1, "b": 1}));
    policed.call(&scope(), add.clone()).await.unwrap();
    let error = policed.call(&scope(), add).await.unwrap_err();
    assert_eq!(error.code(), "tools.call_limit");
    assert_eq!(error.retry(), Retry::Never);
    let echo = policed.admit(&call("echo", json!({"text": "a"})));
    assert!(matches!(echo, Decision::RateLimit { .. }));
}

#[tokio::test]
async fn namespaces_are_unique_and_names_do_not_collide() {
    let (env, _clock) = env();
    let make = || Arc::new(InProcess::new(&env, tools()).unwrap());
    let combined = Combined::new()
        .mount("a", make())
        .unwrap()
        .mount("b", make())
        .unwrap();
    let names = combined.list(&scope()).await.unwrap();
    assert_eq!(names.len(), 14);
    let tally = async |name: &str| combined_call(&combined, name).await;
    assert_eq!(tally("a__tally").await.unwrap(), 1);
    assert_eq!(tally("b__tally").await.unwrap(), 1);
    assert_eq!(tally("a__tally").await.unwrap(), 2);
    assert_eq!(
        tally("tally").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let error = Combined::new()
        .mount("a", make())
        .unwrap()
        .mount("a", make());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
    for namespace in ["", "a__b", "a_", "a b", "é", &"x".repeat(25)] {
        let error = Combined::new().mount(namespace, make()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{namespace}");
    }
}

async fn combined_call(combined: &Combined, name: &str) -> agent_tools::Result<u64> {
    let outcome = combined
        .call(&scope(), call(name, json!({"step": 1})))
        .await?;
    Ok(outcome.structured_content.unwrap()["total"]
        .as_u64()
        .unwrap())
}

#[tokio::test]
async fn a_root_tool_that_looks_mounted_is_a_collision() {
    let (env, _clock) = env();
    let echo = |name: &str| {
        let tool = agent_tools::Tool::new(name, "", async |_, _: Empty| Ok(()));
        Arc::new(InProcess::new(&env, [tool]).unwrap())
    };
    let combined = Combined::new()
        .with_root(echo("a__b"))
        .mount("a", echo("b"));
    let error = combined.unwrap().list(&scope()).await.unwrap_err();
    assert!(matches!(error, Error::Collision { .. }));
}

#[derive(serde::Deserialize, agent_tools::JsonSchema)]
struct Empty {}

proptest! {
    /// Against a reference: in no window of 60 seconds do more than the limit pass, and a call is
    /// only refused when the window is full.
    #[test]
    fn the_rate_is_exact(limit in 1_u32..5, steps in prop::collection::vec(0_u64..30_000, 1..60)) {
        let (env, clock) = env();
        let inner = InProcess::new(&env, []).unwrap();
        let policy = Policy::new().with_rule(Rule::allow("*").with_per_minute_max(limit));
        let policed = Policed::new(inner, policy, &env);
        let (mut now, mut passed) = (0_u64, Vec::new());
        for step in steps {
            clock.advance(Duration::from_millis(step));
            now += step;
            let recent = passed.iter().filter(|at| now - **at < 60_000).count();
            let is_allowed = policed.admit(&call("t", json!({}))).is_allow();
            prop_assert_eq!(is_allowed, recent < usize::try_from(limit).unwrap());
            if is_allowed {
                passed.push(now);
            }
        }
    }
}

#[tokio::test]
async fn planted_faults_do_what_they_say() {
    let (env, clock) = env();
    let inner = Arc::new(InProcess::new(&env, tools()).unwrap());
    let faulty = |fault: Fault| {
        let chaos = Chaos::new(Arc::new(SeededEntropy::new(1))).with(fault, 1_000_000);
        Faulty::new(Arc::clone(&inner), chaos, &env)
    };
    let tally = call("tally", json!({"step": 1}));
    let lost = faulty(Fault::LostRequest)
        .call(&scope(), tally.clone())
        .await;
    assert_eq!(lost.unwrap_err().retry(), Retry::Safe);
    let lost = faulty(Fault::LostAnswer)
        .call(&scope(), tally.clone())
        .await;
    assert_eq!(lost.unwrap_err().retry(), Retry::Unknown);
    let twice = faulty(Fault::Duplicate).call(&scope(), tally.clone()).await;
    assert_eq!(twice.unwrap().structured_content.unwrap()["total"], 3);
    let slow = faulty(Fault::Slow);
    let late = scope().with_deadline(clock.now().after(Duration::from_secs(5)));
    let (answer, ()) = tokio::join!(slow.call(&late, tally), async {
        clock.advance(Duration::from_secs(5));
    });
    let error = answer.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::TimedOut, Retry::Unknown)
    );
}
