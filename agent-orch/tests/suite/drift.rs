//! Agents whose code changed while their tasks were parked.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use crate::common::{Does, Rig, World, answer_all, end, fleet, records, submit};
use agent_core::EffectClass;
use agent_orch::{Drifted, Ended, Migration, Status, Supervisor, TaskRef};
use serde_json::{Value, json};

/// Workers that do something, wait for an answer, and tell what it returned.
fn workers(world: &Arc<World>, what: &'static str) -> impl FnOnce(Supervisor) -> Supervisor {
    let world = Arc::clone(world);
    let worker = Does::new(move |cx, _task| {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let effect = agent_core::Effect::new(
                "tool.call",
                what,
                EffectClass::Opaque,
                json!({ "what": what }),
            );
            let said: Value = cx
                .effect("step", effect, |scope| async move {
                    let key = scope.idempotency_key.unwrap().as_str().to_owned();
                    world.calls.lock().push((what.to_owned(), key));
                    Ok(agent_orch::Acted::new(json!(what)))
                })
                .await?;
            cx.ask("go", "Go on?", &["yes", "no"], Value::Null).await?;
            Ok(Ended::done(said))
        })
    });
    move |supervisor| {
        supervisor
            .with_agent("worker", move || worker.clone())
            .with_agent("checker", Does::accept)
    }
}

/// Runs one task with code that did `old` until its question, then with code that does `new`.
async fn changed(
    migrate: impl Fn(&Drifted) -> Migration + Send + Sync + 'static,
) -> (Value, Vec<String>) {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let (stack, handle) = rig.start(fleet(), workers(&world, "old")).await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    answer_all(&handle, "yes").await;
    end(stack, handle).await;
    let new = workers(&world, "new");
    let (stack, handle) = rig.start(fleet(), |s| new(s).with_migration(migrate)).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    assert_eq!(records(&stack, "step.migrated").await.len(), 1);
    let id = TaskRef::from("t0").id(handle.id());
    let output = stack.journal().task(id).await.unwrap().output.unwrap();
    end(stack, handle).await;
    let calls = world
        .calls
        .lock()
        .iter()
        .map(|(what, _)| what.clone())
        .collect();
    (output, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_step_keeps_the_value_it_is_given() {
    let (output, calls) = changed(|drifted| {
        assert_eq!(drifted.effect.target, "new");
        assert!(drifted.recorded.spec.is_some());
        Migration::Keep(json!({ "was": drifted.recorded.value }))
    })
    .await;
    assert_eq!(output, json!({ "was": "old" }));
    assert_eq!(calls, ["old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_step_forks_the_attempt_there() {
    let (rig, world) = (Rig::new(), Arc::new(World::default()));
    let (stack, handle) = rig.start(fleet(), workers(&world, "old")).await;
    submit(&handle, 1).await;
    handle.settled().await.unwrap();
    answer_all(&handle, "yes").await;
    end(stack, handle).await;
    let new = workers(&world, "new");
    let (stack, handle) = rig
        .start(fleet(), |s| new(s).with_migration(|_| Migration::Fork))
        .await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Parked), 1, "it asks anew");
    assert_eq!(answer_all(&handle, "yes").await, 1);
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 1);
    let id = TaskRef::from("t0").id(handle.id());
    let output = stack.journal().task(id).await.unwrap().output.unwrap();
    assert_eq!(output, json!("new"));
    assert!(stack.journal().verify().await.is_ok());
    end(stack, handle).await;
    let calls = world.calls.lock();
    let did: Vec<&str> = calls.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(did, ["old", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_step_is_done_again() {
    let (output, calls) = changed(|_drifted| Migration::Redo).await;
    assert_eq!(output, json!("new"));
    assert_eq!(calls, ["old", "new"]);
}
