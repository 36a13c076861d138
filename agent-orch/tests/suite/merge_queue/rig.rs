//! Handing changes in, and what landed of them.

use agent_orch::merge::{MergeQueue, QueueConfig, Settled, Status};

use crate::merge_common::{Fleet, propose, submission};

pub(super) const TARGET: &str = QueueConfig::TARGET_DEFAULT;

/// Hands in `n` changes, each to a file of its own, with the text `text(i)`.
pub(super) async fn hand_in(fleet: &Fleet, queue: &MergeQueue, texts: &[(u128, &str)]) {
    for (n, text) in texts {
        let name = format!("dir{}/file{n}", n % 7);
        let proposal = propose(&fleet.repo, fleet.base, *n, &[(&name, text)]).await;
        let status = queue.intake().enqueue(submission(&proposal)).await.unwrap();
        assert_eq!(status, Status::Waiting);
    }
}

pub(super) fn landed(settled: &[Settled]) -> Vec<u128> {
    let landed = settled
        .iter()
        .filter(|s| matches!(s.status, Status::Landed { .. }));
    let mut landed: Vec<u128> = landed.map(|s| s.task.to_bits()).collect();
    landed.sort_unstable();
    landed
}

/// Checks that the target's first-parent line holds one merge per landed task, and returns them
/// from the oldest.
pub(super) fn first_parent_line(fleet: &Fleet) -> Vec<String> {
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
