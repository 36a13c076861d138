//! What lands, what conflicts, and what waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::{BoxError, Classify, ErrorKind};
use agent_orch::merge::git::Repository;
use agent_orch::merge::{
    Candidate, Check, ConflictKind, Limits, Rejection, Resolution, Status, Verdict,
};
use async_trait::async_trait;

use super::rig::{TARGET, first_parent_line, hand_in, landed};
use crate::merge_common;
use crate::merge_common::{Forbid, fleet, propose, queue, submission, task, texts};

#[tokio::test]
async fn fifty_agents_land_at_once_and_the_landed_tree_was_tested() {
    let fleet = fleet(&[("shared", "1\n2\n3\n4\n5\n6\n"), ("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["poison"]);
    let mut queue = queue(&fleet, &check, Limits::default()).await;
    let mut agents = tokio::task::JoinSet::new();
    for n in 0..50_u128 {
        let (repo, base, intake) = (fleet.repo.clone(), fleet.base, queue.intake());
        agents.spawn(async move {
            // Every tenth agent edits the same line of the same file.
            let (name, text) = match n % 10 {
                0 => ("shared".to_owned(), format!("1\n2\n{n}\n4\n5\n6\n")),
                _ => (format!("d{}/f{n}", n % 5), format!("text {n}\n")),
            };
            let proposal = propose(&repo, base, n, &[(&name, &text)]).await;
            intake.enqueue(submission(&proposal)).await.unwrap()
        });
    }
    while let Some(status) = agents.join_next().await {
        assert_eq!(status.unwrap(), Status::Waiting);
    }
    let settled = queue.drain().await.unwrap().settled;
    assert_eq!(settled.len(), 50);
    let landed = landed(&settled);
    assert_eq!(landed.iter().filter(|n| *n % 10 == 0).count(), 1);
    assert_eq!(landed.len(), 46);
    for conflicted in settled
        .iter()
        .filter(|s| !matches!(s.status, Status::Landed { .. }))
    {
        let Status::Conflicted {
            conflicts,
            resolution,
            ..
        } = &conflicted.status
        else {
            panic!("{conflicted:?}")
        };
        assert_eq!(conflicts[0].path.as_str(), Some("shared"));
        assert_eq!(conflicts[0].kind, ConflictKind::Content);
        assert_eq!(*resolution, Resolution::Author);
    }
    let line: BTreeSet<String> = first_parent_line(&fleet).into_iter().collect();
    assert_eq!(line, landed.iter().map(|n| task(*n).to_string()).collect());
    let tip = fleet.repo.tip(TARGET).await.unwrap();
    let tree = fleet.repo.tree_of(tip).await.unwrap();
    assert!(
        check
            .seen
            .lock()
            .iter()
            .any(|c| c.tree == tree && c.commit == tip)
    );
    assert_eq!(texts(&fleet.repo, tip).await.len(), 2 + 45);
}

#[tokio::test]
async fn an_unresolved_dependency_holds_up_nothing_else() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["poison"]);
    let mut queue = queue(&fleet, &check, Limits::default()).await;
    let absent = task(99);
    let waits = propose(&fleet.repo, fleet.base, 1, &[("a", "1\n")]).await;
    let intake = queue.intake();
    intake
        .enqueue(submission(&waits).with_after(vec![absent]))
        .await
        .unwrap();
    hand_in(&fleet, &queue, &[(2, "x\n"), (3, "y\n"), (4, "poison\n")]).await;
    let doomed = propose(&fleet.repo, fleet.base, 5, &[("b", "1\n")]).await;
    intake
        .enqueue(submission(&doomed).with_after(vec![task(4)]))
        .await
        .unwrap();
    let progress = queue.drain().await.unwrap();
    assert_eq!(landed(&progress.settled), [2, 3]);
    assert_eq!(progress.blocked, [task(1)]);
    let Some(Status::Rejected { rejection, .. }) = intake.status(task(5)) else {
        panic!()
    };
    assert!(matches!(rejection, Rejection::DependencyRejected { task: on, .. } if on == task(4)));
    // The dependency arrives, and both land in order.
    hand_in(&fleet, &queue, &[(99, "there\n")]).await;
    assert_eq!(landed(&queue.drain().await.unwrap().settled), [1, 99]);
    let line = first_parent_line(&fleet);
    assert_eq!(line[2..], [task(99).to_string(), task(1).to_string()]);
}

#[tokio::test]
async fn closing_gives_every_change_a_final_status() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let queue = queue(&fleet, &Forbid::new(&fleet.repo, &[]), Limits::default()).await;
    hand_in(&fleet, &queue, &[(1, "x\n"), (2, "y\n")]).await;
    let intake = queue.intake();
    assert_eq!(queue.close().len(), 2);
    for n in [1, 2] {
        let Some(Status::Rejected { rejection, .. }) = intake.status(task(n)) else {
            panic!()
        };
        assert_eq!(rejection, Rejection::Closed);
    }
}

#[tokio::test]
async fn a_conflict_climbs_from_author_to_resolver_to_human() {
    let fleet = fleet(&[("f", "base\n")]).await;
    let mut queue = queue(&fleet, &Forbid::new(&fleet.repo, &[]), Limits::default()).await;
    let intake = queue.intake();
    let winner = propose(&fleet.repo, fleet.base, 1, &[("f", "winner\n")]).await;
    intake.enqueue(submission(&winner)).await.unwrap();
    queue.drain().await.unwrap();
    let tip = fleet.repo.tip(TARGET).await.unwrap();
    let mut ladder = Vec::new();
    for round in 0..4 {
        let text = format!("loser {round}\n");
        let loser = propose(&fleet.repo, fleet.base, 2, &[("f", &text)]).await;
        intake.enqueue(submission(&loser)).await.unwrap();
        let settled = queue.drain().await.unwrap().settled;
        let Status::Conflicted {
            onto, resolution, ..
        } = settled[0].status
        else {
            panic!()
        };
        assert_eq!(onto, tip);
        // The same commit again gets the same answer.
        let again = intake.enqueue(submission(&loser)).await.unwrap();
        assert_eq!(again, settled[0].status);
        ladder.push(resolution);
    }
    use Resolution::{Author, Human, Resolver};
    assert_eq!(ladder, [Author, Author, Resolver, Human]);
    // Made again on the base it was told, the change lands.
    let resolved = propose(&fleet.repo, tip, 2, &[("f", "both\n")]).await;
    intake.enqueue(submission(&resolved)).await.unwrap();
    assert_eq!(landed(&queue.drain().await.unwrap().settled), [2]);
}

/// Lands something else on the target while the first check runs.
#[derive(Debug)]
struct Rival {
    repo: Repository,
    head: agent_orch::merge::ObjectId,
    done: AtomicUsize,
}

#[async_trait]
impl Check for Rival {
    async fn check(&self, candidate: &Candidate) -> Result<Verdict, BoxError> {
        if self.done.fetch_add(1, Ordering::SeqCst) == 0 {
            let item =
                agent_orch::merge::git::LandItem::new(task(77), merge_common::agent(77), self.head);
            let built = self.repo.build(TARGET, candidate.onto, vec![item]).await?;
            let step = &built.steps[0];
            self.repo
                .land(TARGET, candidate.onto, step.commit, step.tree)
                .await?;
        }
        Ok(Verdict::Passed)
    }
}

#[tokio::test]
async fn a_lost_race_is_planned_anew_on_the_winners_commit() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let rival = propose(&fleet.repo, fleet.base, 77, &[("rival", "r\n")]).await;
    let done = AtomicUsize::new(0);
    let check = Arc::new(Rival {
        repo: fleet.repo.clone(),
        head: rival.head,
        done,
    });
    let mut queue = queue(&fleet, &check, Limits::default()).await;
    hand_in(&fleet, &queue, &[(1, "x\n"), (2, "y\n")]).await;
    assert_eq!(landed(&queue.drain().await.unwrap().settled), [1, 2]);
    assert_eq!(first_parent_line(&fleet).len(), 3);
    let tip = fleet.repo.tip(TARGET).await.unwrap();
    assert_eq!(texts(&fleet.repo, tip).await.len(), 4);
}

#[tokio::test]
async fn an_untested_tree_does_not_land() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let tip = fleet.repo.open_target(TARGET, fleet.base).await.unwrap();
    let change = propose(&fleet.repo, fleet.base, 1, &[("a", "1\n")]).await;
    let tested = fleet.repo.tree_of(fleet.base).await.unwrap();
    let error = fleet
        .repo
        .land(TARGET, tip, change.head, tested)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Internal, "merge.untested")
    );
    assert_eq!(fleet.repo.tip(TARGET).await.unwrap(), tip);
}
