//! SQLite databases: the laws, the quota, and paths that lead elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{Classify, ErrorKind, ExposeSecret, Secret};
use agent_pay::conformance::ProvisionerSubject;
use agent_pay::provision::{
    BlockerCode, CredentialName, MemoryVault, Provisioner, ResourceName, Spec, SqliteDatabases,
};
use rusqlite::{Connection, OpenFlags};

use super::{plans, resource};

async fn make() -> ProvisionerSubject {
    subject(0).await
}

/// All laws hold for databases that were made ahead.
mod warm {
    async fn make() -> agent_pay::conformance::ProvisionerSubject {
        super::subject(3).await
    }

    agent_pay::provisioner_conformance!(make);
}

async fn subject(n_warm: usize) -> ProvisionerSubject {
    let dir = tempfile::tempdir().unwrap();
    let databases = SqliteDatabases::new(dir.path(), plans()).with_n_warm(n_warm);
    assert_eq!(databases.fill().await.unwrap(), n_warm);
    around(Arc::new(databases), dir)
}

/// A subject of databases that are files in a directory.
pub(super) fn around(
    provisioner: Arc<dyn Provisioner>,
    dir: tempfile::TempDir,
) -> ProvisionerSubject {
    let opens = |values| std::future::ready(used(values, |_connection| Ok(())).is_ok());
    let notes = |values, note| std::future::ready(used(values, |c| noted(c, note)).ok());
    ProvisionerSubject::new(provisioner, opens, dir).with_notes(notes)
}

/// Uses a database by its credential alone.
fn used<T>(
    values: BTreeMap<CredentialName, Secret>,
    act: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let path = values.into_values().next();
    let path = path.map(|path| path.expose_secret().to_owned());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(path.unwrap_or_default(), flags)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS t (n); INSERT INTO t VALUES (1); DROP TABLE t",
    )?;
    act(&connection)
}

/// Keeps a note in the place of the one before it, or reads it.
fn noted(connection: &Connection, note: Option<String>) -> rusqlite::Result<String> {
    if let Some(note) = note {
        connection.execute_batch("CREATE TABLE IF NOT EXISTS note (n); DELETE FROM note")?;
        connection.execute("INSERT INTO note VALUES (?1)", [note])?;
    }
    connection.query_row("SELECT n FROM note", [], |row| row.get(0))
}

agent_pay::provisioner_conformance!(make);

fn spec(name: &str, plan: usize) -> Spec {
    let plan = plans().swap_remove(plan);
    Spec::new(resource(name), SqliteDatabases::OFFER, plan)
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "", "../up", "a/b", "a.b", "/etc/x", "A", "a b", "1a", "_a", "a\0b", "..", "é",
    ] {
        assert!(ResourceName::new(name).is_err(), "{name:?}");
    }
    assert!(ResourceName::new("a".repeat(41)).is_err());
    assert!(ResourceName::new("a".repeat(40)).is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn planted_links_and_files_of_others_are_left_alone() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = outside.path().join("target");
    std::fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("linked.db")).unwrap();
    std::fs::write(dir.path().join("foreign.db"), "not a database at all").unwrap();
    let theirs = Connection::open(dir.path().join("theirs.db")).unwrap();
    theirs.execute_batch("CREATE TABLE t (x)").unwrap();
    let (databases, vault) = (
        SqliteDatabases::new(dir.path(), plans()),
        MemoryVault::new(),
    );
    for name in ["linked", "foreign", "theirs"] {
        let found = databases.preflight(&spec(name, 0)).await.unwrap();
        assert!(
            found.iter().any(|b| b.code == BlockerCode::NameTaken),
            "{name}"
        );
        let refused = databases.create(&spec(name, 0), &vault).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{name}");
        assert!(databases.destroy(&resource(name), &vault).await.is_err());
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    assert!(dir.path().join("foreign.db").exists());
    assert_eq!(databases.list().await.unwrap(), []);
    assert_eq!(vault.names(), []);
}

#[tokio::test]
async fn a_database_does_not_outgrow_its_plan() {
    let dir = tempfile::tempdir().unwrap();
    let (databases, vault) = (
        SqliteDatabases::new(dir.path(), plans()),
        MemoryVault::new(),
    );
    databases.create(&spec("notes", 0), &vault).await.unwrap();
    let fill = |plan: usize| {
        let plan = plans().swap_remove(plan);
        let connection = databases.connect(&resource("notes"), &plan)?;
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (zeroblob(100000))",
            )
            .map_err(|_full| agent_pay::Error::invalid("database", "it is full"))
    };
    assert!(fill(0).is_err());
    assert!(fill(1).is_ok());
    let found = databases.inspect(&resource("notes")).await.unwrap();
    assert!(found.unwrap().storage_bytes.is_some());
}

#[tokio::test]
async fn a_database_in_use_stays_awake() {
    let dir = tempfile::tempdir().unwrap();
    let (databases, vault) = (
        SqliteDatabases::new(dir.path(), plans()),
        MemoryVault::new(),
    );
    databases.create(&spec("notes", 0), &vault).await.unwrap();
    let used = databases
        .connect(&resource("notes"), &plans().swap_remove(0))
        .unwrap();
    used.execute_batch("CREATE TABLE t (x)").unwrap();
    let refused = databases.alter(&spec("notes", 0), false).await.unwrap_err();
    assert_eq!(refused.code(), "pay.resource_in_use");
    drop(used);
    databases.alter(&spec("notes", 0), false).await.unwrap();
    databases.alter(&spec("notes", 0), true).await.unwrap();
    let again = databases
        .connect(&resource("notes"), &plans().swap_remove(0))
        .unwrap();
    again.execute_batch("INSERT INTO t VALUES (1)").unwrap();
}

#[tokio::test]
async fn every_blocker_is_listed_at_once() {
    let gone = tempfile::tempdir().unwrap().path().join("gone");
    let databases = SqliteDatabases::new(gone, plans());
    let found = databases
        .preflight(&Spec::new(resource("notes"), "no/offer", plans().remove(0)))
        .await
        .unwrap();
    let codes: Vec<&str> = found.iter().map(|b| b.code.as_str()).collect();
    assert_eq!(codes, ["OFFER_UNKNOWN", "DIRECTORY_UNUSABLE"]);
    let dir = tempfile::tempdir().unwrap();
    let databases = SqliteDatabases::new(dir.path(), plans()).with_n_max(1);
    databases
        .create(&spec("one", 0), &MemoryVault::new())
        .await
        .unwrap();
    std::fs::write(dir.path().join("two.db"), "foreign").unwrap();
    let found = databases.preflight(&spec("two", 0)).await.unwrap();
    let codes: Vec<&str> = found.iter().map(|b| b.code.as_str()).collect();
    assert_eq!(codes, ["LIMIT_REACHED", "NAME_TAKEN"]);
}

#[tokio::test]
async fn what_is_made_ahead_is_given_to_one_and_is_nobodys_before() {
    let dir = tempfile::tempdir().unwrap();
    let databases = SqliteDatabases::new(dir.path(), plans()).with_n_warm(2);
    let vault = MemoryVault::new();
    // What a crash left of one that was being made.
    std::fs::write(dir.path().join("warm-0.making"), "half").unwrap();
    assert_eq!(databases.fill().await.unwrap(), 2);
    assert_eq!(databases.fill().await.unwrap(), 0);
    assert_eq!(databases.list().await.unwrap(), []);
    let n_ahead = || {
        let files = std::fs::read_dir(dir.path()).unwrap();
        let ends = files.filter_map(|file| file.unwrap().path().extension().map(ToOwned::to_owned));
        ends.filter(|end| end == "ahead").count()
    };
    assert_eq!(n_ahead(), 2);
    let names: Vec<String> = (0..4).map(|n| format!("r{n}")).collect();
    let create = async |name: &String| {
        databases.create(&spec(name, 0), &vault).await.unwrap();
        let connection = databases.connect(&resource(name), &plans().swap_remove(1));
        let connection = connection.unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
    };
    // At the same time: two get one each, two have theirs made.
    tokio::join!(
        create(&names[0]),
        create(&names[1]),
        create(&names[2]),
        create(&names[3])
    );
    assert_eq!(databases.list().await.unwrap().len(), 4);
    assert_eq!(n_ahead(), 0);
    // A file of somebody else in its place is neither taken nor overwritten.
    std::fs::write(dir.path().join("warm-0.ahead"), "precious").unwrap();
    assert!(databases.fill().await.is_err());
    databases.create(&spec("own", 0), &vault).await.unwrap();
    let kept = std::fs::read_to_string(dir.path().join("warm-0.ahead"));
    assert_eq!(kept.unwrap(), "precious");
}
