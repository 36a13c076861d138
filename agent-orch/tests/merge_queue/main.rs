//! The merge queue on real repositories.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod merge_common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::{BoxError, Classify, ErrorKind};
use agent_orch::merge::git::Repository;
use agent_orch::merge::{
    Candidate, Check, ConflictKind, Limits, MergeQueue, QueueConfig, Rejection, Resolution,
    Settled, Status, Verdict,
};
use async_trait::async_trait;
use merge_common::{Fleet, Forbid, fleet, propose, queue, submission, task, texts};

const TARGET: &str = QueueConfig::TARGET_DEFAULT;

/// Hands in `n` changes, each to a file of its own, with the text `text(i)`.
async fn hand_in(fleet: &Fleet, queue: &MergeQueue, texts: &[(u128, &str)]) {
    for (n, text) in texts {
        let name = format!("dir{}/file{n}", n % 7);
        let proposal = propose(&fleet.repo, fleet.base, *n, &[(&name, text)]).await;
        let status = queue.intake().enqueue(submission(&proposal)).await.unwrap();
        assert_eq!(status, Status::Waiting);
    }
}

fn landed(settled: &[Settled]) -> Vec<u128> {
    let landed = settled
        .iter()
        .filter(|s| matches!(s.status, Status::Landed { .. }));
    let mut landed: Vec<u128> = landed.map(|s| s.task.to_bits()).collect();
    landed.sort_unstable();
    landed
}

/// Checks that the target's first-parent line holds one merge per landed task, and returns them
/// from the oldest.
fn first_parent_line(fleet: &Fleet) -> Vec<String> {
    let repo = git2::Repository::open_bare(fleet.repo.path()).unwrap();
    let mut commit = repo
        .find_reference(TARGET)
        .unwrap()
        .peel_to_commit()
        .unwrap();
    let mut line = Vec::new();
    while commit.id().to_string() != fleet.base.to_string() {
        assert_eq!(commit.parent_count(), 2);
        let message = commit.message().unwrap().to_owned();
        let trailer = |key: &str| {
            let lines: Vec<&str> = message
                .lines()
                .filter_map(|l| l.strip_prefix(key))
                .collect();
            assert_eq!(lines.len(), 1, "{message}");
            lines[0].to_owned()
        };
        assert_eq!(
            trailer("Change: "),
            commit.parent_id(1).unwrap().to_string()
        );
        assert_eq!(trailer("Agent: "), commit.author().name().unwrap());
        line.push(trailer("Task: "));
        commit = commit.parent(0).unwrap();
    }
    line.reverse();
    line
}

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
