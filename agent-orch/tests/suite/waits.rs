//! Agents that wait on a real stack: for moments, signals and answers.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Attempt, Does, Rig, end, fleet, records, staff, submit};
use agent_core::{
    Env, ErrorKind, Failure, IdempotencyKey, ManualClock, Principal, Retry, SeededEntropy,
    Timestamp,
};
use agent_orch::{Ctx, Ended, RunHandle, Signal, Source, Status, Supervisor, Task, WaitId};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);

fn agents(
    does: impl for<'a> Fn(&'a Ctx, &'a Task) -> Attempt<'a> + Send + Sync + 'static,
) -> impl FnOnce(Supervisor) -> Supervisor {
    let worker = Does::new(does);
    move |supervisor| staff(supervisor, worker)
}

fn signal(n: u32) -> Signal {
    let key = IdempotencyKey::new(format!("k{n}")).unwrap();
    Signal::new("go", json!(n), key)
}

fn human() -> Principal {
    Principal::new("human:test").unwrap()
}

async fn output(handle: &RunHandle, stack: &agent_orch::Stack) -> Value {
    let id = agent_orch::TaskRef::from("t0").id(handle.id());
    stack.journal().task(id).await.unwrap().output.unwrap()
}

/// The ids of the open awakeables, by the name of their step.
async fn awakeable(handle: &RunHandle, name: &str) -> WaitId {
    let waits = handle.open_waits().await.unwrap();
    waits.iter().find(|wait| wait.step.name == name).unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_sleep_is_served_without_a_poll() {
    let rig = Rig::new();
    let (stack, handle) = rig
        .start(
            fleet(),
            agents(|cx, _task| {
                Box::pin(async move {
                    cx.sleep("pause", Duration::from_millis(200)).await?;
                    Ok(Ended::done(Value::Null))
                })
            }),
        )
        .await;
    submit(&handle, 1).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Completed),
        1,
        "a sleeping task is waited for"
    );
    let (began, due) = (
        records(&stack, "wait.began").await,
        records(&stack, "wait.due").await,
    );
    assert_eq!((began.len(), due.len()), (1, 1));
    let slept = due[0].at.since(began[0].at);
    assert!(slept >= Duration::from_millis(200), "{slept:?}");
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_goes_on_in_the_next_process() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
    let entropy = Arc::new(SeededEntropy::new(3));
    let rig = Rig::with_env(Env::new(Arc::<ManualClock>::clone(&clock), entropy));
    let sleeper = || {
        agents(|cx, _task| {
            Box::pin(async move {
                cx.sleep("night", HOUR).await?;
                Ok(Ended::done(json!("awake")))
            })
        })
    };
    let (stack, handle) = rig.start(fleet(), sleeper()).await;
    submit(&handle, 1).await;
    while handle.progress().await.unwrap().counts.of(Status::Parked) == 0 {
        tokio::task::yield_now().await;
    }
    end(stack, handle).await;
    clock.advance(HOUR);
    let (stack, handle) = rig.start(fleet(), sleeper()).await;
    while handle
        .progress()
        .await
        .unwrap()
        .counts
        .of(Status::Completed)
        == 0
    {
        clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    assert_eq!(output(&handle, &stack).await, json!("awake"));
    assert_eq!(records(&stack, "wait.due").await.len(), 1, "it fired once");
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_a_parked_task_in_order() {
    let rig = Rig::new();
    let (stack, handle) = rig
        .start(
            fleet(),
            agents(|cx, _task| {
                Box::pin(async move {
                    let (first, second) = (cx.signal("go").await?, cx.signal("go").await?);
                    let late = cx.signal_until("go", Duration::ZERO).await?;
                    Ok(Ended::done(json!([first, second, late])))
                })
            }),
        )
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    assert!(handle.signal("t0", signal(1)).await.unwrap());
    assert!(
        !handle.signal("t0", signal(1)).await.unwrap(),
        "sent twice is one"
    );
    handle.settled().await.unwrap();
    handle.signal("t0", signal(2)).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(output(&handle, &stack).await, json!([1, 2, null]));
    assert!(
        handle.signal("t0", signal(3)).await.is_err(),
        "it has ended"
    );
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_awakeables_are_answered_in_any_order() {
    let rig = Rig::new();
    let (stack, handle) = rig
        .start(
            fleet(),
            agents(|cx, _task| {
                Box::pin(async move {
                    let one = cx.awakeable("one", HOUR).await?;
                    let two = cx.awakeable("two", HOUR).await?;
                    let (one, two) = tokio::join!(cx.resolved(&one), cx.resolved(&two));
                    let refused = two?.unwrap_err();
                    Ok(Ended::done(json!([one?.unwrap(), refused.code])))
                })
            }),
        )
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    let (one, two) = (
        awakeable(&handle, "one").await,
        awakeable(&handle, "two").await,
    );
    let failure = Failure::new(ErrorKind::Denied, Retry::Never, "test.no", "no", "ask");
    handle.reject(two, failure, human()).await.unwrap();
    handle.settled().await.unwrap();
    handle.resolve(one, json!("yes"), human()).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(output(&handle, &stack).await, json!(["yes", "test.no"]));
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_signal_and_a_deadline_stays_the_first() {
    let rig = Rig::new();
    let (stack, handle) = rig
        .start(
            fleet(),
            agents(|cx, _task| {
                Box::pin(async move {
                    let sources = vec![Source::due(HOUR), Source::signal("go")];
                    let first = cx.first("either", sources).await?.source;
                    let reply = cx.awakeable("reply", Duration::from_millis(1)).await?;
                    let late = cx.resolved(&reply).await?.unwrap_err();
                    Ok(Ended::done(json!([first, late.kind])))
                })
            }),
        )
        .await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    handle.signal("t0", signal(1)).await.unwrap();
    while handle
        .progress()
        .await
        .unwrap()
        .counts
        .of(Status::Completed)
        == 0
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(output(&handle, &stack).await, json!([1, "timed_out"]));
    end(stack, handle).await;
}
