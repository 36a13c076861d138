//! Checks that fail, waver or cannot run, and whose fault that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::BoxError;
use agent_orch::merge::{Candidate, Check, Limits, Rejection, Status, Verdict};
use async_trait::async_trait;

use super::rig::{hand_in, landed};
use crate::merge_common::{Forbid, fleet, queue, task};

#[tokio::test]
async fn a_poison_change_is_batched_with_fresh_ones_once() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["poison"]);
    let mut queue = queue(&fleet, &check, Limits::default()).await;
    let first: Vec<(u128, &str)> = (0..16)
        .map(|n| (n, if n == 5 { "poison\n" } else { "fine\n" }))
        .collect();
    hand_in(&fleet, &queue, &first).await;
    let fresh: Vec<(u128, &str)> = (100..140).map(|n| (n, "fine\n")).collect();
    hand_in(&fleet, &queue, &fresh).await;
    let settled = queue.drain().await.unwrap().settled;
    assert_eq!(settled.len(), 56);
    assert_eq!(landed(&settled).len(), 55);
    let poisoned = settled.iter().find(|s| s.task == task(5)).unwrap();
    let Status::Rejected {
        rejection: Rejection::CheckFailed { summary, .. },
        ..
    } = &poisoned.status
    else {
        panic!("{poisoned:?}")
    };
    assert_eq!(summary, "found poison");
    let seen = check.seen.lock();
    let with_poison: Vec<&Candidate> = seen
        .iter()
        .filter(|candidate| candidate.tasks.contains(&task(5)))
        .collect();
    // Each candidate with the poison is a proper part of the one before it: nothing fresh joins.
    for pair in with_poison.windows(2) {
        assert!(
            pair[1]
                .tasks
                .iter()
                .all(|task| pair[0].tasks.contains(task))
        );
        assert!(pair[1].tasks.len() < pair[0].tasks.len());
    }
    assert_eq!(with_poison.last().unwrap().tasks, [task(5)]);
    assert!(
        seen.len() <= 9,
        "{} checks for 56 changes with one culprit",
        seen.len()
    );
}

#[tokio::test]
async fn two_changes_that_fail_only_together_cost_one_of_them() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["left+right"]);
    let mut queue = queue(&fleet, &check, Limits::default()).await;
    hand_in(
        &fleet,
        &queue,
        &[(1, "left\n"), (2, "x\n"), (3, "y\n"), (4, "right\n")],
    )
    .await;
    let settled = queue.drain().await.unwrap().settled;
    assert_eq!(landed(&settled).len(), 3);
    assert!(landed(&settled).contains(&2) && landed(&settled).contains(&3));
}

/// Fails every third call, whatever the tree.
#[derive(Debug, Default)]
struct Flaky {
    n_calls: AtomicUsize,
}

#[async_trait]
impl Check for Flaky {
    async fn check(&self, _candidate: &Candidate) -> Result<Verdict, BoxError> {
        let n = self.n_calls.fetch_add(1, Ordering::SeqCst);
        Ok(if n % 3 == 2 {
            Verdict::failed("flake")
        } else {
            Verdict::Passed
        })
    }
}

#[tokio::test]
async fn flaky_checks_reject_nothing_and_do_not_collapse_the_batch() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Arc::new(Flaky::default());
    let limits = Limits::default().with_window(4, 8).with_failures_max(3);
    let mut queue = queue(&fleet, &check, limits).await;
    let changes: Vec<(u128, &str)> = (0..60).map(|n| (n, "fine\n")).collect();
    hand_in(&fleet, &queue, &changes).await;
    let settled = queue.drain().await.unwrap().settled;
    assert_eq!(landed(&settled).len(), 60);
    let n_calls = check.n_calls.load(Ordering::SeqCst);
    assert!(n_calls <= 45, "{n_calls} checks for 60 changes");
}

/// Says that it cannot run until it is repaired.
#[derive(Debug, Default)]
struct Broken {
    n_left: AtomicUsize,
}

#[async_trait]
impl Check for Broken {
    async fn check(&self, _candidate: &Candidate) -> Result<Verdict, BoxError> {
        match self
            .n_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        {
            Ok(_) => Err("no sandbox".into()),
            Err(_) => Ok(Verdict::Passed),
        }
    }
}

#[tokio::test]
async fn a_check_that_cannot_run_blames_no_change() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Arc::new(Broken {
        n_left: AtomicUsize::new(1),
    });
    let mut queue = queue(&fleet, &check, Limits::default()).await;
    hand_in(&fleet, &queue, &[(1, "x\n"), (2, "y\n")]).await;
    let stuck = queue.drain().await.unwrap();
    let failure = stuck.unavailable.unwrap();
    assert_eq!(failure.code, "merge.check_unavailable");
    assert!(stuck.settled.is_empty());
    assert_eq!(landed(&queue.drain().await.unwrap().settled), [1, 2]);
}

#[tokio::test]
async fn several_checks_at_once_land_the_same_tree() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["poison"]);
    let limits = Limits::default().with_window(4, 4).with_checks_max(3);
    let mut queue = queue(&fleet, &check, limits).await;
    let changes: Vec<(u128, &str)> = (0..20)
        .map(|n| (n, if n == 13 { "poison\n" } else { "fine\n" }))
        .collect();
    hand_in(&fleet, &queue, &changes).await;
    let settled = queue.drain().await.unwrap().settled;
    assert_eq!(landed(&settled).len(), 19);
    assert!(matches!(
        queue.intake().status(task(13)),
        Some(Status::Rejected { .. })
    ));
}
