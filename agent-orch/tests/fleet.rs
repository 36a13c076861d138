//! The manifest: what it means, and what it says when it is wrong.

use std::time::Duration;

use agent_orch::{Action, Class, Fleet, Lane, Pool, Strategy};

const WHOLE: &str = r#"
[fleet]
name = "hygiene"
budget = "2.00 USD"
[supervisor]
strategy = "rest_for_one"
intensity = 20
period = "60s"
[pool.menders]
agent = "mender"
size = 40
budget = "1.50 USD"
verifier = "verifiers"
lane = "landing"
grants = ["sandbox.exec:checks"]
attempt_max = "90s"
[pool.verifiers]
agent = "verifier"
size = 10
budget = "0.50 USD"
[lane.landing]
agent = "lander"
target = "agents/hygiene"
[recovery]
bug = ["reassign:1", "fail"]
[backoff]
first = "20ms"
"#;

#[test]
fn a_manifest_means_what_it_says() {
    let fleet = Fleet::from_toml(WHOLE).unwrap();
    assert_eq!(fleet.supervisor.strategy, Strategy::RestForOne);
    assert_eq!(fleet.pools["menders"].attempt_max, Duration::from_secs(90));
    assert_eq!(fleet.lanes["landing"].size, Lane::SIZE_DEFAULT);
    assert_eq!(fleet.recovery.action(Class::Bug, 2), Action::Fail);
    assert_eq!(fleet.backoff.first, Duration::from_millis(20));
    assert_eq!(
        fleet.digest().unwrap(),
        Fleet::from_toml(WHOLE).unwrap().digest().unwrap()
    );
    let other = WHOLE.replace("size = 40", "size = 41");
    assert_ne!(
        fleet.digest().unwrap(),
        Fleet::from_toml(&other).unwrap().digest().unwrap()
    );
}

#[test]
fn the_same_types_build_it_in_rust() {
    let budget = "1 USD".parse().unwrap();
    let fleet = Fleet::new("f", budget)
        .with_pool(
            "work",
            Pool::new("worker", 2, budget).with_verifier("check", None),
        )
        .with_pool("check", Pool::new("checker", 1, budget));
    assert!(fleet.check().is_ok());
}

#[test]
fn a_wrong_manifest_names_the_place_and_the_remedy() {
    for (old, new, expected) in [
        ("size = 40", "size = \"x\"", "size"),
        ("size = 40", "size = 0", "pool.menders.size"),
        ("size = 40", "seize = 40", "seize"),
        ("\"2.00 USD\"", "2.0", "budget"),
        ("\"2.00 USD\"", "\"2.0000001 USD\"", "6 decimals"),
        ("\"1.50 USD\"", "\"1.50 EUR\"", "pool.menders.budget"),
        ("\"verifiers\"", "\"nobody\"", "add `[pool.nobody]`"),
        ("\"landing\"\n", "\"nowhere\"\n", "add `[lane.nowhere]`"),
        (
            "\"sandbox.exec:checks\"",
            "\"sandbox\"",
            "pool.menders.grants",
        ),
        ("\"60s\"", "\"60 parsecs\"", "is not a time"),
        ("\"rest_for_one\"", "\"best\"", "rest_for_one"),
        ("\"reassign:1\", \"fail\"", "\"reassign:1\"", "recovery.bug"),
        ("bug =", "bog =", "bog"),
        ("name = \"hygiene\"", "name = \"a/b\"", "fleet.name"),
    ] {
        assert!(WHOLE.contains(old), "{old}");
        let wrong = Fleet::from_toml(&WHOLE.replacen(old, new, 1));
        let said = wrong.unwrap_err().to_string();
        assert!(said.contains(expected), "{new}: {said}");
    }
    let said = Fleet::from_toml("[fleet\n").unwrap_err().to_string();
    assert!(said.contains("line 1"), "{said}");
}
