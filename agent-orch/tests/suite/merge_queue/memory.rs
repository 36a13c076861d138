//! What a queue remembers, and what it finds in the repository again.

use std::sync::Arc;

use agent_core::{Classify, ErrorKind};
use agent_orch::merge::{Limits, MergeQueue, QueueConfig, Status};

use super::rig::{TARGET, hand_in, landed};
use crate::merge_common::{Forbid, fleet, propose, queue, submission, task};

#[tokio::test]
async fn a_task_whose_change_landed_is_not_merged_again() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &[]);
    let mut first = queue(&fleet, &check, Limits::default()).await;
    hand_in(&fleet, &first, &[(1, "x\n")]).await;
    first.drain().await.unwrap();
    let tip = fleet.repo.tip(TARGET).await.unwrap();
    // The process dies before it records this. A worker of the next one does the task again.
    drop(first);
    let mut second = queue(&fleet, &check, Limits::default()).await;
    let redone = propose(&fleet.repo, tip, 1, &[("other", "again\n")]).await;
    let status = second.intake().enqueue(submission(&redone)).await.unwrap();
    assert!(matches!(status, Status::Landed { commit, .. } if commit == tip));
    assert!(second.drain().await.unwrap().settled.is_empty());
    assert_eq!(fleet.repo.tip(TARGET).await.unwrap(), tip);
}

#[tokio::test]
async fn a_change_that_arrives_between_draining_and_waiting_is_not_missed() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let mut queue = queue(&fleet, &Forbid::new(&fleet.repo, &[]), Limits::default()).await;
    assert!(queue.drain().await.unwrap().settled.is_empty());
    hand_in(&fleet, &queue, &[(1, "x\n")]).await;
    queue.wait().await;
    assert_eq!(landed(&queue.drain().await.unwrap().settled), [1]);
}

#[tokio::test]
async fn a_queue_that_lost_its_memory_finds_its_changes_in_the_repository() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["poison"]);
    let first = queue(&fleet, &check, Limits::default()).await;
    hand_in(&fleet, &first, &[(1, "x\n"), (2, "y\n")]).await;
    drop(first);
    let mut second = queue(&fleet, &check, Limits::default()).await;
    let open = fleet.repo.open_changes().await.unwrap();
    assert_eq!(
        open.iter().map(|p| p.task).collect::<Vec<_>>(),
        [task(1), task(2)]
    );
    for proposal in &open {
        second.intake().enqueue(submission(proposal)).await.unwrap();
    }
    assert_eq!(landed(&second.drain().await.unwrap().settled), [1, 2]);
    assert!(fleet.repo.open_changes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_kept_snapshot_remembers_who_is_suspect() {
    let fleet = fleet(&[("keep", "k\n")]).await;
    let check = Forbid::new(&fleet.repo, &["poison"]);
    let mut first = queue(&fleet, &check, Limits::default()).await;
    hand_in(&fleet, &first, &[(1, "x\n"), (2, "poison\n")]).await;
    first.drain().await.unwrap();
    let n_before = check.n_checks();
    let text = serde_json::to_string(&first.intake().snapshot()).unwrap();
    drop(first);
    let other = serde_json::from_str(&text.replace("\"version\":1", "\"version\":2")).unwrap();
    let config = QueueConfig::new(fleet.base).with_snapshot(other);
    let refused = MergeQueue::open(fleet.repo.clone(), config, Arc::<Forbid>::clone(&check)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    let snapshot = serde_json::from_str(&text).unwrap();
    let config = QueueConfig::new(fleet.base).with_snapshot(snapshot);
    let mut second = MergeQueue::open(fleet.repo.clone(), config, Arc::<Forbid>::clone(&check))
        .await
        .unwrap();
    let rejected = fleet.repo.open_changes().await.unwrap().remove(0);
    let status = second
        .intake()
        .enqueue(submission(&rejected))
        .await
        .unwrap();
    assert!(matches!(status, Status::Rejected { .. }));
    second.drain().await.unwrap();
    assert_eq!(check.n_checks(), n_before);
}
