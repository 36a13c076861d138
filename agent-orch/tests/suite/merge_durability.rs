//! A process that lands changes is killed at any moment; what it acknowledged is there, and nothing
//! is half there.

#![cfg(all(feature = "git", unix))]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use crate::merge_common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::merge_common::{
    Fleet, Forbid, fleet, fleet_with, git, propose, queue, submission, task,
};
use agent_core::TaskId;
use agent_orch::merge::git::{CloneOptions, Repository};
use agent_orch::merge::{Limits, MergeQueue, QueueConfig, Status};

const TARGET: &str = QueueConfig::TARGET_DEFAULT;
const CHILD_VARIABLE: &str = "MERGE_DURABILITY_CHILD";

/// Lands five changes at a time and says so, until it is killed.
async fn land_for_ever(clone: &Path, first: u128) {
    let repo = Repository::open_clone(clone).await.unwrap();
    let base = repo.resolve("refs/heads/agents/source").await.unwrap();
    let check = Forbid::new(&repo, &[]);
    let mut queue = MergeQueue::open(repo.clone(), QueueConfig::new(base), check)
        .await
        .unwrap();
    for batch in 0.. {
        for n in (first + batch * 5)..(first + batch * 5 + 5) {
            let (name, text) = (format!("d{}/f{n}", n % 3), format!("text {n}\n"));
            let proposal = propose(&repo, base, n, &[(&name, &text)]).await;
            queue.intake().enqueue(submission(&proposal)).await.unwrap();
        }
        for settled in queue.drain().await.unwrap().settled {
            println!("landed {}", settled.task);
        }
        std::io::stdout().flush().unwrap();
    }
}

/// The child's entry: does nothing unless the parent test starts it.
#[tokio::test]
async fn child_that_is_killed() {
    if let Some(clone) = std::env::var_os(CHILD_VARIABLE) {
        let name = clone.into_string().unwrap();
        let (path, first) = name.rsplit_once(':').unwrap();
        land_for_ever(Path::new(path), first.parse().unwrap()).await;
    }
}

/// Starts the child, kills it after it acknowledged `n_lines`, and returns what it acknowledged.
fn kill_after(clone: &Path, first: u128, n_lines: usize) -> BTreeSet<TaskId> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "merge_durability::child_that_is_killed",
            "--nocapture",
        ])
        .env(CHILD_VARIABLE, format!("{}:{first}", clone.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = lines.map_while(Result::ok);
    let acknowledged = acknowledged.filter_map(|line| {
        line.split_once("landed ")
            .and_then(|(_, id)| id.trim().parse().ok())
    });
    let acknowledged = acknowledged.take(n_lines).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged
}

#[tokio::test]
async fn killed_at_any_moment_the_target_is_whole_and_nothing_acknowledged_is_lost() {
    let Fleet { dir, repo, base } = fleet(&[("keep", "k\n")]).await;
    let clone = repo.path().to_owned();
    drop(repo);
    let mut acknowledged: BTreeSet<TaskId> = BTreeSet::new();
    for (round, n_lines) in [1, 7, 10, 23].into_iter().enumerate() {
        let first = u128::try_from(round).unwrap() * 1_000;
        acknowledged.extend(kill_after(&clone, first, n_lines));
    }
    assert_eq!(acknowledged.len(), 41);
    let repo = Repository::open_clone(&clone).await.unwrap();
    let fleet = Fleet { dir, repo, base };
    let mut queue = queue(&fleet, &Forbid::new(&fleet.repo, &[]), Limits::default()).await;
    let landed = fleet.repo.all_landed(TARGET).await.unwrap();
    assert!(acknowledged.iter().all(|task| landed.contains_key(task)));
    // Every landed file is readable, once: the kept file and one for each task.
    let tip = fleet.repo.tip(TARGET).await.unwrap();
    assert_eq!(
        merge_common::texts(&fleet.repo, tip).await.len(),
        1 + landed.len()
    );
    // What was proposed and did not land is queued again; what landed is not merged again.
    let open = fleet.repo.open_changes().await.unwrap();
    let mut waiting = 0;
    for proposal in &open {
        match queue.intake().enqueue(submission(proposal)).await.unwrap() {
            Status::Waiting => waiting += 1,
            status => assert!(matches!(status, Status::Landed { .. })),
        }
    }
    assert_eq!(queue.drain().await.unwrap().settled.len(), waiting);
    assert_eq!(
        fleet.repo.all_landed(TARGET).await.unwrap().len(),
        landed.len() + waiting
    );
    if let Some((sound, said)) = git(fleet.repo.path(), &["fsck", "--strict"]) {
        assert!(sound, "{said}");
    }
}

#[tokio::test]
async fn a_lock_left_by_a_killed_process_is_removed() {
    let fleet = fleet_with(&[("keep", "k\n")], CloneOptions::default()).await;
    fleet.repo.open_target(TARGET, fleet.base).await.unwrap();
    let clone = fleet.repo.path().to_owned();
    let stale = clone.join(format!("{TARGET}.lock"));
    let Fleet { dir, repo, base } = fleet;
    drop(repo);
    fs::write(&stale, "").unwrap();
    let repo = loop {
        // The thread of the dropped handle may still hold the clone.
        match Repository::open_clone(&clone).await {
            Ok(repo) => break repo,
            Err(_in_use) => tokio::task::yield_now().await,
        }
    };
    let fleet = Fleet { dir, repo, base };
    let mut queue = queue(&fleet, &Forbid::new(&fleet.repo, &[]), Limits::default()).await;
    let proposal = propose(&fleet.repo, base, 1, &[("a", "1\n")]).await;
    queue.intake().enqueue(submission(&proposal)).await.unwrap();
    assert_eq!(queue.drain().await.unwrap().settled.len(), 1);
    assert!(fleet.repo.landed(TARGET, task(1)).await.unwrap().is_some());
    assert!(!stale.exists());
}
