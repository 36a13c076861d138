//! What was acknowledged survives the process, whole; what was not is not half there.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "a variable tells the child what to do; tests await the tasks they spawn"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use agent_core::store::{Config, Durability, Error};
use common::{open, put, stored};
use tempfile::TempDir;

const DIR: &str = "AGENT_CORE_DURABILITY_DIR";
/// How many acknowledged writes the parent waits for before it kills the child.
const ACKNOWLEDGED_MIN: usize = 40;

/// The program that is killed: this test does nothing unless [`DIR`] names a directory.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let db = open(Config::new(std::path::Path::new(&dir).join("store.db"))).await;
    let writers = (0..8_i64).map(|writer| {
        let db = db.clone();
        tokio::task::spawn(async move {
            for n in 0..1_000_000 {
                let id = 1 + writer + n * 8;
                let both = db.write(move |tx| {
                    put(tx, id, "one half")?;
                    put(tx, -id, "the other half")
                });
                both.await.unwrap();
                writeln!(std::io::stdout(), "ack {id}").unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged_and_halves_nothing() {
    for round in 0..3 {
        let dir = TempDir::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some((_test, id)) = line.unwrap().split_once("ack ") {
                // The kill may cut the last line short: it is no acknowledgement then.
                acknowledged.extend(id.parse::<i64>().ok());
            }
            if acknowledged.len() == ACKNOWLEDGED_MIN + round * 7 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= ACKNOWLEDGED_MIN);
        acknowledged.pop();

        let db = open(Config::new(dir.path().join("store.db"))).await;
        db.verify().await.unwrap();
        let found = stored(&db).await;
        let lost = acknowledged.iter().filter(|id| !found.contains(id));
        assert_eq!(lost.count(), 0);
        let halves = found.iter().filter(|id| !found.contains(&-**id));
        assert_eq!(halves.count(), 0);
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_handles_that_are_dropped_without_closing() {
    let dir = TempDir::new().unwrap();
    let config = common::fast(&dir).with_durability(Durability::ProcessKill);
    let db = open(config.clone().with_shared(true)).await;
    db.write(|tx| put(tx, 1, "")).await.unwrap();
    let undone: Result<(), Error> = db
        .write(|tx| {
            put(tx, 2, "")?;
            put(tx, 1, "again")
        })
        .await;
    undone.unwrap_err();
    drop(db);
    assert_eq!(stored(&open(config.with_shared(true)).await).await, [1]);
}
