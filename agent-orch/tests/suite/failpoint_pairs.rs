//! Every pair of fail points crossed with every class of effect: what the world has afterwards.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{Does, Rig, World, answer_all, end, fleet, staff, submit};
use agent_core::{Effect, EffectClass, Env, ManualClock, OsEntropy, Timestamp};
use agent_orch::{Acted, Chaos, ClaimRequest, Ctx, Ended, FailPoint, Fault, Point, Result, Status};
use serde_json::json;

/// One effect against a world that recognizes nothing: it notes every call it gets.
async fn act(world: &Arc<World>, cx: &Ctx, class: EffectClass) -> Result<String> {
    let effect = Effect::new("tool.call", "a", class, json!({}));
    let (asked, told) = (Arc::clone(world), Arc::clone(world));
    let probe = |scope: agent_core::Scope| async move {
        let key = scope.idempotency_key.unwrap();
        let calls = asked.calls.lock();
        let happened = calls.iter().any(|(_, known)| known == key.as_str());
        Ok(happened.then(|| "a".to_owned()))
    };
    let act = |scope: agent_core::Scope| async move {
        let key = scope.idempotency_key.unwrap().as_str().to_owned();
        told.calls.lock().push(("a".to_owned(), key));
        Ok(Acted::new("a".to_owned()))
    };
    match class {
        EffectClass::Opaque => Ok(cx
            .effect("a", effect, |scope| async {
                let acted = act(scope).await?;
                Ok(Acted::new(Some(acted.value)))
            })
            .await?
            .unwrap_or_default()),
        _ => cx.probed("a", effect, probe, act).await,
    }
}

/// Runs one task that meets a fault at one point, then one at another, and returns the world. A
/// person who is asked looks at the world.
async fn cross(class: EffectClass, first: (Point, Fault), second: (Point, Fault)) -> Arc<World> {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let hits = if first.0 == second.0 { 1..2 } else { 0..1 };
    let chaos = Chaos::new(0)
        .with_point(FailPoint::new(first.0, first.1).with_hits(0..1))
        .with_point(FailPoint::new(second.0, second.1).with_hits(hits));
    let seen = Arc::clone(&world);
    let work = Does::new(move |cx, _task| {
        let world = Arc::clone(&seen);
        Box::pin(async move { Ok(Ended::done(json!(act(&world, cx, class).await?))) })
    });
    let (stack, handle) = rig
        .start(fleet(), |supervisor| {
            staff(supervisor, work).with_chaos(chaos)
        })
        .await;
    submit(&handle, 1).await;
    let progress = loop {
        let progress = handle.settled().await.unwrap();
        let happened = !world.calls.lock().is_empty();
        let choice = if happened { "it happened" } else { "repeat it" };
        if answer_all(&handle, choice).await == 0 {
            break progress;
        }
    };
    let case = format!("{class:?} {first:?} {second:?}");
    assert_eq!(progress.counts.of(Status::Completed), 1, "{case}");
    end(stack, handle).await;
    world
}

async fn cross_all(class: EffectClass, calls_max: usize) {
    for first in Point::ALL {
        for second in Point::ALL {
            for fault in [Fault::Crash, Fault::Lost] {
                let case = format!("{class:?}: a crash {first:?}, then {fault:?} {second:?}");
                let world = cross(class, (first, Fault::Crash), (second, fault)).await;
                let n_calls = world.calls.lock().len();
                assert!(
                    (1..=calls_max).contains(&n_calls),
                    "{n_calls} calls, {case}"
                );
                assert_eq!(world.keys(), 1, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pure_effect_is_repeated_under_one_key() {
    cross_all(EffectClass::Pure, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_effect_is_repeated_under_one_key() {
    cross_all(EffectClass::Idempotent, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probeable_effect_happens_once() {
    cross_all(EffectClass::Probeable, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_effect_happens_once() {
    cross_all(EffectClass::Opaque, 1).await;
}

/// A process that is stopped between intent and effect wakes up after its lease: another worker has
/// the task by then.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_sleeps_past_its_lease_does_not_act() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
    let env = Env::new(
        Arc::<ManualClock>::clone(&clock),
        Arc::new(OsEntropy::new()),
    );
    let (rig, world) = (Rig::with_env(env), Arc::new(World::default()));
    let n_seen = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&n_seen);
    let chaos = Chaos::new(0).with_hook(move |point, _effect| {
        if point == Point::AfterIntent && seen.fetch_add(1, Ordering::SeqCst) == 0 {
            clock.advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
        }
    });
    let told = Arc::clone(&world);
    let work = Does::new(move |cx, _task| {
        let world = Arc::clone(&told);
        let act = async move { act(&world, cx, EffectClass::Probeable).await };
        Box::pin(async move { Ok(Ended::done(json!(act.await?))) })
    });
    let (stack, handle) = rig
        .start(fleet(), |supervisor| {
            staff(supervisor, work).with_chaos(chaos)
        })
        .await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(n_seen.load(Ordering::SeqCst), 2, "the next holder acts");
    assert_eq!(world.calls.lock().len(), 1, "and only that one");
    end(stack, handle).await;
}
