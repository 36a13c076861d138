//! An authority in a directory of its own, and short names.

#![expect(clippy::unwrap_used, reason = "tests")]

pub(crate) mod planted;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    Amount, Clock, Env, IdempotencyKey, ManualClock, Principal, SeededEntropy, Timestamp,
};
use agent_pay::authority::{
    ApprovalRequest, ApprovalState, Authorization, Intent, Origin, Payee, PolicyBook, PriceBasis,
    SpendHold, Vote,
};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::{BudgetPath, Ledger};
use planted::{Bug, Planted};

/// A team of two: one spends alone up to a line, the other always asks.
pub(crate) const TREE: &str = r#"
[node.acme]
limits = ["100.00 USD lifetime", "40.00 USD per_transaction"]
first_payee = "allow"
approvers = ["human:alice"]

[node."acme/team"]
limits = ["50.00 USD lifetime"]

[node."acme/team/a"]
alone_up_to = "5.00 USD"

[node."acme/team/b"]
alone_up_to = "0 USD"
"#;

pub(crate) struct Shop {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Planted,
    pub(crate) ledger: SqliteLedger,
    pub(crate) dir: tempfile::TempDir,
}

/// Noon of the 25th of November 2026, a Wednesday.
pub(crate) const NOON_MS: i64 = 1_795_608_000_000;

impl Shop {
    pub(crate) async fn open(policy: &str) -> Self {
        Self::with(None, policy).await
    }

    /// Opens one with a bug.
    pub(crate) async fn with(bug: Option<Bug>, policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(NOON_MS)));
        let (authority, ledger) = connect(dir.path(), &clock).await;
        let authority = Planted::new(authority, bug);
        let book: PolicyBook = policy.parse().unwrap();
        authority.apply(book, who("host")).await.unwrap();
        Self {
            clock,
            authority,
            ledger,
            dir,
        }
    }

    /// Ends everything and opens it again, as after a restart.
    pub(crate) async fn restart(self) -> Self {
        self.authority.db().close().await;
        let Self { clock, dir, .. } = self;
        let (authority, ledger) = connect(dir.path(), &clock).await;
        Self {
            clock,
            authority: Planted::new(authority, self.authority.bug),
            ledger,
            dir,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// An intent nothing is wrong with: a known price, a payee from the catalogue, an hour.
    pub(crate) fn intent(&self, key: &str, node: &str, amount: &str) -> Intent {
        let payee = Payee::new("shop:tea", Origin::Catalogue);
        let until = self.now().after(Duration::from_secs(3_600));
        Intent::new(
            op(key),
            path(node),
            who("agent_x"),
            money(amount),
            payee,
            until,
        )
        .with_basis(PriceBasis::RateCard)
        .with_resource("tea", "to drink")
    }

    pub(crate) async fn authorize(&self, intent: &Intent) -> Authorization {
        self.authority.authorize(intent.clone()).await.unwrap()
    }

    pub(crate) async fn held(&self, intent: &Intent) -> SpendHold {
        self.authorize(intent).await.into_hold().unwrap()
    }

    pub(crate) async fn capture(&self, key: &str, amount: &str) {
        let captured = self.authority.capture(op(key), money(amount));
        assert_eq!(captured.await.unwrap().captured, money(amount));
    }

    /// Returns the code of a denial.
    pub(crate) async fn denied(&self, intent: &Intent) -> &'static str {
        match self.authorize(intent).await {
            Authorization::Denied(refusal) => Ok(refusal.code),
            other => Err(other),
        }
        .unwrap()
    }

    /// Returns the request for approval.
    pub(crate) async fn asked(&self, intent: &Intent) -> ApprovalRequest {
        match self.authorize(intent).await {
            Authorization::NeedsApproval(request) => Ok(request),
            other => Err(other),
        }
        .unwrap()
    }

    pub(crate) async fn vote(
        &self,
        intent: &Intent,
        voter: &str,
        vote: Vote,
    ) -> agent_pay::Result<ApprovalState> {
        let digest = intent.digest().unwrap();
        let request = self.authority.vote(digest, who(voter), vote).await?;
        Ok(request.state)
    }

    /// Checks the whole ledger and that every stored decision comes out the same again.
    pub(crate) async fn check(&self) {
        self.ledger.verify(None).await.unwrap();
        for sums in self.ledger.trial_balance().await.unwrap() {
            assert!(sums.is_balanced());
        }
        for id in 1.. {
            let Some(stored) = self.authority.decision(id).await.unwrap() else {
                break;
            };
            let is_same = agent_pay::backend::sqlite::authority::replay(&stored).unwrap();
            assert!(is_same, "decision {id}: {:?}", stored.rules);
        }
    }
}

async fn connect(dir: &Path, clock: &Arc<ManualClock>) -> (SqliteAuthority, SqliteLedger) {
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let env = Env::new(shared, Arc::new(SeededEntropy::new(1)));
    let config = Config::new(dir.join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &env).await.unwrap();
    let authority = SqliteAuthority::open(db.clone()).await.unwrap();
    (authority, SqliteLedger::open(db).await.unwrap())
}

pub(crate) fn op(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

pub(crate) fn path(text: &str) -> BudgetPath {
    BudgetPath::new(text).unwrap()
}

pub(crate) fn who(text: &str) -> Principal {
    Principal::new(text).unwrap()
}

pub(crate) fn money(text: &str) -> Amount {
    text.parse().unwrap()
}
