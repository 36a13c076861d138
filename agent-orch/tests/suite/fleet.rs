//! The manifest: what it means, and what it says when it is wrong.

use std::time::Duration;

use agent_orch::{
    Action, Class, ConfigError, Error, Fleet, Lane, OnMeltdown, Pool, Remedy, Restart, Strategy,
    UndoWhen,
};

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
[supervisor.core]
strategy = "one_for_all"
backoff = "1s..60s x2 jitter"
children = ["pool.menders", "supervisor.inner"]
[supervisor.inner]
on_meltdown = "escalate"
children = ["pool.scaled"]
[pool.scaled]
agent = "scaled"
min = 2
max = 9
scale = { metric = "ready_tasks", target = 3, down_window = "10m" }
budget = "1 USD"
owner = "team-a"
purpose = "to scale"
[pool.scaled.supervisor]
restart = "permanent"
intensity = 5
[pool.scaled.probes]
startup = "10s"
progress = { events = "5m" }
[registry]
retire_idle = "30d"
"#;

#[test]
fn a_manifest_means_what_it_says() {
    let fleet = Fleet::from_toml(WHOLE).unwrap();
    assert_eq!(fleet.supervisor.strategy, Strategy::RestForOne);
    assert_eq!(fleet.pools["menders"].attempt_max, Duration::from_secs(90));
    assert_eq!(fleet.lanes["landing"].size, Lane::SIZE_DEFAULT);
    assert_eq!(fleet.recovery.action(Class::Bug, 2), Action::Fail);
    assert_eq!(fleet.backoff.first, Duration::from_millis(20));
    let scaled = &fleet.pools["scaled"];
    assert_eq!((scaled.size, scaled.size_max()), (2, 9));
    assert_eq!(scaled.scale.unwrap().target, 3);
    assert_eq!(scaled.probes.events, Some(Duration::from_secs(300)));
    let supervision = fleet.supervision_of("pool.scaled");
    assert_eq!(supervision.restart, Restart::Permanent);
    assert_eq!(supervision.strategy, Strategy::RestForOne, "the root's");
    assert_eq!(supervision.intensity.restarts, 5);
    assert_eq!(supervision.on_meltdown, OnMeltdown::Escalate);
    let alone = fleet.supervision_of("pool.verifiers");
    assert_eq!(alone.on_meltdown, OnMeltdown::Quarantine);
    assert_eq!(fleet.supervisor_of("supervisor.inner"), Some("core"));
    assert!(fleet.supervisors["core"].supervision.delay.jitter);
    assert_eq!(
        fleet.registry.idle,
        Some(Duration::from_secs(30 * 24 * 3_600))
    );
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

/// Breaks the manifest in one place and returns what is said about it.
#[expect(clippy::panic, reason = "a test says what it got")]
fn broken(old: &str, new: &str) -> ConfigError {
    assert!(WHOLE.contains(old), "{old}");
    match Fleet::from_toml(&WHOLE.replacen(old, new, 1)) {
        Err(Error::Config(error)) => *error,
        other => panic!("{new}: {other:?}"),
    }
}

/// What is broken, with what, and what is to be said: line, key, remedy. `¶` is a line break.
const WRONG: &str = r#"
size = 40 | seize = 40 | 11 | pool.menders.seize | rename size
[backoff] | [backof] | 26 | backof | rename backoff
bug = | bog = | 25 | recovery.bog | rename bug
"rest_for_one" | "rest_for_on" | 6 | supervisor.strategy | rename rest_for_one
"rest_for_one" | "best" | 6 | supervisor.strategy | one of
"verifiers" | "verifier" | 13 | pool.menders.verifier | rename verifiers
"verifiers" | "nobody" | 13 | pool.menders.verifier | add [pool.nobody]
"landing"¶ | "nowhere"¶ | 14 | pool.menders.lane | add [lane.nowhere]
agent = "verifier"¶ | | 17 | pool.verifiers.agent | add agent
name = "hygiene"¶ | | 2 | fleet.name | add name
[fleet]¶name = "hygiene"¶budget = "2.00 USD"¶ | | 1 | fleet | add fleet
size = 40 | size = "x" | 11 | pool.menders.size | write
size = 40 | size = -1 | 11 | pool.menders.size | write
size = 40 | size = 99999999999999999999 | 11 | pool.menders.size | write
size = 40 | size = 0 | 11 | pool.menders.size | write
size = 10 | size = 10001 | 19 | pool.verifiers.size | write
"2.00 USD" | 2.0 | 4 | fleet.budget | write
"2.00 USD" | "2.0000001 USD" | 4 | fleet.budget | write
"1.50 USD" | "1.50 EUR" | 12 | pool.menders.budget | write
"0.50 USD" | "-0.50 USD" | 20 | pool.verifiers.budget | write
"sandbox.exec:checks" | "a:b",¶"sandbox" | 16 | pool.menders.grants[1] | write
["sandbox.exec:checks"] | "a:b" | 15 | pool.menders.grants | write
"60s" | "60 parsecs" | 8 | supervisor.period | write
"60s" | 60 | 8 | supervisor.period | write
"reassign:1", "fail" | "reassign:1" | 25 | recovery.bug | write
"reassign:1" | "reassign:-1" | 25 | recovery.bug[0] | write
"hygiene"¶ | "a/b"¶ | 3 | fleet.name | write
[pool.menders] | [pool."a b"] | 9 | pool.a b | write
"pool.menders", | "pool.mender", | 31 | supervisor.core.children[0] | rename menders
"pool.menders", | "menders", | 31 | supervisor.core.children[0] | write
"supervisor.inner"] | "supervisor.core"] | 31 | supervisor.core.children[1] | remove
"pool.scaled"] | "pool.menders"] | 34 | supervisor.inner.children[0] | remove
"pool.scaled"] | "supervisor.core"] | 31 | supervisor.core.children | remove
children = ["pool.scaled"] | children = [] | 34 | supervisor.inner.children | write
children = ["pool.scaled"] | | 32 | supervisor.inner.children | add children
"one_for_all" | "all" | 29 | supervisor.core.strategy | one of
"1s..60s x2 jitter" | "60s..1s" | 30 | supervisor.core.backoff | write
intensity = 20 | intesity = 20 | 7 | supervisor.intesity | rename intensity
max = 9 | max = 1 | 38 | pool.scaled.max | write
max = 9 | size = 9 | 38 | pool.scaled.size | remove
max = 9 | | 35 | pool.scaled.max | add max
min = 2 | | 35 | pool.scaled.size | add size
target = 3 | target = 0 | 39 | pool.scaled.scale.target | write
"ready_tasks" | "load" | 39 | pool.scaled.scale.metric | one of
events = "5m" | event = "5m" | 48 | pool.scaled.probes.progress.event | rename events
"permanent" | "permanently" | 44 | pool.scaled.supervisor.restart | rename permanent
retire_idle | retire_idel | 50 | registry.retire_idel | rename retire_idle
[lane.landing] | [lane.menders] | 14 | pool.menders.lane | add [lane.landing]
"#;

#[test]
fn a_wrong_manifest_names_the_line_the_key_and_the_remedy() {
    for case in WRONG.trim().lines() {
        let parts: Vec<String> = case
            .split('|')
            .map(|part| part.trim().replace('¶', "\n"))
            .collect();
        let [old, new, line, key, remedy] = parts.as_slice() else {
            panic!("{case}");
        };
        let said = broken(old, new);
        let place = (said.line, said.key.as_str());
        assert_eq!(place, (line.parse().ok(), key.as_str()), "{case}: {said}");
        let found = match &said.remedy {
            Remedy::Rename(name) => format!("rename {name}"),
            Remedy::OneOf(_) => "one of".to_owned(),
            Remedy::Add(what) => format!("add {what}"),
            Remedy::Write(_) => "write".to_owned(),
            Remedy::Remove => "remove".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(found, *remedy, "{case}: {said}");
        assert!(!said.reason.is_empty(), "{case}");
    }
}

#[test]
fn text_that_is_no_manifest_is_placed_too() {
    for (text, line) in [
        ("[fleet\n", 1),
        ("[fleet]\nname = \"a\"\nname = \"b\"\n", 3),
        ("[fleet]\nname = \"a\n", 2),
    ] {
        match Fleet::from_toml(text) {
            Err(Error::Config(said)) => assert_eq!(said.line, Some(line), "{text}: {said}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let large = format!("# {}\n", "x".repeat(1 << 20));
    assert!(matches!(Fleet::from_toml(&large), Err(Error::Config(_))));
}

#[test]
fn a_fleet_built_in_rust_has_keys_and_no_lines() {
    let budget = "1 USD".parse().unwrap();
    match Fleet::new("f", budget).check() {
        Err(Error::Config(said)) => {
            assert_eq!((said.line, said.key.as_str()), (None, "pool"));
        }
        other => panic!("{other:?}"),
    }
}

/// A manifest in which pool `menders` has these lines beside.
fn with_lines(lines: &str) -> Result<Fleet, Error> {
    Fleet::from_toml(&WHOLE.replace("attempt_max = \"90s\"", lines))
}

#[test]
fn a_pool_recovers_in_its_own_way() {
    let fleet = with_lines(
        r#"
retries_max = 7
undo = "by_table"
identical_calls_max = 3
fallback = { pool = "seniors", choices = { model = ["fast", "careful"] } }
[pool.menders.recovery]
transient = ["retry:1", "fallback:2", "park:1", "compensate"]
[pool.seniors]
agent = "mender"
size = 1
budget = "1.50 USD"
verifier = "verifiers"
"#,
    )
    .unwrap();
    let recovery = &fleet.pools["menders"].recovery;
    let ladder = recovery.ladders.ladder(Class::Transient);
    let rungs: Vec<String> = ladder.iter().map(ToString::to_string).collect();
    assert_eq!(rungs, ["retry:1", "fallback:2", "park:1", "compensate"]);
    assert_eq!(recovery.ladders.ladder(Class::Bug), []);
    assert_eq!(
        (recovery.retries_max, recovery.undo),
        (7, UndoWhen::ByTable)
    );
    assert_eq!(recovery.identical_calls_max, Some(3));
    assert_eq!(recovery.fallback.n_alternatives(), 2);
    assert_eq!(recovery.fallback.pool.as_deref(), Some("seniors"));
}

#[test]
fn a_breaker_and_limited_grants_are_read() {
    let grants = "grants = [\"pay.refund:*; calls 3; spend 5.00 USD\"]";
    let text = WHOLE.replace("grants = [\"sandbox.exec:checks\"]", grants);
    let fleet = Fleet::from_toml(&format!("{text}\n[breaker]\nopen_first = \"1s\"")).unwrap();
    assert_eq!(fleet.breaker.wait(2), Duration::from_secs(2));
    for wrong in ["calls many", "spend 3", "times 3", ""] {
        let text = text.replace("calls 3", wrong);
        let Err(Error::Config(error)) = Fleet::from_toml(&text) else {
            panic!("{wrong}");
        };
        assert_eq!(error.key, "pool.menders.grants[0]", "{wrong}");
    }
}

#[test]
fn a_recovery_that_leads_nowhere_is_named() {
    let circle = r#"
fallback = { pool = "menders" }
"#;
    for (lines, key) in [
        (
            "fallback = { pool = \"nobody\" }",
            "pool.menders.fallback.pool",
        ),
        (
            "fallback = { pool = \"verifiers\" }",
            "pool.menders.fallback.pool",
        ),
        (circle, "pool.menders.fallback.pool"),
        (
            "fallback = { choices = { model = [] } }",
            "pool.menders.fallback.choices.model",
        ),
        (
            "identical_calls_max = 0",
            "pool.menders.identical_calls_max",
        ),
        (
            "[pool.menders.recovery]\nbug = [\"retry:1\"]",
            "pool.menders.recovery.bug",
        ),
        (
            "[pool.menders.recovery]\nbug = [\"fail\", \"escalate\"]",
            "pool.menders.recovery.bug",
        ),
    ] {
        let Err(Error::Config(error)) = with_lines(lines) else {
            panic!("{lines}");
        };
        assert_eq!(error.key, key, "{lines}");
        assert!(error.line.is_some(), "{lines}");
    }
}
