//! The laws of history over many random walks; a failing seed is printed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Env, ManualClock, SeededEntropy, Timestamp};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::conformance::{Subject, everything_ends, records_fold_to_what_is};
use tempfile::TempDir;

/// As many as take a few seconds.
const SEEDS: u64 = 24;

async fn subject(seed: u64) -> (Subject, (Db, TempDir)) {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
    let entropy = Arc::new(SeededEntropy::new(seed));
    let env = Env::new(Arc::<ManualClock>::clone(&clock), entropy);
    let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &env).await.unwrap();
    let journal = Sqlite::open(db.clone(), env.clone()).await.unwrap();
    (Subject::new(Arc::new(journal), clock, env), (db, dir))
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
