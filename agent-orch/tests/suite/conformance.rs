//! Every backend passes the laws of the journal.

use std::sync::Arc;

use crate::journal_common::Fresh;
use agent_core::store::Db;
use agent_orch::conformance::Subject;
use tempfile::TempDir;

mod sqlite {
    use super::*;

    async fn make() -> (Subject, (Db, TempDir)) {
        let fresh = Fresh::open(7).await;
        let subject = Subject::new(Arc::new(fresh.journal), fresh.clock, fresh.env);
        (subject, (fresh.db, fresh.dir))
    }

    agent_orch::journal_conformance!(make);
}

mod fault {
    use agent_orch::layer::{Fault, FaultRates};

    use super::*;

    async fn make() -> (Subject, (Db, TempDir)) {
        let fresh = Fresh::open(7).await;
        let entropy = Arc::clone(&fresh.env.entropy);
        let journal = Fault::new(fresh.journal, FaultRates::default(), entropy);
        let subject = Subject::new(Arc::new(journal), fresh.clock, fresh.env);
        (subject, (fresh.db, fresh.dir))
    }

    agent_orch::journal_conformance!(make);
}
