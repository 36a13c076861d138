//! The store under test: a journal and a ledger in one file.

use std::path::Path;
use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Digest, Env, Principal, RunId, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{Journal, NewRun};
use agent_pay::backend::sqlite as ledger;
use agent_pay::{BudgetPath, OpenBudget};
use serde_json::Value;

/// The most a paid step may cost.
pub(crate) const COST_MAX: &str = "0.03 USD";
/// What a paid step costs.
pub(crate) const COST: &str = "0.02 USD";

/// The threads of a child or of the parent.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn budget() -> BudgetPath {
    BudgetPath::new("kill").unwrap()
}

pub(crate) fn usd(text: &str) -> Amount {
    text.parse().unwrap()
}

pub(crate) fn host() -> Scope {
    Scope::new(Principal::host())
}

/// An open store and its run.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) db: Db,
    pub(crate) journal: Arc<Sqlite>,
    pub(crate) run: RunId,
}

impl Store {
    /// Opens the store, as every process does that takes over: this takes all leases back.
    pub(crate) async fn open(dir: &Path) -> Self {
        let env = Env::system();
        // A killed process leaves the page cache as it is: this is what it survives.
        let config = Config::new(dir.join("j.db")).with_durability(Durability::ProcessKill);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Sqlite::open(db.clone(), env).await.unwrap();
        let open = OpenBudget::new(budget(), usd("1000000 USD"));
        let opened = db.write(move |tx| ledger::open_budget(tx, &open)).await;
        opened.unwrap();
        let run = NewRun::new("kill", Digest::of_bytes(b"spec"), Value::Null);
        let run = journal.open_run(&host(), run).await.unwrap().id;
        Self {
            db,
            journal: Arc::new(journal),
            run,
        }
    }
}
