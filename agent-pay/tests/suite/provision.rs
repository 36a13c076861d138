//! Provisioners under their laws, and the estate around one: money, crashes, sleep.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; the child is told its directory by the environment"
)]

use crate::common;
mod crash;
mod estate;
mod faulty;
mod kill;
mod making;
mod planted;
mod sqlite;
mod turns;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Shop, money, op, path, who};
use agent_core::Clock;
use agent_pay::Budgets;
use agent_pay::authority::ApprovalRequest;
use agent_pay::provision::{
    Estate, MemoryVault, Order, Plan, Provisioned, Provisioner, ResourceName, Spec, SqliteDatabases,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn resource(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap()
}

fn plans() -> Vec<Plan> {
    vec![
        Plan::new("small", money("0.10 USD"), HOUR)
            .with_idle_after(Duration::from_secs(600))
            .with_storage_bytes_max(64 << 10),
        Plan::new("large", money("1.00 USD"), HOUR).with_storage_bytes_max(1 << 30),
    ]
}

/// A budget of 5 dollars where 2 may be spent alone, and databases in a directory.
struct Yard {
    shop: Shop,
    vault: Arc<MemoryVault>,
    databases: SqliteDatabases,
    estate: Estate,
}

const POLICY: &str = "[node.acme]\nlimits = [\"5.00 USD lifetime\"]\nalone_up_to = \"0.50 USD\"\n\
     first_payee = \"allow\"\napprovers = [\"human:alice\"]";

impl Yard {
    async fn open() -> Self {
        Self::with(|databases| Arc::new(databases.clone())).await
    }

    async fn with(wrap: impl Fn(&SqliteDatabases) -> Arc<dyn Provisioner>) -> Self {
        let shop = Shop::open(POLICY).await;
        let databases = SqliteDatabases::new(shop.dir.path(), plans());
        let vault = Arc::new(MemoryVault::new());
        let clock: Arc<dyn Clock> = Arc::<agent_core::ManualClock>::clone(&shop.clock);
        let (authority, shared) = (shop.authority.clone(), Arc::<MemoryVault>::clone(&vault));
        let estate = Estate::open(authority, wrap(&databases), shared, clock);
        let estate = estate.await.unwrap();
        Self {
            shop,
            vault,
            databases,
            estate,
        }
    }

    fn order(&self, key: &str, name: &str, plan: usize) -> Order {
        let spec = Spec::new(
            resource(name),
            SqliteDatabases::OFFER,
            plans().swap_remove(plan),
        );
        let until = agent_core::Timestamp::from_unix_ms(common::NOON_MS).after(24 * HOUR);
        Order::new(op(key), spec, path("acme"), who("agent_x"), until)
    }

    /// What the node spent and holds.
    async fn money(&self) -> (String, String) {
        let budgets = Budgets::new(Arc::new(self.shop.ledger.clone()));
        let balance = budgets
            .balance(agent_core::Asset::USD, path("acme"))
            .await
            .unwrap();
        (balance.spent.to_string(), balance.held.to_string())
    }
}

fn spent(text: &str) -> (String, String) {
    (text.to_owned(), "0.00 USD".to_owned())
}

/// Returns the request for approval.
fn asked(answer: Provisioned) -> ApprovalRequest {
    match answer {
        Provisioned::NeedsApproval(request) => Ok(request),
        other => Err(other),
    }
    .unwrap()
}
