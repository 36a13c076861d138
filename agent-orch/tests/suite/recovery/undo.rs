//! What a task did is undone, the latest first, once, whatever happens meanwhile.

use std::sync::Arc;

use agent_core::{EffectClass, ErrorKind, Failure, Retry};
use agent_orch::{
    Action, Chaos, Class, Ended, Error, FailPoint, Fault, Point, RecoveryTable, Rung, Status, Step,
    Target, UndoWhen,
};
use serde_json::{Value, json};

use super::saga::{failure, pay, refund, saga, saga_of, tool, with_recovery};
use crate::common::{Does, Rig, answer_all, end, records};

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
        let rig = Rig::new();
        let saga = saga_of(&rig, |_log| {
            Does::new(|cx, _task| {
                Box::pin(async move {
                    let step = Step::new("one", tool("one", EffectClass::Opaque));
                    let lost =
                        Failure::new(ErrorKind::Unavailable, Retry::Unknown, "t.lost", "", "");
                    let lost = cx
                        .step::<Value, _, _>(step.with_undo(refund("one")), |_scope| async {
                            Err(Error::Agent(lost))
                        })
                        .await;
                    assert!(lost.is_err());
                    Err(failure(ErrorKind::Internal))
                })
            })
        })
        .await;
        saga.handle.settled().await.unwrap();
        assert_eq!(answer_all(&saga.handle, choice).await, 1);
        let progress = saga.handle.settled().await.unwrap();
        assert_eq!(progress.counts.of(Status::Failed), 1, "{choice}");
        assert_eq!(saga.log.lock().len(), expected, "{choice}");
        end(saga.stack, saga.handle).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_task_undoes_its_steps_too() {
    let rig = Rig::new();
    let saga = saga_of(&rig, |log| {
        Does::new(move |cx, _task| {
            let log = Arc::clone(&log);
            Box::pin(async move {
                pay(cx, &log, "one").await?;
                Err(failure(ErrorKind::Denied))
            })
        })
    })
    .await;
    saga.handle.settled().await.unwrap();
    assert_eq!(answer_all(&saga.handle, "fail").await, 1);
    let progress = saga.handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Rejected), 1);
    assert_eq!(*saga.log.lock(), ["one", "undo one \"one\""]);
    end(saga.stack, saga.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_task_undoes_its_steps_too() {
    let rig = Rig::new();
    let saga = saga_of(&rig, |log| {
        Does::new(move |cx, _task| {
            let log = Arc::clone(&log);
            Box::pin(async move {
                pay(cx, &log, "one").await?;
                let said = cx.ask("go", "Go on?", &["yes", "no"], Value::Null).await?;
                Ok(Ended::done(json!(said)))
            })
        })
    })
    .await;
    saga.handle.settled().await.unwrap();
    let task = saga.handle.open_requests().await.unwrap()[0].task;
    let handle = &saga.handle;
    handle.cancel(Target::Task(task), "enough").await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Canceled), 1);
    assert_eq!(*saga.log.lock(), ["one", "undo one \"one\""]);
    end(saga.stack, saga.handle).await;
}
