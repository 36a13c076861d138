//! What comes after the first choice failed: another model, another pool, a person, an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{EffectClass, ErrorKind};
use agent_orch::{Action, Class, Ended, Fallback, Pool, RecoveryTable, Rung, Status};
use serde_json::{Value, json};

use super::saga::{failure, tool, with_recovery};
use crate::common::{Does, Rig, World, answer_all, end, records, staff, submit};

/// Works only with model `b`, or as the agent of pool `seniors`.
fn picky(world: &Arc<World>, knows_b: bool) -> Does {
    let world = Arc::clone(world);
    Does::new(move |cx, _task| {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let model = cx.choice("model").unwrap_or("none").to_owned();
            world.act(cx, "prepare", EffectClass::Idempotent).await?;
            if model == "a" || (model == "b" && !knows_b) {
                let asked =
                    cx.effect::<Value, _, _>("ask", tool(&model, EffectClass::Pure), |_| async {
                        Err(failure(ErrorKind::Unavailable))
                    });
                asked.await?;
            }
            let said = world.act(cx, &model, EffectClass::Pure).await?;
            Ok(Ended::done(json!(said)))
        })
    })
}

async fn fall_back(knows_b: bool) -> (Arc<World>, u64, Vec<Value>) {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let mut fleet = with_recovery(|recovery| {
        let ladder = ["retry:1", "fallback:2", "fail"].map(|rung| rung.parse().unwrap());
        recovery.ladders = RecoveryTable::empty()
            .with(Class::Transient, ladder.to_vec())
            .unwrap();
        recovery.fallback = Fallback::default()
            .with_choice("model", &["a", "b"])
            .with_pool("seniors");
    });
    let seniors = Pool::new("worker", 1, "1.00 USD".parse().unwrap());
    let seniors = seniors.with_verifier("check", None).with_grant("*:*");
    fleet = fleet.with_pool("seniors", seniors);
    let work = picky(&world, knows_b);
    let (stack, handle) = rig.start(fleet, |supervisor| staff(supervisor, work)).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    let fell_back = records(&stack, "task.fell_back").await;
    end(stack, handle).await;
    let fell_back = fell_back.into_iter().filter_map(|record| record.payload);
    let completed = progress.counts.of(Status::Completed);
    (world, completed, fell_back.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_model_comes_the_second_and_finished_steps_stay() {
    let (world, completed, fell_back) = fall_back(true).await;
    assert_eq!(completed, 1);
    assert_eq!(world.asked()["prepare"], 1);
    assert_eq!(world.asked()["b"], 1);
    assert_eq!(fell_back.len(), 1);
    assert_eq!(fell_back[0]["choices"], json!({ "model": "b" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_model_comes_another_pool_in_a_new_round() {
    let (world, completed, fell_back) = fall_back(false).await;
    assert_eq!(completed, 1);
    assert_eq!(world.asked()["prepare"], 2);
    assert_eq!(world.asked()["none"], 1);
    assert_eq!(fell_back.last().unwrap()["pool"], json!("seniors"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_task_goes_on_when_somebody_says_so() {
    let (rig, runs) = (Rig::new(), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&runs);
    let work = Does::new(move |_cx, _task| {
        let n = seen.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match n {
                0 => Err(failure(ErrorKind::Unavailable)),
                _ => Ok(Ended::done(json!(n))),
            }
        })
    });
    let fleet = with_recovery(|recovery| {
        let ladder = ["park:1", "fail"].map(|rung| rung.parse().unwrap());
        recovery.ladders = RecoveryTable::empty()
            .with(Class::Transient, ladder.to_vec())
            .unwrap();
    });
    let (stack, handle) = rig.start(fleet, |supervisor| staff(supervisor, work)).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Parked), 1);
    assert_eq!(handle.open_requests().await.unwrap()[0].default, "retry");
    answer_all(&handle, "retry").await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_that_take_turns_use_up_the_retries_of_a_task() {
    let (rig, runs) = (Rig::new(), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&runs);
    let work = Does::new(move |_cx, _task| {
        let n = seen.fetch_add(1, Ordering::SeqCst);
        let kinds = [
            ErrorKind::Unavailable,
            ErrorKind::TimedOut,
            ErrorKind::Invalid,
        ];
        Box::pin(async move { Err(failure(kinds[usize::try_from(n % 3).unwrap()])) })
    });
    let fleet = with_recovery(|recovery| recovery.retries_max = 4);
    let (stack, handle) = rig.start(fleet, |supervisor| staff(supervisor, work)).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 5);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_makes_the_identical_call_over_and_over_is_stuck() {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let seen = Arc::clone(&world);
    let work = Does::new(move |cx, _task| {
        let world = Arc::clone(&seen);
        Box::pin(async move {
            loop {
                world.act(cx, "again", EffectClass::Idempotent).await?;
            }
        })
    });
    let fleet = with_recovery(|recovery| {
        recovery.identical_calls_max = Some(3);
        let fail = vec![Rung::new(Action::Fail, 1)];
        recovery.ladders = RecoveryTable::empty().with(Class::Stuck, fail).unwrap();
    });
    let (stack, handle) = rig.start(fleet, |supervisor| staff(supervisor, work)).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(world.asked()["again"], 3);
    end(stack, handle).await;
}
