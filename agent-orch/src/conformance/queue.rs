//! Laws of the queue: whose task is next, and which tasks wait.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{EntropyExt, SeededEntropy};
use serde_json::{Value, json};

use super::{Subject, agent, check, failure};
use crate::error::{Error, Result};
use crate::fleet::{Limit, Scheduling};
use crate::journal::ClaimRequest;
use crate::task::{Claim, NewTask, Transition};

const POOL: &str = "p";

impl Subject {
    async fn submit(&self, run: agent_core::RunId, tasks: Vec<NewTask>) -> Result<()> {
        self.journal.submit(&Self::scope(), run, tasks).await?;
        Ok(())
    }

    async fn next(&self, run: agent_core::RunId) -> Result<Option<Claim>> {
        self.claim(run, POOL, agent(1)).await
    }

    async fn must_claim(&self, run: agent_core::RunId) -> Result<Claim> {
        let claim = self.next(run).await?;
        claim.ok_or_else(|| Error::not_found("ready task", POOL))
    }
}

fn fair(key: impl Into<String>, of: &str) -> NewTask {
    NewTask::new(key, POOL, Value::Null).with_fair_key(of)
}

/// Keys that always have tasks waiting are served in proportion to their weights: at no moment is
/// one ahead of another by more than one turn of each, however the tasks arrive.
///
/// # Errors
/// If the law does not hold.
pub async fn turns_are_taken_by_weight(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let weights = BTreeMap::from([("heavy", 5_u64), ("middle", 2), ("light", 1)]);
    let mut scheduling = Scheduling::default();
    for (key, weight) in &weights {
        let weight = u32::try_from(*weight).unwrap_or(1);
        scheduling = scheduling.with_weight(*key, weight);
    }
    s.journal
        .configure(&Subject::scope(), run, &scheduling)
        .await?;
    let random = SeededEntropy::new(11);
    let (mut n_submitted, mut waiting) = (0_u64, BTreeMap::<&str, u64>::new());
    let mut served = BTreeMap::<&str, u64>::new();
    for _ in 0..160 {
        // As many as come at random, and at least as many as keep every key waiting.
        let mut arrivals = Vec::new();
        for key in weights.keys() {
            let n = waiting.entry(key).or_default();
            let more = random.next_u64() % 3 + u64::from(*n == 0);
            for _ in 0..more {
                n_submitted += 1;
                arrivals.push(fair(format!("{key}/{n_submitted}"), key));
            }
            *n += more;
        }
        s.submit(run, arrivals).await?;
        let claim = s.must_claim(run).await?;
        let key = weights.keys().find(|key| **key == claim.task.fair_key);
        let key = *key.ok_or_else(|| Error::not_found("fairness key", &claim.task.fair_key))?;
        *served.entry(key).or_default() += 1;
        waiting.entry(key).and_modify(|n| *n -= 1);
        for (a, weight_a) in &weights {
            for (b, weight_b) in &weights {
                let n = |key| served.get(key).copied().unwrap_or(0);
                // served(a) / weight(a) - served(b) / weight(b) <= 1 / weight(a) + 1 / weight(b)
                let (ahead, behind) = (n(a) * weight_b, n(b) * weight_a);
                check(ahead <= behind + weight_a + weight_b, "no key runs ahead")?;
            }
        }
    }
    Ok(())
}

/// A key that had nothing to do does not make up for it afterwards.
///
/// # Errors
/// If the law does not hold.
pub async fn an_idle_key_gets_no_credit(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let of = |key: &str, n: u32| (0..n).map(|i| fair(format!("{key}/{i}"), key)).collect();
    s.submit(run, of("busy", 60)).await?;
    for _ in 0..30 {
        s.must_claim(run).await?;
    }
    s.submit(run, of("late", 30)).await?;
    let mut n_late = 0;
    for _ in 0..20 {
        n_late += u32::from(s.must_claim(run).await?.task.fair_key == "late");
    }
    check((9..=11).contains(&n_late), "they take turns from then on")
}

/// Tasks of a key are claimed in the order they were submitted, also after they came back.
///
/// # Errors
/// If the law does not hold.
pub async fn the_order_within_a_key_is_kept(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let tasks = (0..6).map(|n| fair(n.to_string(), if n % 2 == 0 { "even" } else { "odd" }));
    s.submit(run, tasks.collect()).await?;
    let first = s.must_claim(run).await?;
    s.journal
        .finish(&Subject::scope(), &first.lease, Transition::Yield)
        .await?;
    let mut order = BTreeMap::<String, Vec<String>>::new();
    while let Some(claim) = s.next(run).await? {
        let of_key = order.entry(claim.task.fair_key).or_default();
        of_key.push(claim.task.key);
    }
    let expected = [("even", ["0", "2", "4"]), ("odd", ["1", "3", "5"])];
    check(
        expected
            .iter()
            .all(|(key, tasks)| order.get(*key).is_some_and(|found| found == tasks)),
        "the oldest of a key comes first",
    )
}

/// However many urgent tasks keep coming, a task that waits moves up and is claimed.
///
/// # Errors
/// If the law does not hold.
pub async fn nobody_starves(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let age = Duration::from_secs(60);
    let scheduling = Scheduling::default().with_age(age);
    s.journal
        .configure(&Subject::scope(), run, &scheduling)
        .await?;
    let patient = NewTask::new("patient", POOL, Value::Null).with_priority(4);
    s.submit(run, vec![patient]).await?;
    for n in 0..12 {
        let urgent = (0..2).map(|i| NewTask::new(format!("{n}/{i}"), POOL, Value::Null));
        s.submit(run, urgent.map(|task| task.with_priority(0)).collect())
            .await?;
        let claim = s.must_claim(run).await?;
        if claim.task.key == "patient" {
            return check(
                claim.task.priority == 0 && n >= 4,
                "after it rose to the top",
            );
        }
        s.clock.advance(age);
        s.journal.sweep(&Subject::scope()).await?;
    }
    check(false, "the patient task was claimed")
}

/// A task whose limit is reached waits while others go on; the end of a lease, however it comes,
/// lets the next one through.
///
/// # Errors
/// If the law does not hold.
pub async fn a_reached_limit_is_passed_over(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let limit = Limit::new().with_concurrency(1);
    let scheduling = Scheduling::default().with_limit("tool:a", limit);
    s.journal
        .configure(&Subject::scope(), run, &scheduling)
        .await?;
    let task = |key: &str| NewTask::new(key, POOL, Value::Null);
    let tasks = ["1", "2", "3"].map(|key| task(key).with_limit_key("tool:a"));
    let others = [task("free"), task("other").with_limit_key("tool:b")];
    s.submit(run, tasks.into_iter().chain(others).collect())
        .await?;
    let first = s.must_claim(run).await?;
    check(first.task.key == "1", "the oldest takes the slot")?;
    check(s.must_claim(run).await?.task.key == "free", "others go on")?;
    check(
        s.must_claim(run).await?.task.key == "other",
        "so does another key",
    )?;
    check(s.next(run).await?.is_none(), "the limited ones wait")?;
    let done = Transition::Verify {
        output: json!(1),
        pool: "verify".to_owned(),
    };
    s.journal
        .finish(&Subject::scope(), &first.lease, done)
        .await?;
    check(
        s.must_claim(run).await?.task.key == "2",
        "the end of the work frees it",
    )?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_secs(1));
    s.journal.sweep(&Subject::scope()).await?;
    let mut again = Vec::new();
    while let Some(claim) = s.next(run).await? {
        again.push(claim.task.key);
    }
    again.sort_unstable();
    check(
        again == ["2", "free", "other"],
        "the end of a lease frees it",
    )?;
    s.journal
        .configure(&Subject::scope(), run, &Scheduling::default())
        .await?;
    check(
        s.must_claim(run).await?.task.key == "3",
        "without the limit none waits",
    )
}

/// The queues count what can be claimed, by pool and priority.
///
/// # Errors
/// If the law does not hold.
pub async fn the_queues_count_what_can_be_claimed(s: Subject) -> Result<()> {
    let run = s.run().await?;
    let limit = Limit::new().with_concurrency(1);
    let scheduling = Scheduling::default().with_limit("tool:a", limit);
    s.journal
        .configure(&Subject::scope(), run, &scheduling)
        .await?;
    let task = |key: &str, priority| NewTask::new(key, POOL, Value::Null).with_priority(priority);
    let limited = ["1", "2"].map(|key| task(key, 0).with_limit_key("tool:a"));
    let others = [task("3", 3), task("4", 3)];
    s.submit(run, limited.into_iter().chain(others).collect())
        .await?;
    let count = || async {
        let queues = s.journal.queues(run).await?;
        let by_priority = queues.iter().map(|q| (q.priority, q.n_ready));
        Ok::<Vec<_>, Error>(by_priority.collect())
    };
    check(count().await? == [(0, 2), (3, 2)], "all of them at first")?;
    let claim = s.must_claim(run).await?;
    check(
        count().await? == [(3, 2)],
        "not those a limit keeps waiting",
    )?;
    s.journal
        .finish(&Subject::scope(), &claim.lease, Transition::Release)
        .await?;
    check(count().await? == [(0, 2), (3, 2)], "again when it is free")
}

/// The moment a sweep is needed is known, and the sweep does then what is due.
///
/// # Errors
/// If the law does not hold.
pub async fn what_is_due_next_is_known(s: Subject) -> Result<()> {
    let (_run, claim) = s.with_task().await?;
    let due = s.journal.next_due(&Subject::scope()).await?;
    check(due == Some(claim.lease.until), "the end of the lease")?;
    let at = s.journal.task(claim.task.id).await?;
    check(at.priority == 2, "a task has its priority")?;
    let soon = claim.lease.until.after(Duration::from_millis(50));
    let retry = Transition::Retry {
        failure: failure(agent_core::Retry::Safe),
        at: soon,
    };
    s.journal
        .finish(&Subject::scope(), &claim.lease, retry)
        .await?;
    check(
        s.journal.next_due(&Subject::scope()).await? == Some(soon),
        "the time of the retry",
    )?;
    s.clock
        .advance(ClaimRequest::LEASE_DEFAULT + Duration::from_millis(50));
    let swept = s.journal.sweep(&Subject::scope()).await?;
    check(swept.delayed == 1, "it is ready then")?;
    let due = s.journal.next_due(&Subject::scope()).await?;
    check(due.is_some_and(|due| due > soon), "then it only ages")
}
