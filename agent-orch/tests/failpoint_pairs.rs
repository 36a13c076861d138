//! Every pair of fail points crossed with every class of effect: what the world has afterwards.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use agent_core::{Effect, EffectClass};
use agent_orch::{Acted, Chaos, Ctx, Ended, FailPoint, Fault, Point, Result, Status};
use common::{Does, Rig, World, answer_all, end, fleet, submit};
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
            supervisor
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
                .with_chaos(chaos)
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
