//! Schedules and the outbox on a real stack.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{Does, Rig, answer_all, end, fleet, records, submit};
use agent_core::{Env, ErrorKind, Failure, ManualClock, Retry, SeededEntropy, Timestamp};
use agent_orch::{
    Deliver, Ended, Message, MessageId, NewMessage, RunHandle, Schedule, Stack, Status, Supervisor,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A receiver that acts once per message id, and fails as often as it is told to.
#[derive(Debug, Default)]
struct Receiver {
    taken: Mutex<Vec<(MessageId, Value)>>,
    n_failures: AtomicU32,
    retry: Option<Retry>,
}

#[derive(Debug, Clone)]
struct To(Arc<Receiver>);

#[async_trait]
impl Deliver for To {
    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        let failing = |n: u32| n.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        if self.0.n_failures.fetch_update(set, fetch, failing).is_ok() {
            let retry = self.0.retry.unwrap_or_else(|| panic!("as told"));
            let kind = ErrorKind::Unavailable;
            return Err(Failure::new(kind, retry, "test.away", "away", "wait"));
        }
        self.0
            .taken
            .lock()
            .push((message.id, message.payload.clone()));
        Ok(())
    }
}

/// Workers that send two messages each, about their task.
fn senders(receiver: &Arc<Receiver>) -> impl FnOnce(Supervisor) -> Supervisor {
    let receiver = To(Arc::clone(receiver));
    move |supervisor| {
        let worker = Does::new(|cx, task| {
            Box::pin(async move {
                for n in 0..2 {
                    let text = json!([task.key, n]);
                    let message = NewMessage::new("mail", text).with_key(task.key.as_str());
                    cx.send("tell", message).await?;
                }
                Ok(Ended::done(Value::Null))
            })
        });
        supervisor
            .with_agent("worker", move || worker.clone())
            .with_agent("checker", Does::accept)
            .with_outbox("mail", receiver)
    }
}

async fn until_delivered(receiver: &Receiver, n: usize) {
    while receiver.taken.lock().len() < n {
        tokio::task::yield_now().await;
    }
}

async fn until_recorded(stack: &Stack, kind: &str, n: usize) {
    while records(stack, kind).await.len() < n {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_delivered_once_and_in_order() {
    let receiver = Arc::new(Receiver {
        n_failures: AtomicU32::new(3),
        retry: Some(Retry::Safe),
        ..Receiver::default()
    });
    let rig = Rig::new();
    let (stack, handle) = rig.start(fleet(), senders(&receiver)).await;
    submit(&handle, 3).await;
    until_delivered(&receiver, 6).await;
    until_recorded(&stack, "message.delivered", 6).await;
    let mut taken: Vec<Value> = receiver
        .taken
        .lock()
        .iter()
        .map(|(_, v)| v.clone())
        .collect();
    // The order within a key is that of the steps; sorting by key alone is stable.
    taken.sort_by_key(|v| v[0].as_str().unwrap().to_owned());
    let expected: Vec<Value> = (0..3)
        .flat_map(|t| (0..2).map(move |n| json!([format!("t{t}"), n])))
        .collect();
    assert_eq!(taken, expected);
    assert_eq!(records(&stack, "message.put_off").await.len(), 3);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_asks_a_person() {
    let receiver = Arc::new(Receiver {
        n_failures: AtomicU32::new(1),
        retry: Some(Retry::Never),
        ..Receiver::default()
    });
    let rig = Rig::new();
    let (stack, handle) = rig.start(fleet(), senders(&receiver)).await;
    submit(&handle, 1).await;
    until_recorded(&stack, "message.dead", 1).await;
    assert_eq!(answer_all(&handle, Message::AGAIN).await, 1);
    until_delivered(&receiver, 2).await;
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_delivery_was_not_recorded_comes_again_under_its_id() {
    // The handler panics after its receiver has acted: nobody recorded the delivery.
    #[derive(Debug)]
    struct Crashes(Arc<Receiver>);
    #[async_trait]
    impl Deliver for Crashes {
        async fn deliver(&self, message: &Message) -> Result<(), Failure> {
            let mut taken = self.0.taken.lock();
            taken.push((message.id, message.payload.clone()));
            assert!(taken.len() > 1, "the first delivery is not recorded");
            Ok(())
        }
    }
    let receiver = Arc::new(Receiver::default());
    let rig = Rig::new();
    let crashes = Crashes(Arc::clone(&receiver));
    let agents = senders(&receiver);
    let (stack, handle) = rig
        .start(fleet(), |s| agents(s).with_outbox("mail", crashes))
        .await;
    submit(&handle, 1).await;
    until_recorded(&stack, "message.delivered", 2).await;
    let ids: Vec<MessageId> = receiver.taken.lock().iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    end(stack, handle).await;
}

fn workers(supervisor: Supervisor) -> Supervisor {
    let worker = Does::new(|_cx, task| {
        let input = task.input.clone();
        Box::pin(async move { Ok(Ended::done(input)) })
    });
    supervisor
        .with_agent("worker", move || worker.clone())
        .with_agent("checker", Does::accept)
}

async fn until_completed(handle: &RunHandle, clock: &ManualClock, n: u64) {
    while handle
        .progress()
        .await
        .unwrap()
        .counts
        .of(Status::Completed)
        < n
    {
        clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_on_time_and_makes_up_for_a_stop() {
    // 2026-11-25T09:05:00Z.
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_795_597_500_000)));
    let entropy = Arc::new(SeededEntropy::new(3));
    let rig = Rig::with_env(Env::new(Arc::<ManualClock>::clone(&clock), entropy));
    let hourly = Schedule::new("0 * * * *".parse().unwrap(), "work", json!("tick"));
    let fleet = || fleet().with_schedule("hourly", hourly.clone());
    let (stack, handle) = rig.start(fleet(), workers).await;
    let daily = Schedule::new("@daily".parse().unwrap(), "work", json!("day"));
    handle.schedule("daily", daily.clone()).await.unwrap();
    let unfit = Schedule::new("@daily".parse().unwrap(), "nowhere", Value::Null);
    assert!(handle.schedule("unfit", unfit).await.is_err());
    clock.advance(Duration::from_secs(55 * 60));
    until_completed(&handle, &clock, 1).await;
    end(stack, handle).await;
    clock.advance(Duration::from_secs(24 * 3_600));
    let (stack, handle) = rig.start(fleet(), workers).await;
    until_completed(&handle, &clock, 3).await;
    let schedules = handle.schedules().await.unwrap();
    let fired: Vec<(&str, u64)> = schedules
        .iter()
        .map(|s| (s.name.as_str(), s.n_fired))
        .collect();
    assert_eq!(
        fired,
        [("daily", 1), ("hourly", 2)],
        "the last missed one each"
    );
    handle.unschedule("daily").await.unwrap();
    assert_eq!(handle.schedules().await.unwrap().len(), 1);
    end(stack, handle).await;
}
