//! Every backend passes the laws of the journal.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Env, ManualClock, SeededEntropy, Timestamp};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::conformance::Subject;
use tempfile::TempDir;

mod sqlite {
    use super::*;

    async fn make() -> (Subject, (Db, TempDir)) {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
        let env = Env::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededEntropy::new(7)),
        );
        let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env.clone()).await.unwrap();
        (Subject::new(Arc::new(journal), clock, env), (db, dir))
    }

    agent_orch::journal_conformance!(make);
}

mod fault {
    use agent_orch::layer::{Fault, FaultRates};

    use super::*;

    async fn make() -> (Subject, (Db, TempDir)) {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000)));
        let env = Env::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededEntropy::new(7)),
        );
        let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env.clone()).await.unwrap();
        let rates = FaultRates::default();
        let journal = Fault::new(journal, rates, Arc::clone(&env.entropy));
        (Subject::new(Arc::new(journal), clock, env), (db, dir))
    }

    agent_orch::journal_conformance!(make);
}
