//! A journal of its own on a clock that a test moves.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Env, ManualClock, SeededEntropy, Timestamp};
use agent_orch::backend::sqlite::Sqlite;
use tempfile::TempDir;

/// A fresh journal, the file it lies in, and the time it goes by.
pub(crate) struct Fresh {
    pub(crate) journal: Sqlite,
    pub(crate) db: Db,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) env: Env,
    pub(crate) dir: TempDir,
}

impl Fresh {
    /// Opens a journal whose ids are drawn from `seed`.
    pub(crate) async fn open(seed: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
        let entropy = Arc::new(SeededEntropy::new(seed));
        let env = Env::new(Arc::<ManualClock>::clone(&clock), entropy);
        let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env.clone()).await.unwrap();
        Self {
            journal,
            db,
            clock,
            env,
            dir,
        }
    }
}
