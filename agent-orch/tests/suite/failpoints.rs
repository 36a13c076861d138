//! Faults at named points of the door: what each leaves behind, and that tasks get through.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use crate::common::{Does, Rig, World, end, fleet, records, staff, submit};
use agent_core::EffectClass;
use agent_orch::{Chaos, Ended, FailPoint, Fault, Point, Status};
use parking_lot::Mutex;
use serde_json::json;

fn worker(world: &Arc<World>, class: EffectClass) -> Does {
    let world = Arc::clone(world);
    Does::new(move |cx, _task| {
        let world = Arc::clone(&world);
        Box::pin(async move { Ok(Ended::done(json!(world.act(cx, "a", class).await?))) })
    })
}

/// Runs `n_tasks` under faults and returns the world, how many completed, and the number of steps
/// recorded as done.
async fn run(chaos: Chaos, class: EffectClass, n_tasks: u32) -> (Arc<World>, u64, usize) {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let work = worker(&world, class);
    let (stack, handle) = rig
        .start(fleet(), |supervisor| {
            staff(supervisor, work).with_chaos(chaos)
        })
        .await;
    submit(&handle, n_tasks).await;
    let progress = handle.settled().await.unwrap();
    let done = records(&stack, "effect.done").await.len();
    end(stack, handle).await;
    (world, progress.counts.of(Status::Completed), done)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_gets_past_every_fault_at_every_point_and_acts_under_one_key() {
    for point in Point::ALL {
        for fault in Fault::ALL {
            let rule = FailPoint::new(point, fault).on("tool.").with_hits(0..1);
            let chaos = Chaos::new(0).with_point(rule);
            let (world, completed, done) = run(chaos, EffectClass::Idempotent, 1).await;
            let case = format!("{fault:?} {point:?}");
            assert_eq!((completed, done, world.keys()), (1, 1, 1), "{case}");
            let again = point == Point::AfterEffect && fault != Fault::Slow;
            assert_eq!(world.asked()["a"], if again { 2 } else { 1 }, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_after_the_effect_leaves_an_opaque_step_to_a_person() {
    for fault in [Fault::Error, Fault::Lost, Fault::Crash] {
        let rule = FailPoint::new(Point::AfterEffect, fault).with_hits(0..1);
        let chaos = Chaos::new(0).with_point(rule);
        let (world, completed, _done) = run(chaos, EffectClass::Opaque, 1).await;
        assert_eq!((completed, world.asked()["a"]), (0, 1), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_point_strikes_its_layer_only() {
    let rule = FailPoint::new(Point::AfterEffect, Fault::Lost).on("sandbox.");
    let (world, completed, _done) = run(Chaos::new(0).with_point(rule), EffectClass::Pure, 3).await;
    assert_eq!((completed, world.asked()["a"]), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_sees_every_point_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let chaos = Chaos::new(0).with_hook(move |point, _effect| log.lock().push(point));
    let (_world, completed, _done) = run(chaos, EffectClass::Pure, 1).await;
    assert_eq!(completed, 1);
    assert_eq!(*seen.lock(), Point::ALL);
}
