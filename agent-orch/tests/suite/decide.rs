//! The decision core: the recovery table, restarts, and that every road ends.

use std::time::Duration;

use agent_core::{ErrorKind, Failure, Retry};
use agent_orch::{Action, Backoff, Class, RecoveryTable, Rung};
use proptest::prelude::*;

fn failure(kind: ErrorKind, retry: Retry, code: &str) -> Failure {
    Failure::new(kind, retry, code, "m", "f")
}

#[test]
fn every_kind_of_failure_has_a_class() {
    let plain = |kind| Class::of(&failure(kind, Retry::Safe, "x.y"));
    for (kind, class) in [
        (ErrorKind::NotFound, Class::InvalidInput),
        (ErrorKind::Conflict, Class::Conflict),
        (ErrorKind::Denied, Class::PermissionDenied),
        (ErrorKind::Exhausted, Class::Transient),
        (ErrorKind::Invalid, Class::InvalidInput),
        (ErrorKind::Unsupported, Class::InvalidInput),
        (ErrorKind::Canceled, Class::Transient),
        (ErrorKind::TimedOut, Class::Timeout),
        (ErrorKind::Unavailable, Class::Transient),
        (ErrorKind::Corrupt, Class::Bug),
        (ErrorKind::Internal, Class::Bug),
    ] {
        assert_eq!(plain(kind), class, "{kind:?}");
    }
    let coded = |kind, code| Class::of(&failure(kind, Retry::Never, code));
    assert_eq!(
        coded(ErrorKind::Exhausted, "pay.over_budget"),
        Class::BudgetExceeded
    );
    assert_eq!(
        coded(ErrorKind::Unavailable, "orch.in_doubt"),
        Class::InDoubt
    );
    assert_eq!(coded(ErrorKind::Internal, Class::STUCK_CODE), Class::Stuck);
    let mut limited = failure(ErrorKind::Exhausted, Retry::Safe, "model.rate");
    limited.retry_after_ms = Some(10);
    assert_eq!(Class::of(&limited), Class::RateLimited);
}

#[test]
fn a_ladder_is_climbed_rung_by_rung() {
    let table = RecoveryTable::default();
    let climbed: Vec<Action> = (1..=8).map(|n| table.action(Class::Transient, n)).collect();
    let expected = [
        [Action::Retry; 5].as_slice(),
        &[Action::Reassign, Action::Fail, Action::Fail],
    ];
    assert_eq!(climbed, expected.concat());
    assert_eq!(table.action(Class::InDoubt, 1), Action::Escalate);
}

#[test]
fn a_ladder_ends_in_a_decision() {
    let endless = vec!["retry:3".parse::<Rung>().unwrap()];
    assert!(RecoveryTable::default().with(Class::Bug, endless).is_err());
    assert!(
        RecoveryTable::default()
            .with(Class::Bug, Vec::new())
            .is_err()
    );
    for wrong in ["", "retry:0", "retry:x", "dance:3", "retry:100000"] {
        assert!(wrong.parse::<Rung>().is_err(), "{wrong}");
    }
    for right in ["retry:5", "repair:2", "reassign:1", "escalate", "fail"] {
        assert_eq!(right.parse::<Rung>().unwrap().to_string(), right);
    }
}

#[test]
fn waits_grow_up_to_the_cap() {
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    for (n, least) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        let wait = backoff.wait(n, 7);
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(2 * least));
        assert!(wait >= least && wait <= most, "{n}: {wait:?}");
    }
    assert!(backoff.wait(1_000, 7) <= Duration::from_secs(120));
    assert_eq!(backoff.wait(3, 9), backoff.wait(3, 9), "the seed decides");
}

proptest! {
    #[test]
    fn every_ladder_ends(n in 0_u32..5_000) {
        for class in Class::ALL {
            let last = RecoveryTable::default().action(class, 1_000 + n);
            prop_assert!(matches!(last, Action::Fail | Action::Escalate));
        }
    }
}
