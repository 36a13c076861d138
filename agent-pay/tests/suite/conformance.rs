//! Every law on every backend and layer.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Env, ManualClock, SeededEntropy, Timestamp};
use agent_pay::backend::{InMemoryLedger, SqliteLedger};
use agent_pay::conformance::Subject;
use agent_pay::layer::{Fault, FaultRates, Retry};

fn env() -> (Env, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_000_000)));
    let entropy = Arc::new(SeededEntropy::new(1));
    (Env::new(Arc::<ManualClock>::clone(&clock), entropy), clock)
}

async fn sqlite_in(dir: &tempfile::TempDir, env: &Env) -> SqliteLedger {
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, env).await.unwrap();
    SqliteLedger::open(db).await.unwrap()
}

mod in_memory {
    use super::*;

    async fn make() -> Subject {
        let (env, clock) = env();
        Subject::new(Arc::new(InMemoryLedger::new(&env)), clock, ())
    }

    agent_pay::ledger_conformance!(make);
}

mod sqlite {
    use super::*;

    async fn make() -> Subject {
        let (env, clock) = env();
        let dir = tempfile::tempdir().unwrap();
        let ledger = sqlite_in(&dir, &env).await;
        Subject::new(Arc::new(ledger), clock, dir)
    }

    agent_pay::ledger_conformance!(make);
}

/// Calls are lost and doubled, and repeated with the same key: the laws hold as before.
mod fault {
    use super::*;

    async fn make() -> Subject {
        let (env, clock) = env();
        let dir = tempfile::tempdir().unwrap();
        let ledger = sqlite_in(&dir, &env).await;
        let faulty = Fault::new(ledger, FaultRates::harsh(), env.entropy);
        let ledger = Retry::new(faulty, env.clock)
            .with_attempts(100)
            .with_delay(std::time::Duration::ZERO);
        Subject::new(Arc::new(ledger), clock, dir)
    }

    agent_pay::ledger_conformance!(make);
}
