//! Processes that make databases of the same names at the same time, and what dead ones leave.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agent_core::{Classify, Retry};
use agent_pay::provision::{MemoryVault, Provisioner, Spec, SqliteDatabases};

use super::{plans, resource};

const CHILD: &str = "AGENT_PAY_MAKING_CHILD";
const N_NAMES: usize = 60;
const N_PROCESSES: usize = 4;

fn spec(name: &str) -> Spec {
    Spec::new(
        resource(name),
        SqliteDatabases::OFFER,
        plans().swap_remove(0),
    )
}

/// The files that are no databases, but of some in the making.
fn unfinished(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
    let is_database = |name: &String| name.ends_with(".db") || name.ends_with(".ahead");
    let mut names: Vec<String> = names.filter(|name| !is_database(name)).collect();
    names.retain(|name| name != "ahead.lock" && name != "claim.lock");
    names
}

/// The child: makes all names in turn, as others do.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let databases = SqliteDatabases::new(dir, plans()).with_n_warm(1);
        let vault = MemoryVault::new();
        for n in 0..N_NAMES {
            if n % 3 == 0 {
                databases.fill().await.unwrap();
            }
            databases
                .create(&spec(&format!("r{n}")), &vault)
                .await
                .unwrap();
            let mut out = std::io::stdout();
            writeln!(out, "\nmade {n}").unwrap();
            out.flush().unwrap();
        }
    });
}

fn start(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["provision::making::child", "--exact", "--nocapture"]);
    let child = child.env(CHILD, dir).stdout(Stdio::piped());
    child.spawn().unwrap()
}

#[test]
fn processes_that_make_the_same_each_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..N_PROCESSES).map(|_| start(dir.path())).collect();
    // One is killed in the middle.
    let mut killed = start(dir.path());
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let made = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("made"));
    made.take(N_NAMES / 3).for_each(drop);
    killed.kill().unwrap();
    killed.wait().unwrap();
    for mut child in children.drain(..) {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let databases = SqliteDatabases::new(dir.path(), plans()).with_n_warm(1);
        assert_eq!(databases.list().await.unwrap().len(), N_NAMES);
        databases.fill().await.unwrap();
        for n in 0..N_NAMES {
            let name = resource(&format!("r{n}"));
            assert!(databases.connect(&name, &spec("r").plan).is_ok());
            assert!(databases.inspect(&name).await.unwrap().is_some());
            databases.destroy(&name, &MemoryVault::new()).await.unwrap();
        }
        for n in 0..N_NAMES {
            databases
                .destroy(&resource(&format!("r{n}")), &MemoryVault::new())
                .await
                .unwrap();
        }
        assert_eq!(unfinished(dir.path()), [""; 0]);
    });
}

/// Lets a place go. A process that another test starts in this moment has the lock for as long as it
/// takes to start: whoever comes then is told to come again.
async fn creates(databases: &SqliteDatabases, name: &str, vault: &MemoryVault) {
    for _ in 0..10_000 {
        let created = databases.create(&spec(name), vault).await;
        if created.is_ok() {
            return;
        }
        assert_eq!(created.unwrap_err().retry(), Retry::Safe);
    }
}

/// Removes a database until only so many unfinished files are left, for the same reason.
async fn is_left(databases: &SqliteDatabases, dir: &Path, n_files: usize) -> bool {
    let (name, vault) = (resource("notes"), MemoryVault::new());
    for _ in 0..10_000 {
        databases.destroy(&name, &vault).await.unwrap();
        if unfinished(dir).len() == n_files {
            return true;
        }
    }
    false
}

/// Holds the place where a process makes a database, as one that is slow does.
fn hold(dir: &Path, place: &str) -> File {
    let lock = File::create(dir.join(format!("{place}.lock"))).unwrap();
    lock.try_lock().unwrap();
    std::fs::write(dir.join(format!("{place}.making")), "half").unwrap();
    lock
}

#[tokio::test]
async fn what_a_dead_process_left_is_cleared_and_what_a_live_one_makes_stays() {
    let dir = tempfile::tempdir().unwrap();
    let databases = SqliteDatabases::new(dir.path(), plans());
    let vault = MemoryVault::new();
    drop(hold(dir.path(), "notes-0"));
    drop(hold(dir.path(), "notes-5"));
    // Where an earlier version made it.
    std::fs::write(dir.path().join("notes.making"), "half").unwrap();
    let alive = hold(dir.path(), "notes-2");
    creates(&databases, "notes", &vault).await;
    assert_eq!(databases.list().await.unwrap(), [resource("notes")]);
    assert!(is_left(&databases, dir.path(), 2).await);
    let mut left = unfinished(dir.path());
    left.sort();
    assert_eq!(left, ["notes-2.lock", "notes-2.making"]);
    drop(alive);
    assert!(is_left(&databases, dir.path(), 0).await);
    assert_eq!(databases.list().await.unwrap(), []);
}

#[tokio::test]
async fn more_than_can_make_one_at_a_time_are_told_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let databases = SqliteDatabases::new(dir.path(), plans());
    let vault = MemoryVault::new();
    let held: Vec<File> = (0..8)
        .map(|n| hold(dir.path(), &format!("notes-{n}")))
        .collect();
    let busy = databases.create(&spec("notes"), &vault).await.unwrap_err();
    assert_eq!(busy.retry(), Retry::Safe);
    // Another name is another matter.
    databases.create(&spec("other"), &vault).await.unwrap();
    drop(held);
    creates(&databases, "notes", &vault).await;
    assert_eq!(databases.list().await.unwrap().len(), 2);
    assert!(is_left(&databases, dir.path(), 0).await);
}
