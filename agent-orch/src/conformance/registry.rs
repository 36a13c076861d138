//! Laws of the registry of agents, and of a run whose configuration changes.

use std::time::Duration;

use agent_core::{AgentId, Asset, Classify, Digest, ErrorKind, Event};
use serde_json::{Value, json};

use super::{Subject, agent, check};
use crate::error::Result;
use crate::journal::NewRun;
use crate::registry::{AgentQuery, AgentRecord, AgentState, NewAgent};
use crate::task::{NewTask, Transition};

fn is_refused<T>(result: &Result<T>, kind: ErrorKind) -> bool {
    result.as_ref().err().is_some_and(|e| e.kind() == kind)
}

fn new_agent(n: u128) -> NewAgent {
    let version = Digest::of_bytes(b"version");
    NewAgent::new(
        agent(n),
        format!("did:{n}"),
        format!("f/work/{n:04}"),
        "work",
        version,
    )
}

impl Subject {
    async fn enroll(&self, numbers: impl IntoIterator<Item = u128>) -> Result<()> {
        let agents = numbers.into_iter().map(new_agent).collect();
        self.journal.enroll(&Self::scope(), agents).await
    }

    async fn agents(&self) -> Result<Vec<AgentRecord>> {
        self.journal.agents(AgentQuery::new(), Asset::USD).await
    }

    async fn is_agent(&self, n: usize, state: AgentState) -> Result<bool> {
        let all = self.agents().await?;
        Ok(all.get(n).is_some_and(|record| record.state == state))
    }

    async fn retire(&self, id: AgentId) -> Result<AgentRecord> {
        let reason = "law".to_owned();
        self.journal
            .retire(&Self::scope(), id, Asset::USD, reason)
            .await
    }

    async fn noted(&self, kind: &str, payload: Value) -> Result<()> {
        let event = Event::new(&Self::scope(), self.env.clock.now(), kind, payload);
        self.journal.note(event).await.map(|_seq| ())
    }
}

/// The registry follows what agents and their supervisors do.
///
/// # Errors
/// If the law does not hold.
pub async fn the_registry_follows_what_agents_do(s: Subject) -> Result<()> {
    s.enroll([2, 1]).await?;
    let all = s.agents().await?;
    let names: Vec<&str> = all.iter().map(|r| r.agent.name.as_str()).collect();
    check(names == ["f/work/0001", "f/work/0002"], "listed by name")?;
    check(s.is_agent(0, AgentState::Starting).await?, "it starts")?;
    s.clock.advance(Duration::from_secs(5));
    let (_run, claim) = s.with_task().await?;
    check(s.is_agent(0, AgentState::Working).await?, "it works")?;
    s.clock.advance(Duration::from_secs(5));
    let release = Transition::Release;
    s.journal
        .finish(&Subject::scope(), &claim.lease, release)
        .await?;
    check(s.is_agent(0, AgentState::Idle).await?, "it is done")?;
    let now = s.env.clock.now();
    let all = s.agents().await?;
    let is_active = all.first().is_some_and(|r| r.active == now);
    check(is_active, "its activity is that of its last task")?;
    let is_old = all.get(1).is_some_and(|r| r.active < now);
    check(is_old, "who did nothing has none")?;
    let payload = json!({ "agent": "f/work/0002" });
    s.noted("agent.restarted", payload).await?;
    let all = s.agents().await?;
    let restarts: Vec<u64> = all.iter().map(|r| r.restarts).collect();
    check(restarts == [0, 1], "restarts are counted")?;
    check(s.is_agent(1, AgentState::Restarting).await?, "it restarts")?;
    let pools = json!({ "pools": ["other", "work"] });
    s.noted("pool.quarantined", pools.clone()).await?;
    check(s.is_agent(0, AgentState::Quarantined).await?, "given up")?;
    s.noted("pool.released", pools).await?;
    check(s.is_agent(0, AgentState::Starting).await?, "and back")?;
    s.enroll([1]).await?;
    check(s.agents().await?.len() == 2, "entering again adds nobody")
}

/// A retired agent claims nothing and does not come back.
///
/// # Errors
/// If the law does not hold.
pub async fn a_retired_agent_claims_nothing(s: Subject) -> Result<()> {
    s.enroll([1, 2]).await?;
    let (run, claim) = s.with_task().await?;
    let working = s.retire(agent(1)).await;
    check(
        is_refused(&working, ErrorKind::Invalid),
        "not while it holds a task",
    )?;
    let release = Transition::Release;
    s.journal
        .finish(&Subject::scope(), &claim.lease, release)
        .await?;
    s.retire(agent(1)).await?;
    let again = s.retire(agent(1)).await?;
    check(again.state == AgentState::Retired, "once is enough")?;
    let claimed = s.claim(run, "work", agent(1)).await;
    check(is_refused(&claimed, ErrorKind::Denied), "it claims nothing")?;
    let back = s.enroll([3, 1]).await;
    check(
        is_refused(&back, ErrorKind::Denied),
        "it is not entered again",
    )?;
    check(s.agents().await?.len() == 1, "nor are others with it")?;
    let query = AgentQuery::new().with_retired();
    let all = s.journal.agents(query, Asset::USD).await?;
    check(all.len() == 2, "it is kept")?;
    let pools = json!({ "pools": ["work"] });
    s.noted("pool.quarantined", pools).await?;
    let still = s.retire(agent(1)).await?;
    check(still.state == AgentState::Retired, "whatever happens")?;
    check(
        s.claim(run, "work", agent(2)).await?.is_some(),
        "another one goes on",
    )
}

/// Leases are counted by the pool their tasks are in.
///
/// # Errors
/// If the law does not hold.
pub async fn leases_are_counted_by_pool(s: Subject) -> Result<()> {
    let (run, claim) = s.with_task().await?;
    let tasks = ["b", "c"].map(|key| NewTask::new(key, "other", Value::Null));
    s.journal
        .submit(&Subject::scope(), run, tasks.to_vec())
        .await?;
    s.claim(run, "other", agent(2)).await?;
    let held = s.journal.held(run).await?;
    let counted: Vec<(&str, u64)> = held.iter().map(|(pool, n)| (pool.as_str(), *n)).collect();
    check(
        counted == [("other", 1), ("work", 1)],
        "one of each is held",
    )?;
    let release = Transition::Release;
    s.journal
        .finish(&Subject::scope(), &claim.lease, release)
        .await?;
    check(s.journal.held(run).await?.len() == 1, "until it is not")
}

/// A run goes on under another configuration, and an ended one does not.
///
/// # Errors
/// If the law does not hold.
pub async fn a_run_goes_on_under_another_configuration(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let (scope, spec) = (Subject::scope(), Digest::of_bytes(b"other"));
    let payload = json!({ "to": spec });
    s.journal.respec(&scope, run, spec, payload.clone()).await?;
    let same = NewRun::new("subject", spec, Value::Null);
    let opened = s.journal.open_run(&scope, same).await?;
    check(
        opened.id == run && opened.spec == spec,
        "it is the same run with the other configuration",
    )?;
    s.journal.end_run(&scope, run).await?;
    let late = s.journal.respec(&scope, run, spec, payload).await;
    check(is_refused(&late, ErrorKind::NotFound), "it has ended")
}
