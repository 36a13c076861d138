//! Databases on a temporary PostgreSQL server of this machine: the laws, privileges, what is made
//! ahead, and calls that were cut off.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod cluster;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Asset, Classify, Env, ErrorKind, ExposeSecret, Secret};
use agent_pay::conformance::ProvisionerSubject;
use agent_pay::provision::{
    BlockerCode, CredentialName, MemoryVault, Plan, PostgresDatabases, PostgresSettings,
    Provisioner, ResourceName, Spec,
};
use cluster::Cluster;
use tokio_postgres::{Client, NoTls};

fn plans() -> Vec<Plan> {
    let usd = |units| Amount::from_units(units, Asset::USD);
    let hour = Duration::from_secs(3_600);
    vec![
        Plan::new("small", usd(1_000), hour).with_sessions_max(2),
        Plan::new("large", usd(2_000), hour).with_sessions_max(8),
    ]
}

fn resource(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap()
}

fn spec(name: &str) -> Spec {
    Spec::new(
        resource(name),
        PostgresDatabases::OFFER,
        plans().swap_remove(0),
    )
}

/// A provisioner of its own prefix, so that laws do not see one another's databases.
fn databases(cluster: &Cluster, n_warm: usize) -> PostgresDatabases {
    let settings = PostgresSettings::new(cluster.dir(), cluster::PORT)
        .with_prefix(cluster.prefix())
        .with_n_warm(n_warm);
    PostgresDatabases::new(
        cluster.pool(cluster::ROLE),
        &Env::system(),
        settings,
        plans(),
    )
    .unwrap()
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    driver.detach_all();
    Ok(client)
}

async fn opens(values: BTreeMap<CredentialName, Secret>) -> bool {
    let Some(url) = values.into_values().next() else {
        return false;
    };
    let Ok(client) = connect(url.expose_secret()).await else {
        return false;
    };
    let used = client.batch_execute(
        "CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1); DROP TABLE t",
    );
    used.await.is_ok()
}

/// Keeps a note in a database in the place of the one before it, or reads it.
async fn notes(values: BTreeMap<CredentialName, Secret>, note: Option<String>) -> Option<String> {
    let url = values.into_values().next()?;
    let client = connect(url.expose_secret()).await.ok()?;
    if let Some(note) = note {
        let table = "CREATE TABLE IF NOT EXISTS note (n text); DELETE FROM note";
        client.batch_execute(table).await.ok()?;
        let insert = "INSERT INTO note VALUES ($1)";
        client.execute(insert, &[&note]).await.ok()?;
    }
    let row = client.query_one("SELECT n FROM note", &[]).await.ok()?;
    row.try_get(0).ok()
}

fn subject(n_warm: usize) -> Option<ProvisionerSubject> {
    let cluster = Cluster::shared()?;
    let databases = databases(cluster, n_warm);
    Some(ProvisionerSubject::new(Arc::new(databases), opens, ()).with_notes(notes))
}

mod cold {
    async fn make() -> Option<agent_pay::conformance::ProvisionerSubject> {
        super::subject(0)
    }

    agent_pay::provisioner_conformance!(make);
}

mod warm {
    use super::*;

    async fn make() -> Option<ProvisionerSubject> {
        let cluster = Cluster::shared()?;
        let databases = databases(cluster, 2);
        databases.fill().await.unwrap();
        Some(ProvisionerSubject::new(Arc::new(databases), opens, ()).with_notes(notes))
    }

    agent_pay::provisioner_conformance!(make);
}

async fn url(databases: &PostgresDatabases, vault: &MemoryVault, name: &str) -> String {
    let made = databases.create(&spec(name), vault).await.unwrap();
    vault
        .get(made.first().unwrap())
        .unwrap()
        .expose_secret()
        .to_owned()
}

#[tokio::test]
async fn a_role_reaches_its_own_database_alone_and_may_make_nothing_else() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (databases, vault) = (databases(cluster, 0), MemoryVault::new());
    let one = url(&databases, &vault, "one").await;
    let two = url(&databases, &vault, "two").await;
    let client = connect(&one).await.unwrap();
    for forbidden in [
        "CREATE DATABASE more",
        "CREATE ROLE more",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT 100",
        "SELECT * FROM pg_authid",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ] {
        assert!(
            client.batch_execute(forbidden).await.is_err(),
            "{forbidden}"
        );
    }
    // With its own password it does not come into the other's database.
    let (_, other) = two.rsplit_once('/').unwrap();
    let (own, _) = one.rsplit_once('/').unwrap();
    assert!(connect(&format!("{own}/{other}")).await.is_err());
}

#[tokio::test]
async fn the_sessions_of_a_plan_are_a_limit() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (databases, vault) = (databases(cluster, 0), MemoryVault::new());
    let url = url(&databases, &vault, "notes").await;
    let _first = connect(&url).await.unwrap();
    let _second = connect(&url).await.unwrap();
    assert!(connect(&url).await.is_err());
    let large = Spec::new(
        resource("notes"),
        PostgresDatabases::OFFER,
        plans().swap_remove(1),
    );
    databases.alter(&large, true).await.unwrap();
    let _third = connect(&url).await.unwrap();
    let found = databases.inspect(&resource("notes")).await.unwrap();
    let found = found.unwrap();
    assert_eq!(found.n_sessions, Some(3));
    assert!(found.storage_bytes.is_some_and(|bytes| bytes > 1 << 20));
}

#[tokio::test]
async fn one_at_work_stays_awake_and_idle_sessions_end() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (databases, vault) = (databases(cluster, 0), MemoryVault::new());
    let url = url(&databases, &vault, "notes").await;
    let client = connect(&url).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let refused = databases.alter(&spec("notes"), false).await.unwrap_err();
    assert_eq!(refused.code(), "pay.resource_in_use");
    client.batch_execute("COMMIT").await.unwrap();
    databases.alter(&spec("notes"), false).await.unwrap();
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(connect(&url).await.is_err());
}

#[tokio::test]
async fn what_is_made_ahead_is_used_up_and_made_again() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (databases, vault) = (databases(cluster, 2), MemoryVault::new());
    assert_eq!(databases.fill().await.unwrap(), 2);
    assert_eq!(databases.fill().await.unwrap(), 0);
    // Nobody sees it before it is somebody's.
    assert_eq!(databases.list().await.unwrap(), []);
    for name in ["one", "two", "three"] {
        url(&databases, &vault, name).await;
    }
    assert_eq!(databases.list().await.unwrap().len(), 3);
    assert_eq!(databases.fill().await.unwrap(), 2);
}

#[tokio::test]
async fn two_at_once_never_get_the_same_database() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let databases = databases(cluster, 3);
    databases.fill().await.unwrap();
    let vault = Arc::new(MemoryVault::new());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..5 {
        let (databases, vault) = (databases.clone(), Arc::clone(&vault));
        tasks.spawn(async move { url(&databases, &vault, &format!("r{n}")).await });
    }
    let urls = tasks.join_all().await;
    for (n, url) in urls.iter().enumerate() {
        let client = connect(url).await.unwrap();
        let make = format!("CREATE TABLE mine_{n} (x int)");
        client.batch_execute(&make).await.unwrap();
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        let n_tables: i64 = client.query_one(tables, &[]).await.unwrap().get(0);
        assert_eq!(n_tables, 1);
    }
}

#[tokio::test]
async fn a_creation_cut_off_anywhere_is_finished_or_removed() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    for n_turns in 0..40 {
        let (databases, vault) = (databases(cluster, 0), MemoryVault::new());
        let spec = spec("notes");
        // Dropped after so many turns, as at the end of a process: what was sent, happens.
        let cut = futures_turns(n_turns, databases.create(&spec, &vault)).await;
        if n_turns % 2 == 0 {
            let made = databases.create(&spec, &vault).await.unwrap();
            let url = vault.get(made.first().unwrap()).unwrap();
            connect(url.expose_secret()).await.unwrap();
        }
        databases.destroy(&spec.name, &vault).await.unwrap();
        assert_eq!(databases.list().await.unwrap(), [], "{n_turns} {cut:?}");
    }
}

/// Polls a future so many times and drops it.
async fn futures_turns<F: Future>(n_turns: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut n = 0;
    std::future::poll_fn(|cx| {
        n += 1;
        match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending if n > n_turns => std::task::Poll::Ready(None),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn databases_and_roles_of_others_are_left_alone() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (databases, vault) = (databases(cluster, 0), MemoryVault::new());
    let admin = cluster.pool(cluster::SUPERUSER).get().await.unwrap();
    let prefix = cluster.last_prefix();
    let theirs = format!("CREATE DATABASE {prefix}theirs");
    admin.batch_execute(&theirs).await.unwrap();
    let role = format!("CREATE ROLE {prefix}person LOGIN");
    admin.batch_execute(&role).await.unwrap();
    for name in ["theirs", "person"] {
        let found = databases.preflight(&spec(name)).await.unwrap();
        assert_eq!(found[0].code, BlockerCode::NameTaken, "{name}");
        let refused = databases.create(&spec(name), &vault).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{name}");
        databases.destroy(&resource(name), &vault).await.unwrap();
    }
    let there = "SELECT (SELECT count(*) FROM pg_database WHERE datname = $1), \
         (SELECT count(*) FROM pg_roles WHERE rolname = $2 AND rolcanlogin)";
    let values = (format!("{prefix}theirs"), format!("{prefix}person"));
    let row = admin.query_one(there, &[&values.0, &values.1]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1));
}

#[tokio::test]
async fn every_blocker_is_listed_at_once() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let settings = PostgresSettings::new(cluster.dir(), cluster::PORT)
        .with_prefix(cluster.prefix())
        .with_n_max(0);
    let pool = cluster.pool(cluster::POOR);
    let databases = PostgresDatabases::new(pool, &Env::system(), settings, plans()).unwrap();
    let mut wrong = spec("notes");
    wrong.offer = "no/offer".to_owned();
    let found = databases.preflight(&wrong).await.unwrap();
    let codes: Vec<&str> = found.iter().map(|b| b.code.as_str()).collect();
    assert_eq!(
        codes,
        [
            "OFFER_UNKNOWN",
            "MAY_NOT_CREATE_DATABASES",
            "MAY_NOT_CREATE_ROLES",
            "LIMIT_REACHED"
        ]
    );
    let gone = PostgresSettings::new("/nowhere", cluster::PORT);
    let pool = cluster::pool("/nowhere", cluster::ROLE);
    let databases = PostgresDatabases::new(pool, &Env::system(), gone, plans()).unwrap();
    let found = databases.preflight(&spec("notes")).await.unwrap();
    assert_eq!(found[0].code, BlockerCode::ServerUnreachable);
}
