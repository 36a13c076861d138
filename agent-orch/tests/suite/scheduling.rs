//! Scheduling of running agents: idle ones sleep until there is work for them, urgent work takes
//! agents from other work between two steps, and limits hold at the door.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{Does, Rig, World, end, fleet, records, staff, submit};
use agent_core::{
    EffectClass, Env, ErrorKind, Failure, ManualClock, Retry, SeededEntropy, Timestamp,
};
use agent_orch::{
    Acted, Backoff, Ended, Error, Fleet, Limit, NewTask, Rate, RunHandle, Scheduling, Status,
    Supervisor,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A clock that moves by hand, and the environment around it.
fn by_hand() -> (Arc<ManualClock>, Env) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
    let env = Env::new(
        Arc::<ManualClock>::clone(&clock),
        Arc::new(SeededEntropy::new(7)),
    );
    (clock, env)
}

fn pool_of(n: u32) -> Fleet {
    let mut fleet = fleet();
    fleet.pools.get_mut("work").unwrap().size = n;
    fleet
}

/// A worker that does one thing.
fn acts(world: &Arc<World>, what: &'static str, class: EffectClass) -> Does {
    let world = Arc::clone(world);
    Does::new(move |cx, _task| {
        let world = Arc::clone(&world);
        Box::pin(async move { Ok(Ended::done(json!(world.act(cx, what, class).await?))) })
    })
}

/// Lets everything run that can, without time passing: as many round trips through the store as
/// agents could need.
async fn settle_down(handle: &RunHandle) {
    for _ in 0..300 {
        handle.progress().await.unwrap();
    }
}

/// Waits until `n` tasks have a status; gives up after more round trips than that can need.
async fn reached(handle: &RunHandle, status: Status, n: u64) -> bool {
    for _ in 0..20_000 {
        if handle.progress().await.unwrap().counts.of(status) == n {
            return true;
        }
    }
    false
}

fn away() -> Error {
    let away = Failure::new(
        ErrorKind::Unavailable,
        Retry::Safe,
        "test.away",
        "away",
        "wait",
    );
    Error::Agent(away)
}

/// The clock stands still, so whatever ends was announced: nothing here polls.
#[tokio::test(flavor = "multi_thread")]
async fn work_is_announced_and_not_looked_for() {
    let (_clock, env) = by_hand();
    let (rig, world) = (Rig::with_env(env), Arc::new(World::default()));
    let work = acts(&world, "a", EffectClass::Pure);
    let (stack, handle) = rig
        .start(pool_of(50), |supervisor| staff(supervisor, work))
        .await;
    for round in 0..20 {
        let tasks = (0..2).map(|n| NewTask::new(format!("{round}/{n}"), "work", Value::Null));
        handle.submit(tasks.collect()).await.unwrap();
        let progress = handle.settled().await.unwrap();
        assert_eq!(progress.counts.of(Status::Completed), 2 * (round + 1));
    }
    end(stack, handle).await;
}

/// A verifier that is the author passes the wake-up on to one that is not: the author sleeps
/// longest when the verification is due again, so it is the one that is woken.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_verifies_itself_loses_no_wake_up() {
    let (clock, env) = by_hand();
    let (rig, n_verified) = (Rig::with_env(env), Arc::new(AtomicU32::new(0)));
    let mut fleet = pool_of(2);
    fleet.pools.get_mut("work").unwrap().verifier = Some("work".to_owned());
    let wait = Duration::from_millis(50);
    fleet.backoff = Backoff::new(wait, wait);
    let both = Does::new(move |_cx, task| {
        let ended = match task.author {
            None => Ok(Ended::done(Value::Null)),
            Some(_) if n_verified.fetch_add(1, Ordering::SeqCst) == 0 => Err(away()),
            Some(_) => Ok(Ended::accepted(Value::Null)),
        };
        Box::pin(async { ended })
    });
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || both.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    settle_down(&handle).await;
    submit(&handle, 1).await;
    assert!(reached(&handle, Status::Delayed, 1).await);
    settle_down(&handle).await;
    clock.advance(2 * wait);
    assert!(reached(&handle, Status::Completed, 1).await);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_served_at_its_moment() {
    let (clock, env) = by_hand();
    let (rig, runs) = (Rig::with_env(env), Arc::new(AtomicU32::new(0)));
    let mut fleet = pool_of(1);
    let wait = Duration::from_millis(50);
    fleet.backoff = Backoff::new(wait, wait);
    let n_runs = Arc::clone(&runs);
    let worker = Does::new(move |_cx, _task| {
        let n = n_runs.fetch_add(1, Ordering::SeqCst);
        let ended = if n == 0 {
            Err(away())
        } else {
            Ok(Ended::done(Value::Null))
        };
        Box::pin(async { ended })
    });
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || worker.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    settle_down(&handle).await;
    submit(&handle, 1).await;
    assert!(reached(&handle, Status::Delayed, 1).await);
    settle_down(&handle).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1, "not before its moment");
    // The jitter adds up to as much again.
    clock.advance(2 * wait);
    assert!(
        reached(&handle, Status::Completed, 1).await,
        "at its moment"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_work_takes_an_agent_between_two_steps_and_nothing_is_repeated() {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let begun = Arc::new(Notify::new());
    let worker = {
        let (world, begun) = (Arc::clone(&world), Arc::clone(&begun));
        Does::new(move |cx, task| {
            let (world, begun) = (Arc::clone(&world), Arc::clone(&begun));
            let key = task.key.clone();
            Box::pin(async move {
                world.act(cx, &key, EffectClass::Opaque).await?;
                begun.notify_one();
                // Without the urgent task it goes on for ever.
                while !world.asked().contains_key("urgent") {
                    world.act(cx, "tick", EffectClass::Opaque).await?;
                }
                Ok(Ended::done(Value::Null))
            })
        })
    };
    let mut fleet = pool_of(1);
    fleet.pools.get_mut("work").unwrap().steps_max = u32::MAX;
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            supervisor
                .with_agent("worker", move || worker.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    let task = |key: &str, priority| NewTask::new(key, "work", Value::Null).with_priority(priority);
    handle.submit(vec![task("patient", 2)]).await.unwrap();
    begun.notified().await;
    handle.submit(vec![task("urgent", 0)]).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 2);
    assert_eq!(world.asked()["patient"], 1, "its step is kept");
    assert_eq!(
        world.keys(),
        world.calls.lock().len(),
        "nothing is repeated"
    );
    let preempted = records(&stack, "task.preempted").await;
    assert_eq!(preempted.len(), 1);
    let failures = records(&stack, "task.retried").await;
    assert!(failures.is_empty(), "giving way is no failure");
    end(stack, handle).await;
}

/// Runs `n_tasks` in each of two runs, each task with one effect on `tool:search` that counts how
/// many are under way.
async fn crowd(limit: Limit, n_tasks: u32) -> (u32, u64) {
    let rig = Rig::new();
    let (under_way, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = {
        let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
        Does::new(move |cx, _task| {
            let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
            Box::pin(async move {
                let effect =
                    agent_core::Effect::new("tool.call", "search", EffectClass::Pure, Value::Null);
                cx.effect("search", effect, |_scope| async move {
                    let n = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(n, Ordering::SeqCst);
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    Ok(Acted::new(Value::Null))
                })
                .await?;
                Ok(Ended::done(Value::Null))
            })
        })
    };
    let scheduling = Scheduling::default().with_limit("tool:search", limit);
    let fleet = pool_of(8).with_scheduling(scheduling);
    let mut other = fleet.clone();
    other.name = "other".to_owned();
    let equip = |supervisor: Supervisor| {
        let worker = worker.clone();
        supervisor
            .with_agent("worker", move || worker.clone())
            .with_agent("checker", Does::accept)
    };
    let (stack, handle) = rig.start(fleet, equip).await;
    let run = stack.open_run(&other, "other", Value::Null).await.unwrap();
    let supervisor = equip(Supervisor::new(stack.clone(), other));
    let second = supervisor.start(run).await.unwrap();
    submit(&handle, n_tasks).await;
    submit(&second, n_tasks).await;
    let mut completed = 0;
    for handle in [&handle, &second] {
        let progress = handle.settled().await.unwrap();
        completed += progress.counts.of(Status::Completed);
    }
    second.stop().await;
    end(stack, handle).await;
    (most.load(Ordering::SeqCst), completed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_effects_are_under_way_than_the_limit_allows() {
    let (most, completed) = crowd(Limit::new().with_concurrency(2), 40).await;
    assert_eq!(completed, 80);
    assert!(most <= 2, "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_waits_for_its_token_and_keeps_its_place() {
    let (clock, env) = by_hand();
    let (rig, world) = (Rig::with_env(env), Arc::new(World::default()));
    let worker = acts(&world, "search", EffectClass::Opaque);
    let rate = Rate::new(1, Duration::from_secs(1)).with_burst(2);
    let limit = Limit::new().with_rate(rate);
    let scheduling = Scheduling::default().with_limit("tool:search", limit);
    let (stack, handle) = rig
        .start(pool_of(8).with_scheduling(scheduling), |supervisor| {
            supervisor
                .with_agent("worker", move || worker.clone())
                .with_agent("checker", Does::accept)
        })
        .await;
    submit(&handle, 5).await;
    for n in 2..=5 {
        assert!(reached(&handle, Status::Completed, n).await, "{n} tokens");
        settle_down(&handle).await;
        let asked = u64::try_from(world.calls.lock().len()).unwrap();
        assert_eq!(asked, n, "a burst of two, then one a second");
        clock.advance(Duration::from_millis(1_001));
    }
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 5);
    end(stack, handle).await;
}

#[test]
fn limits_and_weights_are_read_from_a_manifest() {
    let text = r#"
        [fleet]
        name = "f"
        budget = "1.00 USD"
        [pool.work]
        agent = "worker"
        size = 1
        budget = "1.00 USD"
        [scheduling]
        age = "5m"
        preempt_from = 1
        [tenant.acme]
        weight = 3
        [limit."tool:search"]
        concurrency = 4
        rate = "10/s"
        burst = 20
    "#;
    let fleet = Fleet::from_toml(text).unwrap();
    let scheduling = &fleet.scheduling;
    assert_eq!(scheduling.age, Duration::from_secs(300));
    assert_eq!(scheduling.preemption.victim(1), Some(3));
    assert_eq!(scheduling.preemption.victim(2), None);
    assert_eq!(scheduling.weights["acme"], 3);
    let rate = Rate::new(10, Duration::from_secs(1)).with_burst(20);
    let limit = Limit::new().with_concurrency(4).with_rate(rate);
    assert_eq!(scheduling.limits["tool:search"], limit);

    let wrong = text.replace("10/s", "10 per second");
    let error = Fleet::from_toml(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("limit.tool:search.rate") && error.contains("10/s"),
        "{error}"
    );
    let wrong = text.replace("weight = 3", "weight = 0");
    let error = Fleet::from_toml(&wrong).unwrap_err().to_string();
    assert!(error.contains("tenant.acme.weight"), "{error}");
}
