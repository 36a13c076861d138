//! Recovery on a real stack: what comes after the first choice failed, and what is undone.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{Effect, EffectClass, ErrorKind, Failure, Retry};
use agent_orch::{
    Acted, Action, Chaos, Class, Ctx, Ended, Error, FailPoint, Fallback, Fault, Fleet, Point, Pool,
    PoolRecovery, RecoveryTable, Result, Rung, Stack, Status, Step, Supervisor, Target, Undo,
    UndoWhen,
};
use common::{Does, Rig, World, answer_all, end, fleet, records, submit};
use parking_lot::Mutex;
use serde_json::{Value, json};

fn failure(kind: ErrorKind) -> Error {
    Error::Agent(Failure::new(kind, Retry::Safe, "test.failed", "no", "none"))
}

fn tool(what: &str, class: EffectClass) -> Effect {
    Effect::new("tool.call", what, class, json!({ "what": what }))
}

fn refund(what: &str) -> Effect {
    Effect::new(
        "pay.refund",
        what,
        EffectClass::Idempotent,
        json!({ "what": what }),
    )
}

/// Does a step that can be refunded, and notes it.
async fn pay(cx: &Ctx, log: &Arc<Mutex<Vec<String>>>, what: &str) -> Result<String> {
    let (log, name) = (Arc::clone(log), what.to_owned());
    let step = Step::new(what, tool(what, EffectClass::Idempotent)).with_undo(refund(what));
    cx.step(step, |_scope| async move {
        log.lock().push(name.clone());
        Ok(Acted::new(name))
    })
    .await
}

/// Notes what is undone; an undo action that is repeated under its key is noted once.
fn undoing(supervisor: Supervisor, log: &Arc<Mutex<Vec<String>>>, n_failures: u32) -> Supervisor {
    let (log, fails) = (Arc::clone(log), Arc::new(AtomicU32::new(n_failures)));
    supervisor.with_undo("pay.refund", move |_scope, undo: Undo| {
        let (log, fails) = (Arc::clone(&log), Arc::clone(&fails));
        async move {
            if fails.load(Ordering::SeqCst) > 0 {
                fails.fetch_sub(1, Ordering::SeqCst);
                return Err(failure(ErrorKind::Unavailable));
            }
            let result = undo
                .result
                .map_or("?".to_owned(), |result| result.to_string());
            log.lock().push(format!("undo {} {result}", undo.step.name));
            Ok(Acted::new(Value::Null))
        }
    })
}

/// Pays twice, then fails with a bug.
fn buyer(log: &Arc<Mutex<Vec<String>>>) -> Does {
    let log = Arc::clone(log);
    Does::new(move |cx, _task| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            pay(cx, &log, "one").await?;
            pay(cx, &log, "two").await?;
            Err(failure(ErrorKind::Internal))
        })
    })
}

fn with_recovery(edit: impl FnOnce(&mut PoolRecovery)) -> Fleet {
    let mut fleet = fleet();
    let mut recovery = PoolRecovery::default();
    recovery.ladders = fails_at_once();
    edit(&mut recovery);
    fleet.pools.get_mut("work").unwrap().recovery = recovery;
    fleet
}

fn fails_at_once() -> RecoveryTable {
    let fail = vec![Rung::new(Action::Fail, 1)];
    RecoveryTable::empty().with(Class::Bug, fail).unwrap()
}

struct Saga {
    stack: Stack,
    handle: agent_orch::RunHandle,
    log: Arc<Mutex<Vec<String>>>,
}

async fn saga(rig: &Rig, fleet: Fleet, chaos: Chaos, n_failures: u32) -> Saga {
    let log = Arc::new(Mutex::new(Vec::new()));
    let work = buyer(&log);
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            undoing(supervisor, &log, n_failures)
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
                .with_chaos(chaos)
        })
        .await;
    submit(&handle, 1).await;
    Saga { stack, handle, log }
}

const UNDONE: [&str; 4] = ["one", "two", "undo two \"two\"", "undo one \"one\""];

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_undoes_its_steps_the_latest_first() {
    let rig = Rig::new();
    let saga = saga(&rig, with_recovery(|_| {}), Chaos::new(0), 0).await;
    let progress = saga.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(*saga.log.lock(), UNDONE);
    let ended = records(&saga.stack, "task.failed").await;
    let payload = ended[0].payload.as_ref().unwrap();
    assert_eq!(
        (&payload["undone"], &payload["left"]),
        (&json!(2), &json!(0))
    );
    assert!(saga.stack.journal().verify().await.is_ok());
    end(saga.stack, saga.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_table_decides_only_compensate_undoes() {
    let rig = Rig::new();
    let fleet = with_recovery(|recovery| recovery.undo = UndoWhen::ByTable);
    let kept = saga(&rig, fleet, Chaos::new(0), 0).await;
    let progress = kept.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(*kept.log.lock(), ["one", "two"]);
    end(kept.stack, kept.handle).await;

    let rig = Rig::new();
    let fleet = with_recovery(|recovery| {
        recovery.undo = UndoWhen::ByTable;
        let ladder = vec![Rung::new(Action::Compensate, 1)];
        recovery.ladders = RecoveryTable::empty().with(Class::Bug, ladder).unwrap();
    });
    let undone = saga(&rig, fleet, Chaos::new(0), 0).await;
    let progress = undone.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(*undone.log.lock(), UNDONE);
    end(undone.stack, undone.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unwinding_goes_on_after_a_crash_at_any_point_and_undoes_nothing_twice() {
    for point in Point::ALL {
        for hit in 0..2 {
            let rig = Rig::new();
            let crash = FailPoint::new(point, Fault::Crash).on("pay.refund");
            let chaos = Chaos::new(0).with_point(crash.with_hits(hit..hit + 1));
            let saga = saga(&rig, with_recovery(|_| {}), chaos, 0).await;
            let progress = saga.handle.settled().await.unwrap();
            assert_eq!(progress.counts.of(Status::Failed), 1, "{point:?} {hit}");
            let mut log = saga.log.lock().clone();
            // An idempotent effect is asked for again under its key if its answer was lost.
            log.dedup();
            assert_eq!(log, UNDONE, "{point:?} {hit}");
            end(saga.stack, saga.handle).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_goes_on_unwinding() {
    let rig = Rig::new();
    let fleet = || {
        let mut fleet = with_recovery(|_| {});
        fleet.backoff = agent_orch::Backoff::default();
        fleet
    };
    let first = saga(&rig, fleet(), Chaos::new(0), 1).await;
    while records(&first.stack, "effect.failed").await.is_empty() {
        tokio::task::yield_now().await;
    }
    end(first.stack, first.handle).await;
    assert_eq!(*first.log.lock(), ["one", "two"]);
    let second = saga(&rig, fleet(), Chaos::new(0), 0).await;
    let progress = second.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(*second.log.lock(), UNDONE[2..]);
    end(second.stack, second.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_action_that_keeps_failing_goes_to_a_person() {
    let rig = Rig::new();
    let saga = saga(&rig, with_recovery(|_| {}), Chaos::new(0), 7).await;
    let progress = saga.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Parked), 1);
    // Six failures: five retries of class transient, then the person; one more, then it works.
    assert_eq!(answer_all(&saga.handle, "retry").await, 1);
    saga.handle.settled().await.unwrap();
    assert_eq!(answer_all(&saga.handle, "retry").await, 1);
    let progress = saga.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(*saga.log.lock(), UNDONE);
    end(saga.stack, saga.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_give_up_on_undoing() {
    let rig = Rig::new();
    let saga = saga(&rig, with_recovery(|_| {}), Chaos::new(0), u32::MAX).await;
    saga.handle.settled().await.unwrap();
    assert_eq!(answer_all(&saga.handle, "fail").await, 1);
    let progress = saga.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    let ended = records(&saga.stack, "task.failed").await;
    assert_eq!(ended[0].payload.as_ref().unwrap()["undone"], Value::Null);
    end(saga.stack, saga.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_in_doubt_is_undone_if_a_person_says_so() {
    for (choice, expected) in [("undo it", 1), ("leave it", 0)] {
        let (rig, log) = (Rig::new(), Arc::new(Mutex::new(Vec::new())));
        let work = Does::new(|cx, _task| {
            Box::pin(async move {
                let step = Step::new("one", tool("one", EffectClass::Opaque));
                let lost = Failure::new(ErrorKind::Unavailable, Retry::Unknown, "t.lost", "", "");
                let lost = cx
                    .step::<Value, _, _>(step.with_undo(refund("one")), |_scope| async {
                        Err(Error::Agent(lost))
                    })
                    .await;
                assert!(lost.is_err());
                Err(failure(ErrorKind::Internal))
            })
        });
        let (stack, handle) = rig
            .start(with_recovery(|_| {}), |supervisor| {
                undoing(supervisor, &log, 0)
                    .with_agent("worker", move || work.clone())
                    .with_agent("checker", Does::accept)
            })
            .await;
        submit(&handle, 1).await;
        handle.settled().await.unwrap();
        assert_eq!(answer_all(&handle, choice).await, 1);
        let progress = handle.settled().await.unwrap();
        assert_eq!(progress.counts.of(Status::Failed), 1, "{choice}");
        assert_eq!(log.lock().len(), expected, "{choice}");
        end(stack, handle).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_task_undoes_its_steps_too() {
    let (rig, log) = (Rig::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&log);
    let work = Does::new(move |cx, _task| {
        let log = Arc::clone(&seen);
        Box::pin(async move {
            pay(cx, &log, "one").await?;
            Err(failure(ErrorKind::Denied))
        })
    });
    let (stack, handle) = rig
        .start(with_recovery(|_| {}), |supervisor| {
            undoing(supervisor, &log, 0)
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    assert_eq!(answer_all(&handle, "fail").await, 1);
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Rejected), 1);
    assert_eq!(*log.lock(), ["one", "undo one \"one\""]);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_task_undoes_its_steps_too() {
    let (rig, log) = (Rig::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&log);
    let work = Does::new(move |cx, _task| {
        let log = Arc::clone(&seen);
        Box::pin(async move {
            pay(cx, &log, "one").await?;
            let said = cx.ask("go", "Go on?", &["yes", "no"], Value::Null).await?;
            Ok(Ended::done(json!(said)))
        })
    });
    let (stack, handle) = rig
        .start(with_recovery(|_| {}), |supervisor| {
            undoing(supervisor, &log, 0)
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    let task = handle.open_requests().await.unwrap()[0].task;
    handle.cancel(Target::Task(task), "enough").await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Canceled), 1);
    assert_eq!(*log.lock(), ["one", "undo one \"one\""]);
    end(stack, handle).await;
}

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
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
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
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
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
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
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
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || work.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    assert_eq!(world.asked()["again"], 3);
    end(stack, handle).await;
}
