//! The laws of history over many random walks; a failing seed is printed.

use std::sync::Arc;

use crate::journal_common::Fresh;
use agent_core::store::Db;
use agent_orch::conformance::{Subject, everything_ends, records_fold_to_what_is};
use tempfile::TempDir;

/// As many as take a few seconds.
const SEEDS: u64 = 24;

async fn subject(seed: u64) -> (Subject, (Db, TempDir)) {
    let fresh = Fresh::open(seed).await;
    let subject = Subject::new(Arc::new(fresh.journal), fresh.clock, fresh.env);
    (subject, (fresh.db, fresh.dir))
}

#[tokio::test]
async fn records_fold_to_what_is_on_every_walk() {
    for seed in 0..SEEDS {
        let (subject, _guard) = subject(seed).await;
        if let Err(broken) = records_fold_to_what_is(subject).await {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[tokio::test]
async fn everything_ends_after_every_walk() {
    for seed in 0..SEEDS {
        let (subject, _guard) = subject(seed).await;
        if let Err(broken) = everything_ends(subject).await {
            panic!("seed {seed}: {broken}");
        }
    }
}
