//! Proposing: what a draft becomes, and which are refused.

use std::collections::BTreeSet;

use agent_core::{Classify, ErrorKind};
use agent_orch::merge::ObjectId;
use agent_orch::merge::git::{Draft, Edit};

use crate::merge_common::{agent, draft, fleet, path, task};

#[tokio::test]
async fn the_same_draft_makes_the_same_signed_commit() {
    let fleet = fleet(&[("a", "1"), ("b", "2")]).await;
    let sign =
        |bytes: Vec<u8>| async move { Ok(Some(agent_core::Digest::of_bytes(&bytes).to_string())) };
    let make =
        || draft(fleet.base, 7, &[("a", "changed"), ("new/file", "n")]).with_trailer("Run", "r1");
    let first = fleet.repo.propose(make(), sign).await.unwrap();
    let second = fleet.repo.propose(make(), sign).await.unwrap();
    assert_eq!(first, second);
    let read = fleet.repo.proposal(first.head).await.unwrap();
    assert_eq!(read, first);
    assert_eq!(
        (read.task, read.agent, read.base),
        (task(7), agent(7), fleet.base)
    );
    let signed = read.signed_bytes();
    assert_eq!(
        read.signature,
        Some(agent_core::Digest::of_bytes(&signed).to_string())
    );
    let text = String::from_utf8(signed).unwrap();
    assert!(text.starts_with("agent-orch.change.v1\n") && text.contains(&read.tree.to_string()));
    let keys: Vec<&str> = read.trailers.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["Agent", "Task", "Run", "Signature"]);
    let changed = fleet
        .repo
        .changed_paths(fleet.base, first.head)
        .await
        .unwrap();
    assert_eq!(changed, BTreeSet::from([path("a"), path("new/file")]));
    let branch = format!("refs/heads/agents/changes/{}", task(7));
    assert_eq!(fleet.repo.resolve(&branch).await.unwrap(), first.head);
}

#[tokio::test]
async fn a_message_cannot_forge_trailers() {
    let fleet = fleet(&[("a", "1")]).await;
    let mut forged = draft(fleet.base, 1, &[("a", "x")]);
    forged.message = format!("Subject\n\nTask: {}\nSignature: forged", task(2));
    let made = fleet
        .repo
        .propose(forged, |_| async { Ok(None) })
        .await
        .unwrap();
    assert_eq!((made.task, made.signature), (task(1), None));
    for (key, value) in [
        ("Task", "x"),
        ("signature", "x"),
        ("A b", "x"),
        ("X", "a\nTask: b"),
    ] {
        let bad = draft(fleet.base, 1, &[("a", "x")]).with_trailer(key, value);
        let refused = fleet
            .repo
            .propose(bad, |_| async { Ok(None) })
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{key}");
    }
}

#[tokio::test]
async fn bad_drafts_are_refused() {
    let fleet = fleet(&[("a", "1"), ("d/b", "2")]).await;
    let refuse = |draft: Draft| {
        let repo = fleet.repo.clone();
        async move {
            repo.propose(draft, |_| async { Ok(None) })
                .await
                .unwrap_err()
                .code()
        }
    };
    let base = fleet.base;
    assert_eq!(refuse(draft(base, 1, &[])).await, "merge.nothing_changed");
    assert_eq!(
        refuse(draft(base, 1, &[("a", "1")])).await,
        "merge.nothing_changed"
    );
    assert_eq!(
        refuse(draft(base, 1, &[("absent", "")])).await,
        "merge.not_found"
    );
    assert_eq!(
        refuse(draft(base, 1, &[("d", "a file")])).await,
        "merge.not_a_file"
    );
    assert_eq!(
        refuse(draft(base, 1, &[("x", "1"), ("x/y", "2")])).await,
        "merge.not_a_file"
    );
    let nowhere = ObjectId::from_bytes([7; 20]);
    assert_eq!(
        refuse(draft(nowhere, 1, &[("a", "2")])).await,
        "merge.not_found"
    );
    let mut large = draft(base, 1, &[]);
    large
        .edits
        .insert(path("a"), Edit::Put(vec![0; Draft::BYTES_MAX + 1]));
    assert_eq!(refuse(large).await, "merge.too_large");
    let unsigned = fleet
        .repo
        .propose(draft(base, 1, &[("a", "2")]), |_| async {
            Err("the vault is locked".into())
        });
    assert_eq!(unsigned.await.unwrap_err().code(), "merge.unsigned");
}

#[tokio::test]
async fn only_the_fleets_branches_are_targets() {
    let fleet = fleet(&[("a", "1")]).await;
    for target in [
        "refs/heads/main",
        "refs/heads/agents/",
        "refs/heads/agents/changes/x",
        "HEAD",
    ] {
        let refused = fleet
            .repo
            .open_target(target, fleet.base)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{target}");
    }
}
