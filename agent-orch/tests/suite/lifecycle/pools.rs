//! Pools that scale, and probes of the agents in them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_orch::{Class, Probes, Scale, Status};
use serde_json::{Value, json};

use super::host::{Host, fleet, n_workers, secs, submit};

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_grows_with_its_backlog_and_shrinks_after_a_lull() {
    let host = Host::manual().await;
    let scale = Scale::new(4)
        .with_target(2)
        .with_windows(Duration::ZERO, secs(30));
    let handle = host.start(&fleet(|pool| pool.with_scale(scale))).await;
    assert_eq!(n_workers(&handle), 1);
    submit(&handle, 0..20).await;
    host.until(&handle, "it grows", async |h| n_workers(h) == 4)
        .await;
    host.world.gate.add_permits(20);
    host.until(&handle, "it shrinks", async |h| n_workers(h) == 1)
        .await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 20);
    let scaled = host.kinds("pool.scaled").await;
    assert_eq!(
        (&scaled[0]["from"], &scaled[0]["to"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(scaled.last().unwrap()["to"], json!(1));
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_sign_of_life_is_restarted() {
    let host = Host::manual().await;
    let probes = Probes::new().with_liveness(secs(5));
    let mut fleet = fleet(|pool| pool.with_probes(probes));
    fleet.recovery = fleet
        .recovery
        .with(Class::Timeout, vec!["fail".parse().unwrap()])
        .unwrap();
    host.world.breaths.store(10, Ordering::SeqCst);
    let handle = host.start(&fleet).await;
    submit(&handle, 0..1).await;
    host.until(&handle, "it is found", async |h| {
        h.progress().await.unwrap().restarts > 0
    })
    .await;
    assert_eq!(
        host.world.breaths.load(Ordering::SeqCst),
        0,
        "alive until then"
    );
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Failed), 1);
    let found = host.kinds("agent.probe_failed").await;
    assert_eq!(found[0]["failure"]["code"], "orch.not_alive");
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_progress_is_stuck_and_goes_to_the_table() {
    for probes in [
        Probes::new().with_progress(Some(secs(5)), None),
        Probes::new().with_progress(None, Some(secs(5))),
    ] {
        let host = Host::manual().await;
        let mut fleet = fleet(|pool| pool.with_probes(probes));
        fleet.recovery = fleet
            .recovery
            .with(Class::Stuck, vec!["fail".parse().unwrap()])
            .unwrap();
        let handle = host.start(&fleet).await;
        submit(&handle, 0..1).await;
        host.until(&handle, "it is found", async |h| {
            h.progress().await.unwrap().counts.of(Status::Failed) == 1
        })
        .await;
        assert_eq!(handle.progress().await.unwrap().restarts, 0);
        let found = host.kinds("agent.probe_failed").await;
        assert_eq!(found[0]["failure"]["code"], Class::STUCK_CODE);
        handle.stop().await;
        host.stack.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_ready_gets_no_task() {
    let host = Host::manual().await;
    let probes = Probes::new().with_startup(secs(20));
    host.world.is_ready.store(false, Ordering::SeqCst);
    host.world.gate.add_permits(1);
    let handle = host.start(&fleet(|pool| pool.with_probes(probes))).await;
    submit(&handle, 0..1).await;
    host.until(&handle, "it is overdue", async |h| {
        h.progress().await.unwrap().restarts > 0
    })
    .await;
    assert_eq!(host.world.attempts.load(Ordering::SeqCst), 0);
    host.world.is_ready.store(true, Ordering::SeqCst);
    host.until(&handle, "it works", async |h| {
        h.progress().await.unwrap().counts.of(Status::Completed) == 1
    })
    .await;
    let codes: Vec<Value> = host.kinds("agent.probe_failed").await;
    let code = |n: usize| codes[n]["failure"]["code"].clone();
    assert_eq!(
        (code(0), code(1)),
        (json!("test.unready"), json!("orch.not_started"))
    );
    handle.stop().await;
    host.stack.close().await;
}
