//! Another configuration while the agents work.

use std::sync::atomic::Ordering;

use agent_core::{Classify, ErrorKind};
use agent_orch::{AgentQuery, Branch, Error, OnMeltdown, Pool, Status, Supervision};
use serde_json::json;

use super::host::{Host, fleet, n_workers, secs, submit};

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_come_move_and_go_while_their_agents_work() {
    let host = Host::new(None).await;
    let mut plain = fleet(|pool| pool);
    plain.pools.get_mut("work").unwrap().size = 4;
    let strict = Supervision::new().with_intensity(0, secs(60));
    plain.supervisor = strict;
    let handle = host.start(&plain).await;
    submit(&handle, 0..20).await;
    host.world.gate.add_permits(20);

    let climbs = strict.with_on_meltdown(OnMeltdown::Escalate);
    let line = |children: [&'static str; 2]| Branch::new(climbs, children);
    let above = plain
        .clone()
        .with_supervisor("line", line(["pool.work", "pool.check"]));
    handle.reload(above.clone()).await.unwrap();
    let turned = plain
        .clone()
        .with_supervisor("line", line(["pool.check", "pool.work"]))
        .with_supervisor("top", Branch::new(strict, ["supervisor.line"]));
    handle.reload(turned).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 20);
    assert_eq!((progress.restarts, progress.quarantined.len()), (0, 0));
    assert_eq!(n_workers(&handle), 4);

    // The supervisors are really there: a crash climbs through both of them.
    host.world.crashes.store(true, Ordering::SeqCst);
    submit(&handle, 20..21).await;
    host.until(&handle, "the top is given up", async |handle| {
        let given_up = handle.progress().await.unwrap().quarantined;
        given_up.keys().eq(["supervisor.top"])
    })
    .await;
    // And they go, and what they had given up with them.
    host.world.crashes.store(false, Ordering::SeqCst);
    host.world.gate.add_permits(5);
    handle.reload(plain).await.unwrap();
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 21);
    assert!(progress.quarantined.is_empty());
    assert_eq!(host.kinds("run.reloaded").await.len(), 3);
    handle.stop().await;
    host.stack.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_agents_change_their_configuration_while_they_work() {
    let host = Host::new(None).await;
    let budget = "1.00 USD".parse().unwrap();
    let mut before = fleet(|pool| pool);
    before.pools.get_mut("work").unwrap().size = 50;
    before = before.with_pool("old", Pool::new("checker", 2, budget));
    let handle = host.start(&before).await;
    submit(&handle, 0..300).await;
    host.world.gate.add_permits(100);

    let mut wrong = before.clone();
    wrong.pools.get_mut("work").unwrap().verifier = Some("nobody".to_owned());
    assert!(matches!(handle.reload(wrong).await, Err(Error::Config(_))));
    let mut unknown = before.clone();
    unknown.pools.get_mut("work").unwrap().agent = "stranger".to_owned();
    let refused = handle.reload(unknown).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let mut renamed = before.clone();
    renamed.name = "other".to_owned();
    assert!(matches!(
        handle.reload(renamed).await,
        Err(Error::Config(_))
    ));
    assert!(
        host.kinds("run.reloaded").await.is_empty(),
        "nothing changed"
    );

    let mut after = before.clone();
    let work = after.pools.get_mut("work").unwrap();
    (work.steps_max, work.size, work.budget) = (77, 40, "0.50 USD".parse().unwrap());
    after.pools.remove("old");
    let after = after.with_pool("young", Pool::new("checker", 3, budget));
    host.world.gate.add_permits(200);
    let reloaded = handle.reload(after.clone()).await.unwrap();
    assert_eq!(
        (
            reloaded.changed,
            reloaded.added,
            reloaded.removed,
            reloaded.unchanged
        ),
        (
            vec!["work".to_owned()],
            vec!["young".to_owned()],
            vec!["old".to_owned()],
            vec!["check".to_owned()]
        )
    );
    let progress = handle.settled().await.unwrap();
    assert_eq!(progress.counts.of(Status::Completed), 300);
    assert_eq!((progress.restarts, progress.quarantined.len()), (0, 0));
    host.until(&handle, "it shrinks", async |h| n_workers(h) == 40)
        .await;
    let record = host.kinds("run.reloaded").await.remove(0);
    assert_eq!(record["from"], json!(before.digest().unwrap()));
    assert_eq!(record["to"], json!(after.digest().unwrap()));
    let balance = host.stack.balance("test/work", budget).await.unwrap();
    assert_eq!(balance.limit, "0.50 USD".parse().unwrap());
    let same = handle.reload(after.clone()).await.unwrap();
    assert!(same.changed.is_empty() && same.added.is_empty() && same.removed.is_empty());
    let all = host.stack.agents(&AgentQuery::new(), &after).await.unwrap();
    let running = handle.agents();
    for record in all.iter().filter(|r| running.contains_key(&r.agent.id)) {
        assert!(!record.has_drifted(&after), "{}", record.agent.name);
    }
    handle.stop().await;
    host.stack.close().await;
}
