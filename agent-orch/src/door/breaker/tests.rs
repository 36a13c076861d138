use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn at(ms: u64) -> Timestamp {
    Timestamp::EPOCH.after(MS(1_000_000 + ms))
}

/// Makes a call that ends as said, and returns whether it was let through.
fn call(breaker: &mut Breaker, now: Timestamp, said: Said) -> bool {
    let policy = BreakerPolicy::default();
    let (admission, _) = breaker.admit(&policy, now);
    if matches!(admission, Admission::Wait(_)) {
        return false;
    }
    breaker.record(&policy, now, admission, said);
    true
}

fn opened() -> (Breaker, Timestamp) {
    let mut breaker = Breaker::new();
    for n in 0..10 {
        assert!(call(&mut breaker, at(n), Said::Nothing));
    }
    let BreakerState::Open { until } = breaker.state else {
        panic!("{breaker:?}");
    };
    (breaker, until)
}

#[test]
fn it_opens_when_half_of_ten_calls_fail_and_not_before() {
    let mut breaker = Breaker::new();
    for n in 0..9 {
        call(
            &mut breaker,
            at(n),
            if n % 2 == 0 {
                Said::Nothing
            } else {
                Said::Answered
            },
        );
        assert_eq!(breaker.state, BreakerState::Closed);
    }
    call(&mut breaker, at(9), Said::Answered);
    assert!(matches!(breaker.state, BreakerState::Open { .. }));
    assert!(!call(&mut breaker, at(10), Said::Answered));
}

#[test]
fn what_left_the_window_does_not_count() {
    let mut breaker = Breaker::new();
    for n in 0..9 {
        call(&mut breaker, at(n), Said::Nothing);
    }
    call(&mut breaker, at(33_000), Said::Nothing);
    assert_eq!(breaker.state, BreakerState::Closed);
}

#[test]
fn one_probe_at_a_time_closes_it_or_makes_the_wait_longer() {
    let policy = BreakerPolicy::default();
    let (mut breaker, until) = opened();
    let (first, moved) = breaker.admit(&policy, until);
    assert_eq!(
        (first, moved),
        (Admission::Probe, Some(BreakerState::HalfOpen))
    );
    assert!(matches!(
        breaker.admit(&policy, until).0,
        Admission::Wait(_)
    ));
    let moved = breaker.record(&policy, until, first, Said::Nothing);
    let Some(BreakerState::Open { until: again }) = moved else {
        panic!("{moved:?}");
    };
    assert_eq!(again.since(until), policy.wait(2));
    assert!(policy.wait(2) > policy.wait(1));
    let (second, _) = breaker.admit(&policy, again);
    let moved = breaker.record(&policy, again, second, Said::Answered);
    assert_eq!(moved, Some(BreakerState::Closed));
    assert!(call(&mut breaker, again, Said::Answered));
}

#[test]
fn a_probe_that_is_never_answered_for_gives_way_to_another() {
    let policy = BreakerPolicy::default();
    let (mut breaker, until) = opened();
    assert_eq!(breaker.admit(&policy, until).0, Admission::Probe);
    let Admission::Wait(wait) = breaker.admit(&policy, until).0 else {
        panic!("{breaker:?}");
    };
    assert_eq!(
        breaker.admit(&policy, until.after(wait)).0,
        Admission::Probe
    );
}

proptest! {
    /// Whatever is called and however it ends: an open breaker lets nothing through before its
    /// moment, at most one probe is out, and it opens only for a window that deserves it.
    #[test]
    fn it_keeps_its_promises(calls in prop::collection::vec((0_u64..4_000, 0_u8..3, any::<bool>()), 1..300)) {
        let policy = BreakerPolicy::default();
        let (mut breaker, mut now) = (Breaker::new(), at(0));
        let mut out: Vec<Admission> = Vec::new();
        let mut recent: Vec<(Timestamp, bool)> = Vec::new();
        for (wait, said, answers) in calls {
            now = now.after(MS(wait));
            let before = breaker.state;
            let (admission, _) = breaker.admit(&policy, now);
            match (before, admission) {
                (BreakerState::Open { until }, Admission::Wait(_)) => prop_assert!(now < until),
                (BreakerState::Open { until }, _) => prop_assert!(now >= until),
                (BreakerState::Closed, admission) => prop_assert_eq!(admission, Admission::Go),
                (BreakerState::HalfOpen, admission) => prop_assert_ne!(admission, Admission::Go),
            }
            if !matches!(admission, Admission::Wait(_)) {
                out.push(admission);
            }
            if !answers {
                continue;
            }
            let Some(ended) = out.pop() else { continue };
            let said = [Said::Answered, Said::Nothing, Said::Stopped][usize::from(said)];
            let before = breaker.state;
            let moved = breaker.record(&policy, now, ended, said);
            if before == BreakerState::Closed && said != Said::Stopped {
                recent.push((now, said == Said::Nothing));
            }
            if let (BreakerState::Closed, Some(BreakerState::Open { .. })) = (before, moved) {
                let window = recent.iter().filter(|(at, _)| now.since(*at) <= policy.window);
                let failed = window.clone().filter(|(_, failed)| *failed).count();
                let enough = usize::try_from(policy.calls_min).unwrap();
                prop_assert!(window.count() >= enough && failed * 2 >= enough);
                recent.clear();
            }
            if moved == Some(BreakerState::Closed) {
                prop_assert_eq!((before, said), (BreakerState::HalfOpen, Said::Answered));
                recent.clear();
            }
        }
    }
}
