//! Delegation trees on a real stack: children, pausing, canceling down to a guest, forks.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Does, Rig, World, answer_all, end, fleet, records};
use agent_core::{
    Effect, EffectClass, Env, ErrorKind, Failure, ManualClock, Retry, SeededEntropy, Timestamp,
};
use agent_orch::{
    Acted, Ended, Fleet, Limits, NewTask, Pool, RunHandle, Stack, Status, Supervisor, Target,
};
use agent_sandbox::conformance::probe;
use agent_sandbox::{Exec, Exit, Spec};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

/// The fleet of the tests with two more pools below.
fn three_levels() -> Fleet {
    let budget = "1.00 USD".parse().unwrap();
    let pool = |agent: &str| Pool::new(agent, 2, budget).with_verifier("check", None);
    fleet()
        .with_pool("middle", pool("middle").with_grant("*:*"))
        .with_pool("leaf", pool("leaf").with_grant("*:*"))
}

/// Delegates one task to a pool and hands on what it made.
fn delegates(to: &'static str) -> Does {
    Does::new(move |cx, _task| {
        Box::pin(async move {
            let child = cx.spawn(NewTask::new("below", to, json!("do it"))).await?;
            let made = cx.join(child).await?.into_output()?;
            Ok(Ended::done(json!({ "via": to, "made": made })))
        })
    })
}

fn with_checker(supervisor: Supervisor) -> Supervisor {
    supervisor.with_agent("checker", Does::accept)
}

async fn submit_one(handle: &RunHandle, key: &str) -> agent_core::TaskId {
    let task = NewTask::new(key, "work", Value::Null);
    let id = task.id(handle.id());
    handle.submit(vec![task]).await.unwrap();
    id
}

async fn status(stack: &Stack, id: agent_core::TaskId) -> Status {
    stack.journal().task(id).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_is_given_what_its_children_made() {
    let rig = Rig::new();
    let made = Does::new(|_cx, _task| Box::pin(async { Ok(Ended::done(json!("it"))) }));
    let (stack, handle) = rig
        .start(three_levels(), |supervisor| {
            with_checker(supervisor)
                .with_agent("worker", || delegates("middle"))
                .with_agent("middle", || delegates("leaf"))
                .with_agent("leaf", move || made.clone())
        })
        .await;
    let id = submit_one(&handle, "root").await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 3);
    let output = stack.journal().task(id).await.unwrap().output;
    let below = json!({ "via": "leaf", "made": "it" });
    assert_eq!(output, Some(json!({ "via": "middle", "made": below })));
    assert_eq!(
        records(&stack, "tasks.delegated").await.len(),
        2,
        "once each"
    );
    end(stack, handle).await;
}

/// Runs a guest that never ends and reports how it ended all the same: apart from the attempt, so
/// that nothing but the canceled scope can have stopped it.
fn runs_a_guest(stack: Stack, exits: mpsc::Sender<Exit>, tracker: TaskTracker) -> Does {
    Does::new(move |cx, _task| {
        let (sandbox, exits, tracker) = (stack.sandbox(), exits.clone(), tracker.clone());
        let effect = Effect::new("sandbox.exec", "loop", EffectClass::Pure, Value::Null);
        let act = move |scope: agent_core::Scope| async move {
            let guest = sandbox.launch(&scope, Spec::new(probe())).await?;
            let execution = guest.exec(&scope, Exec::new().with_args(["loop"])).await?;
            exits.send(Exit::code(0)).await.unwrap();
            tracker.spawn(async move {
                let outcome = execution.wait().await.unwrap();
                exits.send(outcome.exit).await.unwrap();
            });
            std::future::pending::<()>().await;
            Ok(Acted::new(Value::Null))
        };
        Box::pin(async move {
            let value: Value = cx.effect("run", effect, act).await?;
            Ok(Ended::done(value))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_a_tree_of_three_kills_the_guest_at_its_leaf() {
    // Time stands still: no heartbeat and no sweep can have told the leaf.
    let clock = ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000));
    let entropy = SeededEntropy::new(7);
    let rig = Rig::with_env(Env::new(Arc::new(clock), Arc::new(entropy)));
    let fleet = three_levels();
    let stack = rig.stack().await;
    let run = stack
        .open_run(&fleet, "subject", Value::Null)
        .await
        .unwrap();
    let (exits, mut exited) = mpsc::channel(4);
    let (tracker, guests) = (TaskTracker::new(), stack.clone());
    let leaf = runs_a_guest(guests, exits, tracker.clone());
    let handle = with_checker(Supervisor::new(stack.clone(), fleet))
        .with_agent("worker", || delegates("middle"))
        .with_agent("middle", || delegates("leaf"))
        .with_agent("leaf", move || leaf.clone())
        .start(run)
        .await
        .unwrap();
    let root = submit_one(&handle, "root").await;
    assert_eq!(exited.recv().await, Some(Exit::code(0)), "the guest runs");
    let done = handle.cancel(Target::Task(root), "enough").await.unwrap();
    assert_eq!(done.changed, [root], "its children end with it");
    let exit = exited.recv().await.unwrap();
    assert_eq!(exit, Exit::Canceled, "the guest was killed");
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Canceled), 3);
    let again = handle.cancel(Target::Task(root), "again").await.unwrap();
    assert_eq!(again.changed, [], "what has ended stays");
    assert!(stack.journal().stuck(handle.id()).await.unwrap().is_empty());
    tracker.close();
    tracker.wait().await;
    end(stack, handle).await;
}

/// Acts, waits at a gate, acts again.
fn waits_at(gate: Arc<Notify>, there: mpsc::Sender<()>, world: Arc<World>) -> Does {
    Does::new(move |cx, _task| {
        let (gate, there, world) = (Arc::clone(&gate), there.clone(), Arc::clone(&world));
        Box::pin(async move {
            world.act(cx, "before", EffectClass::Opaque).await?;
            there.send(()).await.unwrap();
            gate.notified().await;
            world.act(cx, "after", EffectClass::Opaque).await?;
            Ok(Ended::done(Value::Null))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_task_goes_on_where_it_was() {
    let (rig, world) = (Rig::new(), Arc::<World>::default());
    let (gate, (there, mut at_gate)) = (Arc::new(Notify::new()), mpsc::channel(4));
    let worker = waits_at(Arc::clone(&gate), there, Arc::clone(&world));
    let (stack, handle) = rig
        .start(fleet(), |supervisor| {
            with_checker(supervisor).with_agent("worker", move || worker.clone())
        })
        .await;
    let id = submit_one(&handle, "task").await;
    at_gate.recv().await.unwrap();
    handle.pause(Target::Run(handle.id())).await.unwrap();
    assert_eq!(
        status(&stack, id).await,
        Status::Leased,
        "until its next step"
    );
    gate.notify_one();
    handle.settled().await.unwrap();
    let task = stack.journal().task(id).await.unwrap();
    assert_eq!(task.status, Status::Paused);
    assert!(task.failures.is_empty(), "giving it back is no failure");
    assert_eq!(
        world.asked().get("after"),
        None,
        "nothing was done meanwhile"
    );
    handle.resume(Target::Task(id)).await.unwrap();
    at_gate.recv().await.unwrap();
    gate.notify_one();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(
        world.asked()["before"],
        1,
        "what was done is not done again"
    );
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_tried_again_after_a_stop_waits_for_the_same_child() {
    let (rig, attempts) = (Rig::new(), Arc::<AtomicU32>::default());
    let (gate, (there, mut at_gate)) = (Arc::new(Notify::new()), mpsc::channel(4));
    let world = Arc::<World>::default();
    let equip = |supervisor: Supervisor| {
        let attempts = Arc::clone(&attempts);
        let worker = Does::new(move |cx, _task| {
            let n = attempts.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                let child = cx.spawn(NewTask::new("below", "leaf", Value::Null)).await?;
                if n == 0 {
                    let (kind, retry) = (ErrorKind::Unavailable, Retry::Safe);
                    return Err(Failure::new(kind, retry, "test.away", "away", "wait").into());
                }
                cx.join(child).await?;
                Ok(Ended::done(Value::Null))
            })
        });
        let leaf = waits_at(Arc::clone(&gate), there.clone(), Arc::clone(&world));
        let middle = leaf.clone();
        with_checker(supervisor)
            .with_agent("worker", move || worker.clone())
            .with_agent("leaf", move || leaf.clone())
            .with_agent("middle", move || middle.clone())
    };
    let (stack, handle) = rig.start(three_levels(), equip).await;
    let id = submit_one(&handle, "root").await;
    at_gate.recv().await.unwrap();
    end(stack, handle).await;
    let (stack, handle) = rig.start(three_levels(), equip).await;
    assert!(handle.run().is_resumed);
    at_gate.recv().await.unwrap();
    gate.notify_one();
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Completed),
        2,
        "one parent, one child"
    );
    assert_eq!(status(&stack, id).await, Status::Completed);
    assert_eq!(world.asked()["before"], 1);
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_acts_nothing_again_and_leaves_its_origin() {
    let (rig, world) = (Rig::new(), Arc::<World>::default());
    let equip = |supervisor: Supervisor| {
        let world = Arc::clone(&world);
        let worker = Does::new(move |cx, _task| {
            let world = Arc::clone(&world);
            Box::pin(async move {
                world.act(cx, "act", EffectClass::Opaque).await?;
                let said = cx.ask("go", "Go on?", &["yes", "no"], Value::Null).await?;
                Ok(Ended::done(json!(said)))
            })
        });
        with_checker(supervisor).with_agent("worker", move || worker.clone())
    };
    let (stack, handle) = rig.start(fleet(), equip).await;
    let id = submit_one(&handle, "task").await;
    handle.settled().await.unwrap();
    let at = stack.journal().verify().await.unwrap().records;
    let run = handle.fork(at, "what if").await.unwrap();
    assert_eq!(
        (run.forked_from, run.forked_at),
        (Some(handle.id()), Some(at))
    );
    let fork = equip(Supervisor::new(stack.clone(), fleet()))
        .start(run)
        .await;
    let fork = fork.unwrap();
    assert_eq!(answer_all(&fork, "no").await, 1, "the fork asks for itself");
    let progress = fork.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    let of_fork = NewTask::new("task", "work", Value::Null).id(fork.id());
    let forked = stack.journal().task(of_fork).await.unwrap();
    assert_eq!(forked.output, Some(json!("no")));
    assert_eq!(world.asked()["act"], 1, "what was done is not done again");
    assert_eq!(
        status(&stack, id).await,
        Status::Parked,
        "the origin waits on"
    );
    let then = handle.task_at(id, at).await.unwrap();
    assert_eq!(then, stack.journal().task(id).await.unwrap());
    stack.journal().verify().await.unwrap();
    fork.stop().await;
    end(stack, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_limits_hold_for_what_its_tasks_delegate() {
    let rig = Rig::new();
    let text = r#"
        [fleet]
        name = "test"
        budget = "1.00 USD"
        [pool.work]
        agent = "worker"
        size = 1
        budget = "1.00 USD"
        verifier = "check"
        [pool.work.limits]
        delegation_depth = 1
        children_max = 2
        wall = "30m"
        tree_retries = 5
        [pool.check]
        agent = "checker"
        size = 1
        budget = "1.00 USD"
    "#;
    let fleet = Fleet::from_toml(text).unwrap();
    let limits = fleet.pools["work"].limits;
    let wall = std::time::Duration::from_secs(1_800);
    assert_eq!((limits.delegation_depth, limits.wall), (1, wall));
    assert_eq!(fleet.pools["check"].limits, Limits::default());
    let worker = Does::new(|cx, task| {
        Box::pin(async move {
            let many = ["a", "b", "c"].map(|key| NewTask::new(key, "work", Value::Null));
            let wide = cx.spawn_all(many.to_vec()).await.unwrap_err();
            let gone = cx.spawn(NewTask::new("a", "gone", Value::Null)).await;
            let said = json!([wide.to_string(), gone.unwrap_err().to_string()]);
            if task.depth == 0 {
                let child = cx.spawn(NewTask::new("a", "work", Value::Null)).await?;
                return Ok(Ended::done(cx.join(child).await?.into_output()?));
            }
            Ok(Ended::done(said))
        })
    });
    let (stack, handle) = rig
        .start(fleet, |supervisor| {
            with_checker(supervisor).with_agent("worker", move || worker.clone())
        })
        .await;
    let id = submit_one(&handle, "root").await;
    handle.settled().await.unwrap();
    let output = stack.journal().task(id).await.unwrap().output;
    let (deep, gone) = (
        "depth of a delegation tree is limited to 1",
        "there is no pool gone",
    );
    assert_eq!(output, Some(json!([deep, gone])));
    end(stack, handle).await;
}
