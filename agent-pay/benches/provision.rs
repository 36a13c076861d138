//! How long it takes until an ordered database can be used: from the order to the credentials in
//! the vault, with the money held, charged and recorded durably.
//!
//! `cargo bench -p agent-pay --bench provision`; with `--features postgres`, and `AGENT_PAY_PG_FSYNC=on`
//! in the environment, on a temporary PostgreSQL server that waits for the disk.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a bench is a program"
)]

#[cfg(feature = "postgres")]
#[path = "../tests/provision_postgres/cluster.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod cluster;

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db};
use agent_core::{Amount, Asset, Clock, Env, IdempotencyKey, Principal, SystemClock};
use agent_pay::BudgetPath;
use agent_pay::backend::SqliteAuthority;
use agent_pay::provision::{
    Estate, MemoryVault, Order, Plan, Provisioner, ResourceName, Spec, SqliteDatabases,
};

const N: usize = 100;
const POLICY: &str = "[node.acme]\nlimits = [\"1000000.00 USD lifetime\"]\nfirst_payee = \"allow\"";

fn plan() -> Plan {
    let price = Amount::from_units(10_000, Asset::USD);
    Plan::new("small", price, Duration::from_secs(3_600))
}

async fn estate(dir: &std::path::Path, provisioner: Arc<dyn Provisioner>) -> Estate {
    let env = Env::system();
    let config = Config::new(dir.join("pay.db"));
    let authority = SqliteAuthority::open(Db::open(config, &env).await.unwrap());
    let authority = authority.await.unwrap();
    let book = POLICY.parse().unwrap();
    authority.apply(book, Principal::host()).await.unwrap();
    let vault = Arc::new(MemoryVault::new());
    let estate = Estate::open(authority, provisioner, vault, env.clock);
    estate.await.unwrap()
}

/// Orders one after another and prints how long the half of them took at most. `between` runs
/// unmeasured before each order.
async fn ready(what: &str, offer: &str, estate: &Estate, between: impl AsyncFn()) {
    let (env, clock) = (Env::system(), SystemClock::new());
    let mut all = Vec::new();
    for n in 0..N {
        between().await;
        let name = ResourceName::new(format!("r{n}")).unwrap();
        let until = env.clock.now().after(Duration::from_secs(3_600));
        let order = Order::new(
            IdempotencyKey::new(format!("order-{n}")).unwrap(),
            Spec::new(name, offer, plan()),
            BudgetPath::new("acme").unwrap(),
            Principal::host(),
            until,
        );
        let begun = clock.monotonic();
        let made = estate.provision(order).await.unwrap();
        made.into_resource().unwrap();
        all.push(clock.monotonic() - begun);
    }
    all.sort_unstable();
    let (p50, p95) = (all[N / 2].as_micros(), all[N * 95 / 100].as_micros());
    println!("{what}: ready p50 {p50} us, p95 {p95} us");
}

async fn sqlite(what: &str, n_warm: usize) {
    let dir = tempfile::tempdir().unwrap();
    let databases = SqliteDatabases::new(dir.path(), vec![plan()]).with_n_warm(n_warm);
    let estate = estate(dir.path(), Arc::new(databases.clone())).await;
    let fill = async || {
        databases.fill().await.unwrap();
    };
    ready(what, SqliteDatabases::OFFER, &estate, fill).await;
}

#[cfg(feature = "postgres")]
async fn postgres(what: &str, n_warm: usize) {
    use agent_pay::provision::{PostgresDatabases, PostgresSettings};
    let Some(cluster) = cluster::Cluster::shared() else {
        return;
    };
    let settings = PostgresSettings::new(cluster.dir(), cluster::PORT)
        .with_prefix(cluster.prefix())
        .with_n_warm(n_warm);
    let pool = cluster.pool(cluster::ROLE);
    let databases = PostgresDatabases::new(pool, &Env::system(), settings, vec![plan()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let estate = estate(dir.path(), Arc::new(databases.clone())).await;
    let fill = async || {
        databases.fill().await.unwrap();
    };
    ready(what, PostgresDatabases::OFFER, &estate, fill).await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        sqlite("SQLite database, made when ordered", 0).await;
        sqlite("SQLite database, made ahead", 1).await;
        #[cfg(feature = "postgres")]
        {
            postgres("PostgreSQL database, created when ordered", 0).await;
            postgres("PostgreSQL database, made ahead", 1).await;
        }
    });
}
