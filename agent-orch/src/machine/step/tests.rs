//! What is decided about every class of step in every state.

use agent_core::Effect;
use serde_json::json;

use super::*;

const CLASSES: [EffectClass; 4] = [
    EffectClass::Pure,
    EffectClass::Idempotent,
    EffectClass::Probeable,
    EffectClass::Opaque,
];

#[test]
fn only_what_can_be_repeated_is_repeated() {
    let digest = Digest::of_bytes(b"effect");
    for state in [StepState::Intended, StepState::Unknown] {
        let known = KnownStep::new(digest, state, 3);
        for class in CLASSES {
            let decision = decide_intent(Some(&known), &digest, class);
            let is_repeated = matches!(decision, IntentDecision::Go { n_try: 3, .. });
            let may = matches!(class, EffectClass::Pure | EffectClass::Idempotent);
            assert_eq!(is_repeated, may, "{state:?} {class:?}");
        }
    }
}

#[test]
fn another_effect_drifts_unless_the_step_failed() {
    let (digest, other) = (Digest::of_bytes(b"effect"), Digest::of_bytes(b"other"));
    for state in ["intended", "done", "failed", "unknown"] {
        let known = KnownStep::new(digest, StepState::of_name(state).unwrap(), 1);
        for class in CLASSES {
            let decision = decide_intent(Some(&known), &other, class);
            let goes = matches!(decision, IntentDecision::Go { n_try: 2, .. });
            assert_eq!(goes, state == "failed", "{state}");
            assert_eq!(
                decision == IntentDecision::Drift,
                state != "failed",
                "{state}"
            );
        }
    }
}

#[test]
fn a_failed_repeat_says_nothing_about_the_try_before() {
    let digest = Digest::of_bytes(b"effect");
    let failure = Failure::new(agent_core::ErrorKind::Unavailable, Retry::Safe, "", "", "");
    let failed = Err(failure);
    for (state, class, after) in [
        (
            StepState::Unknown,
            EffectClass::Idempotent,
            StepState::Unknown,
        ),
        (
            StepState::Intended,
            EffectClass::Idempotent,
            StepState::Failed,
        ),
        // Here somebody found out that it did not happen.
        (
            StepState::Unknown,
            EffectClass::Probeable,
            StepState::Failed,
        ),
        (StepState::Unknown, EffectClass::Opaque, StepState::Failed),
        (StepState::Unknown, EffectClass::Pure, StepState::Failed),
    ] {
        let known = KnownStep::new(digest, state, 1);
        assert_eq!(state_after(Some(&known), class, &failed), after);
        let done = state_after(Some(&known), class, &Ok(json!(1)));
        assert_eq!(done, StepState::Done);
    }
}

#[test]
fn an_outcome_needs_an_open_try() {
    let effect = Effect::new("a.b", "t", EffectClass::Pure, json!({}));
    let digest = effect.digest().unwrap();
    let key = IdempotencyKey::new("k").unwrap();
    let mut pass = Pass::new(StepKey::new("s", 0), key, effect, digest);
    assert!(matches!(
        decide_outcome(None, &pass),
        OutcomeDecision::Record { .. }
    ));
    let done = KnownStep::new(digest, StepState::Done, 1);
    assert_eq!(decide_outcome(Some(&done), &pass), OutcomeDecision::NoTry);
    let failed = KnownStep::new(digest, StepState::Failed, 1);
    assert_eq!(decide_outcome(Some(&failed), &pass), OutcomeDecision::NoTry);
    let other = KnownStep::new(Digest::of_bytes(b"other"), StepState::Intended, 1);
    assert_eq!(decide_outcome(Some(&other), &pass), OutcomeDecision::NoTry);
    pass.n_try = 2;
    assert!(matches!(
        decide_outcome(Some(&failed), &pass),
        OutcomeDecision::Record { is_held: false }
    ));
    pass.intent = Some(7);
    assert_eq!(decide_outcome(None, &pass), OutcomeDecision::NoTry);
}
