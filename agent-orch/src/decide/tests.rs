//! Every class on every rung in every stage, and that every road ends.

use std::collections::BTreeMap;

use agent_core::{AgentId, AttemptId, Fence, RunId};
use proptest::prelude::*;

use super::*;
use crate::machine::apply;
use crate::task::Lease;

const STAGES: [Stage; 4] = [Stage::Work, Stage::Verify, Stage::Merge, Stage::Undo];

fn task(stage: Stage) -> Task {
    let new = crate::NewTask::new("a", "work", Value::Null);
    let mut task = new.as_task(RunId::from_bits(1));
    task.stage = stage;
    task.status = Status::Leased;
    task.author = Some(AgentId::from_bits(1));
    if stage == Stage::Undo {
        task.ends_as = Some(Status::Canceled);
    }
    task
}

/// Moves a task on.
fn go(task: &mut Task, next: Next) {
    let lease = lease(task);
    apply(task, &lease, next.transition).unwrap();
}

fn lease(task: &Task) -> Lease {
    Lease {
        task: task.id,
        fence: Fence(1),
        owner: AgentId::from_bits(2),
        attempt: AttemptId::from_bits(3),
        stage: task.stage,
        round: task.round,
        until: Timestamp::EPOCH,
        wakes: 0,
    }
}

/// A failure of the class.
fn failure(class: Class) -> Failure {
    let (kind, code) = match class {
        Class::Transient | Class::RateLimited => (ErrorKind::Unavailable, "x.y"),
        Class::Timeout => (ErrorKind::TimedOut, "x.y"),
        Class::InvalidInput => (ErrorKind::Invalid, "x.y"),
        Class::PermissionDenied => (ErrorKind::Denied, "x.y"),
        Class::BudgetExceeded => (ErrorKind::Exhausted, "pay.over_budget"),
        Class::Conflict => (ErrorKind::Conflict, "x.y"),
        Class::InDoubt => (ErrorKind::Unavailable, "orch.in_doubt"),
        Class::Stuck => (ErrorKind::Internal, Class::STUCK_CODE),
        Class::Bug => (ErrorKind::Internal, "x.y"),
    };
    let mut failure = Failure::new(kind, Retry::Safe, code, "m", "f");
    failure.retry_after_ms = (class == Class::RateLimited).then_some(90_000);
    assert_eq!(Class::of(&failure), class);
    failure
}

/// A table whose only ladder answers with an action first.
fn first(class: Class, action: Action) -> RecoveryTable {
    let mut ladder = vec![Rung::new(action, 1)];
    if !action.is_last() {
        ladder.push(Rung::new(Action::Fail, 1));
    }
    RecoveryTable::empty().with(class, ladder).unwrap()
}

fn failed(class: Class) -> Ended {
    Ended::Failed {
        failure: failure(class),
    }
}

/// What a transition is called, with the default of the question asked before it.
fn name(next: &Next) -> String {
    let of = match &next.transition {
        Transition::Retry { .. } => "retry",
        Transition::FallBack {
            to: Alternative::Choices(_),
            ..
        } => "choices",
        Transition::FallBack { .. } => "pool",
        Transition::Correct {
            same_agent: true, ..
        } => "correct same",
        Transition::Correct { .. } => "correct other",
        Transition::Park { .. } => "park",
        Transition::Unwind { .. } => "unwind",
        Transition::End { .. } => "end",
        _ => "?",
    };
    let asked = next.request.as_ref();
    asked.map_or_else(|| of.to_owned(), |r| format!("{of} {}", r.default))
}

#[test]
fn every_class_on_every_rung_in_every_stage() {
    let (escalation, fallback) = (
        Escalation::default(),
        Fallback::default().with_choice("model", &["a", "b"]),
    );
    for (class, action, stage) in Class::ALL
        .into_iter()
        .flat_map(|class| Action::ALL.map(|action| (class, action)))
        .flat_map(|(class, action)| STAGES.map(|stage| (class, action, stage)))
    {
        let table = first(class, action);
        let mut policy = Policy::new(&table, "check", &escalation);
        policy.fallback = Some(&fallback);
        policy.has_others = true;
        let next = decide(&task(stage), failed(class), &policy);
        let concerns_author = stage == Stage::Work || class == Class::Conflict;
        let expected = match (action, stage) {
            (Action::Retry, _) => "retry",
            (Action::Park, _) => "park retry",
            // Nothing but a person lets an undo action stand.
            (_, Stage::Undo) => "park fail",
            (Action::Fallback, Stage::Work) => "choices",
            // Without anything to fall back on, the rung is not there.
            (Action::Fallback, _) => "end",
            (Action::Repair | Action::Reassign, _) if !concerns_author => "retry",
            (Action::Repair, _) => "correct same",
            (Action::Reassign, _) => "correct other",
            (Action::Escalate, _) => "park fail",
            (Action::Compensate, _) => "unwind",
            (Action::Fail, _) => "end",
        };
        assert_eq!(name(&next), expected, "{class:?} {action:?} {stage:?}");
    }
}

#[test]
fn a_fallback_takes_the_next_choice_and_at_last_another_pool() {
    let (escalation, table) = (Escalation::default(), RecoveryTable::default());
    let fallback = Fallback::default()
        .with_choice("model", &["a", "b"])
        .with_choice("search", &["x"])
        .with_pool("seniors");
    let mut policy = Policy::new(&table, "check", &escalation);
    policy.fallback = Some(&fallback);
    let mut task = task(Stage::Work);
    task.failures = BTreeMap::from([(Class::Timeout, 2)]);
    let next = decide(&task, failed(Class::Timeout), &policy);
    go(&mut task, next);
    let chosen = [("model", "b"), ("search", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(task.choices, BTreeMap::from(chosen));
    assert_eq!((task.round, task.status), (0, Status::Ready));
    let next = decide(&task, failed(Class::Timeout), &policy);
    go(&mut task, next);
    assert_eq!(
        (task.home.as_str(), task.pool.as_str()),
        ("seniors", "seniors")
    );
    assert_eq!((task.round, task.retries), (1, 2));
    assert!(task.failures.is_empty() && task.choices.is_empty());
}

#[test]
fn a_pool_has_ladders_of_its_own() {
    let (escalation, table) = (Escalation::default(), RecoveryTable::default());
    let own = first(Class::Bug, Action::Compensate);
    let mut policy = Policy::new(&table, "check", &escalation);
    policy.own = Some(&own);
    let next = |class| name(&decide(&task(Stage::Work), failed(class), &policy));
    assert_eq!(next(Class::Bug), "unwind");
    assert_eq!(next(Class::Transient), "retry");
}

#[test]
fn the_other_side_says_how_long_to_wait() {
    let (escalation, table) = (Escalation::default(), RecoveryTable::default());
    let policy = Policy::new(&table, "check", &escalation);
    let next = decide(&task(Stage::Work), failed(Class::RateLimited), &policy);
    let Transition::Retry { at, .. } = next.transition else {
        panic!("{next:?}");
    };
    assert_eq!(
        at,
        Timestamp::EPOCH.after(std::time::Duration::from_secs(90))
    );
}

proptest! {
    /// Whatever fails, in whatever order, a task ends or waits for a person after at most as many
    /// failures as it may meet, and a question that nobody answers ends it too.
    #[test]
    fn every_road_ends(
        classes in prop::collection::vec(0_usize..10, 200),
        retries_max in 0_u32..40,
        ladders in prop::collection::vec((0_usize..8, 1_u32..20, 0_usize..8), 10),
    ) {
        let mut table = RecoveryTable::default();
        for (class, (a, times, b)) in Class::ALL.into_iter().zip(&ladders) {
            let rungs = [*a, *b].map(|n| Rung::new(Action::ALL[n], *times));
            let rungs = rungs.into_iter().filter(|rung| !rung.action.is_last());
            let ladder = rungs.chain([Rung::new(Action::ALL[5 + a % 3], 1)]).collect();
            table = table.with(class, ladder).unwrap();
        }
        let escalation = Escalation::default();
        let fallback = Fallback::default().with_choice("model", &["a", "b"]).with_pool("other");
        let mut task = task(Stage::Work);
        let mut n_failures = 0_u32;
        for class in classes {
            let mut policy = Policy::new(&table, "check", &escalation);
            policy.retries_left = retries_max.saturating_sub(task.retries);
            policy.fallback = (task.home == "work").then_some(&fallback);
            let class = Class::ALL[class];
            let next = decide(&task, failed(class), &policy);
            n_failures += 1;
            let gives_up = next.request.as_ref().is_some_and(|r| r.default == GIVE_UP);
            go(&mut task, next);
            if gives_up || task.status.is_terminal() || task.stage == Stage::Undo {
                prop_assert!(n_failures <= retries_max + 1);
                return Ok(());
            }
            task.status = Status::Leased;
        }
        prop_assert!(false, "{} failures and no end", n_failures);
    }
}
