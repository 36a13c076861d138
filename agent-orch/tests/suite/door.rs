//! The door on a real stack: approvals, counted grants, circuit breakers, hedges.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{Does, Rig, World, answer_all, end, fleet, records, staff, submit};
use agent_core::{Classify, Effect, EffectClass, ErrorKind, Failure, Gate, Retry, Scope, Verdict};
use agent_orch::{
    Acted, Action, BreakerPolicy, Class, Ended, Error, Fleet, NewTask, Rung, Status, Step,
};
use async_trait::async_trait;
use serde_json::{Value, json};

/// Asks about every effect of one action.
#[derive(Debug)]
struct Asks(&'static str);

#[async_trait]
impl Gate for Asks {
    async fn check(&self, _scope: &Scope, effect: &Effect) -> agent_core::Result<Verdict> {
        Ok(match effect.action == self.0 {
            true => Verdict::ask("test.ask", "Is it all right?"),
            false => Verdict::Allow,
        })
    }
}

/// A failure of the other side.
fn away() -> Error {
    let failure = Failure::new(
        ErrorKind::Unavailable,
        Retry::Safe,
        "t.away",
        "away",
        "wait",
    );
    Error::Agent(failure)
}

fn one_worker() -> Fleet {
    let mut fleet = fleet();
    fleet.pools.get_mut("work").unwrap().size = 1;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_covers_one_step_and_its_tries_and_no_identical_effect() {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let (seen, runs) = (Arc::clone(&world), Arc::new(AtomicU32::new(0)));
    let tries = Arc::clone(&runs);
    let work = Does::new(move |cx, _task| {
        let (world, tries) = (Arc::clone(&seen), Arc::clone(&tries));
        Box::pin(async move {
            for name in ["first", "second"] {
                let effect = Effect::new("tool.call", "pay", EffectClass::Opaque, json!({}));
                let (world, tries) = (Arc::clone(&world), Arc::clone(&tries));
                let _paid: Value = cx
                    .effect(name, effect, |scope| async move {
                        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                            return Err(away());
                        }
                        let key = scope.idempotency_key.unwrap().as_str().to_owned();
                        world.calls.lock().push((name.to_owned(), key));
                        Ok(Acted::new(Value::Null))
                    })
                    .await?;
            }
            Ok(Ended::done(json!("paid twice")))
        })
    });
    let (stack, handle) = rig
        .start(fleet(), |s| {
            staff(s, work).with_policy(Arc::new(Asks("tool.call")))
        })
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    assert_eq!(answer_all(&handle, "approve").await, 1);
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Parked),
        1,
        "it asks for the second"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 2, "the first was tried again");
    assert_eq!(world.asked().get("second"), None);
    assert_eq!(answer_all(&handle, "approve").await, 1);
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(records(&stack, "request.asked").await.len(), 2);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_denies_does_not_happen() {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let seen = Arc::clone(&world);
    let work = Does::new(move |cx, _task| {
        let world = Arc::clone(&seen);
        Box::pin(async move {
            Ok(Ended::done(json!(
                world.act(cx, "a", EffectClass::Pure).await?
            )))
        })
    });
    let (stack, handle) = rig
        .start(fleet(), |s| {
            staff(s, work).with_policy(Arc::new(Asks("tool.call")))
        })
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    answer_all(&handle, "deny").await;
    handle.settled().await.unwrap();
    assert_eq!(world.asked().get("a"), None);
    end(stack, handle).await;
}

/// Makes as many calls as its input says.
fn caller(world: &Arc<World>) -> Does {
    let world = Arc::clone(world);
    Does::new(move |cx, task| {
        let world = Arc::clone(&world);
        let n_calls = task.input.as_u64().unwrap();
        Box::pin(async move {
            for n in 0..n_calls {
                world
                    .act(cx, &format!("call {n}"), EffectClass::Pure)
                    .await?;
            }
            Ok(Ended::done(json!(n_calls)))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_within_a_grant_are_counted_over_agents_and_restarts() {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let limited = || {
        let mut fleet = fleet();
        fleet.pools.get_mut("work").unwrap().grants = vec!["tool.call:*; calls 5".to_owned()];
        fleet
    };
    let task = |key: &str, n_calls: u32| vec![NewTask::new(key, "work", json!(n_calls))];
    let work = caller(&world);
    let (stack, handle) = rig.start(limited(), |s| staff(s, work)).await;
    handle.submit(task("a", 2)).await.unwrap();
    handle.submit(task("b", 2)).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 2);
    end(stack, handle).await;
    let work = caller(&world);
    let (stack, handle) = rig.start(limited(), |s| staff(s, work)).await;
    handle.submit(task("c", 2)).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Parked),
        1,
        "the sixth call is not permitted"
    );
    assert_eq!(world.calls.lock().len(), 5);
    let parked = records(&stack, "task.parked").await;
    let failure = &parked[0].payload.as_ref().unwrap()["failure"];
    assert_eq!(failure["kind"], json!("denied"));
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_tried_again_counts_once_within_its_grant() {
    let (rig, runs) = (Rig::new(), Arc::new(AtomicU32::new(0)));
    let mut fleet = fleet();
    fleet.pools.get_mut("work").unwrap().grants = vec!["tool.call:*; calls 1".to_owned()];
    let tries = Arc::clone(&runs);
    let work = Does::new(move |cx, _task| {
        let tries = Arc::clone(&tries);
        Box::pin(async move {
            let effect = Effect::new("tool.call", "a", EffectClass::Idempotent, json!({}));
            let n: u32 = cx
                .effect("a", effect, |_scope| async move {
                    match tries.fetch_add(1, Ordering::SeqCst) {
                        0 | 1 => Err(away()),
                        n => Ok(Acted::new(n)),
                    }
                })
                .await?;
            Ok(Ended::done(json!(n)))
        })
    });
    let (stack, handle) = rig.start(fleet, |s| staff(s, work)).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    end(stack, handle).await;
}

/// Fails its first calls.
fn failing(n_failures: u32, calls: &Arc<AtomicU32>) -> Does {
    let calls = Arc::clone(calls);
    Does::new(move |cx, _task| {
        let calls = Arc::clone(&calls);
        Box::pin(async move {
            let effect = Effect::new("tool.call", "a", EffectClass::Idempotent, json!({}));
            let n: u32 = cx
                .effect("a", effect, |_scope| async move {
                    let n = calls.fetch_add(1, Ordering::SeqCst);
                    if n < n_failures {
                        Err(away())
                    } else {
                        Ok(Acted::new(n))
                    }
                })
                .await?;
            Ok(Ended::done(json!(n)))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_keeps_agents_from_asking() {
    let (rig, calls) = (Rig::new(), Arc::new(AtomicU32::new(0)));
    let mut fleet = one_worker();
    let hour = Duration::from_secs(3_600);
    fleet.breaker = BreakerPolicy::default().with_open(hour, hour);
    let work = failing(u32::MAX, &calls);
    let (stack, handle) = rig.start(fleet, |s| staff(s, work)).await;
    submit(&handle, 12).await;
    let is_rejected = async || {
        let failed = records(&stack, "effect.failed").await;
        failed
            .iter()
            .any(|record| record.code == "orch.breaker_open")
    };
    while !is_rejected().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 10);
    let tripped = handle.progress().await.unwrap().breakers;
    assert_eq!(tripped.keys().collect::<Vec<_>>(), ["default/tool.call/a"]);
    assert_eq!(records(&stack, "breaker.opened").await.len(), 1);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_closes_when_the_other_side_is_back() {
    let (rig, calls) = (Rig::new(), Arc::new(AtomicU32::new(0)));
    let mut fleet = one_worker();
    let short = Duration::from_millis(2);
    fleet.breaker = BreakerPolicy::default().with_open(short, short);
    // The oldest task may meet all the failures.
    let patient = vec![Rung::new(Action::Retry, 50), Rung::new(Action::Fail, 1)];
    for class in [Class::Transient, Class::RateLimited] {
        fleet.recovery = fleet.recovery.with(class, patient.clone()).unwrap();
    }
    fleet.pools.get_mut("work").unwrap().recovery.retries_max = 100;
    let work = failing(11, &calls);
    let (stack, handle) = rig.start(fleet, |s| staff(s, work)).await;
    submit(&handle, 12).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 12, "{progress:?}");
    assert!(progress.breakers.is_empty());
    // Ten failures open it, the first probe opens it again, the second closes it.
    assert_eq!(records(&stack, "breaker.opened").await.len(), 2);
    assert_eq!(records(&stack, "breaker.half_opened").await.len(), 2);
    assert_eq!(records(&stack, "breaker.closed").await.len(), 1);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_is_waited_for_by_the_recovery_of_every_fleet() {
    let (rig, calls) = (Rig::new(), Arc::new(AtomicU32::new(0)));
    let mut fleet = one_worker();
    let short = Duration::from_millis(200);
    fleet.breaker = BreakerPolicy::default().with_open(short, short);
    // The ten failures that open it are retried by the default table.
    let work = failing(10, &calls);
    let (stack, handle) = rig.start(fleet, |s| staff(s, work)).await;
    submit(&handle, 12).await;
    let progress = handle.settled().await.unwrap();
    let refused = records(&stack, "effect.failed").await;
    let refused = refused.iter().filter(|r| r.code == "orch.breaker_open");
    assert!(refused.count() > 0, "nobody met it open");
    assert_eq!(progress.counts.of(Status::Completed), 12, "{progress:?}");
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_pure_effect_is_hedged() {
    let rig = Rig::new();
    let work = Does::new(|cx, _task| {
        Box::pin(async move {
            let effect = |class| Effect::new("tool.call", "a", class, json!({}));
            let act = |_scope: Scope| async { Ok(Acted::new(7_u32)) };
            for class in [
                EffectClass::Idempotent,
                EffectClass::Probeable,
                EffectClass::Opaque,
            ] {
                let step = Step::new("a", effect(class));
                let refused = cx.hedged(step, Duration::ZERO, act).await;
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
            }
            let step = Step::new("a", effect(EffectClass::Pure));
            let n: u32 = cx.hedged(step, Duration::from_secs(60), act).await?;
            Ok(Ended::done(json!(n)))
        })
    });
    let (stack, handle) = rig.start(fleet(), |s| staff(s, work)).await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    end(stack, handle).await;
}
