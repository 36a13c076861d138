//! The registry: who there is, and who is retired.

use std::time::Duration;

use agent_core::{Classify, ErrorKind, Principal, Scope};
use agent_orch::{AgentQuery, AgentState, ClaimRequest, NewTask, Pool, Retirement, Status};
use serde_json::{Value, json};

use super::host::{Host, fleet, secs, submit};

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_knows_every_agent_and_retires_some() {
    let host = Host::new(None).await;
    let fleet = fleet(|pool| pool);
    let handle = host.start(&fleet).await;
    submit(&handle, 0..1).await;
    let of_work = AgentQuery::new().of_pool("work");
    host.until(&handle, "it works", async |_| {
        let all = host.stack.agents(&of_work, &fleet).await.unwrap();
        all[0].state == AgentState::Working
    })
    .await;
    let worker = host.stack.agents(&of_work, &fleet).await.unwrap().remove(0);
    assert_eq!(worker.agent.owner.as_deref(), Some("team"));
    assert_eq!(worker.agent.purpose.as_deref(), Some("to work"));
    assert_eq!(worker.agent.name, "test/work/0001");
    assert_eq!(worker.agent.version, fleet.version_of("work").unwrap());
    assert_eq!(worker.agent.grants.len(), 1);
    let busy = host.stack.retire(worker.agent.id, &fleet, "no").await;
    assert_eq!(busy.unwrap_err().kind(), ErrorKind::Invalid);

    host.world.gate.add_permits(2);
    handle.settled().await.unwrap();
    handle.retire(worker.agent.id, "for a test").await.unwrap();
    let request = ClaimRequest::new(handle.id(), "work", worker.agent.id);
    let scope = Scope::new(Principal::new(worker.agent.did.as_str()).unwrap());
    submit(&handle, 1..2).await;
    let progress = handle.settled().await.unwrap();
    assert_eq!(
        progress.counts.of(Status::Completed),
        2,
        "another one works"
    );
    let journal = host.stack.journal();
    handle.stop().await;
    journal
        .submit(
            &scope,
            handle.id(),
            vec![NewTask::new("t3", "work", json!(3))],
        )
        .await
        .unwrap();
    let claimed = journal.claim(&scope, request).await;
    assert_eq!(claimed.unwrap_err().kind(), ErrorKind::Denied);
    let balance = host
        .stack
        .balance("test/work/0001", fleet.budget)
        .await
        .unwrap();
    assert!(balance.available().is_zero(), "its budget is its pool's");
    let left = host.stack.agents(&of_work, &fleet).await.unwrap();
    let names: Vec<&str> = left.iter().map(|r| r.agent.name.as_str()).collect();
    assert_eq!(names, ["test/work/0002"]);

    let mut other = fleet.clone();
    other.pools.get_mut("work").unwrap().steps_max = 7;
    let check = other.pools.remove("check").unwrap();
    other.pools.insert("control".to_owned(), check);
    let sprawl = host.stack.sprawl(&other, Duration::ZERO).await.unwrap();
    assert_eq!(sprawl.orphans[0].agent.pool, "check");
    assert_eq!(sprawl.drifted[0].agent.name, "test/work/0002");
    assert_eq!(sprawl.idle.len(), 2);
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_retires_orphans_and_the_idle_and_nobody_who_runs() {
    let host = Host::manual().await;
    let budget = "1.00 USD".parse().unwrap();
    let mut before = fleet(|pool| pool);
    before.pools.get_mut("work").unwrap().size = 3;
    before = before.with_pool("old", Pool::new("checker", 2, budget));
    let handle = host.start(&before).await;
    let all = host.stack.agents(&AgentQuery::new(), &before).await;
    assert_eq!(all.unwrap().len(), 6);
    handle.stop().await;

    let mut after = fleet(|pool| pool);
    after.registry = Retirement::new().with_idle(secs(3_600)).with_orphans();
    let handle = host.start(&after).await;
    let names = async || -> Vec<String> {
        let all = host.stack.agents(&AgentQuery::new(), &after).await.unwrap();
        all.into_iter().map(|record| record.agent.name).collect()
    };
    host.until(&handle, "orphans are retired", async |_| {
        names().await.len() == 4
    })
    .await;
    host.clock.as_ref().unwrap().advance(secs(3_600));
    host.until(&handle, "the idle are retired", async |_| {
        names().await.len() == 2
    })
    .await;
    assert_eq!(names().await, ["test/check/0001", "test/work/0001"]);
    let reasons: Vec<Value> = host.kinds("agent.retired").await;
    let count = |why: &str| reasons.iter().filter(|r| r["reason"] == why).count();
    assert_eq!(count("its pool is gone"), 2);
    assert_eq!(count("idle for too long"), 2);
    handle.stop().await;
    host.stack.close().await;
}
