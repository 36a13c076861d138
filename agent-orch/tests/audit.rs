//! Whatever is done to the records behind the journal's back is found and named.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::store::{self, Config, Db, Durability, sql};
use agent_core::{Digest, Env, Principal, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{Error, Journal, NewRun, NewTask};
use serde_json::json;
use tempfile::TempDir;

async fn journal() -> (Sqlite, Db, TempDir) {
    let (dir, env) = (TempDir::new().unwrap(), Env::system());
    let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &env).await.unwrap();
    let journal = Sqlite::open(db.clone(), env).await.unwrap();
    let scope = Scope::new(Principal::host());
    let run = NewRun::new("s", Digest::of_bytes(b"s"), json!({}));
    let run = journal.open_run(&scope, run).await.unwrap();
    for n in 0..5 {
        let task = NewTask::new(format!("t{n}"), "p", json!({}));
        journal.submit(&scope, run.id, vec![task]).await.unwrap();
    }
    (journal, db, dir)
}

/// Tampers with the tables and returns the record that is named.
async fn tampered(statement: &'static str) -> (u64, &'static str) {
    let (journal, db, _dir) = journal().await;
    assert_eq!(journal.verify().await.unwrap().records, 6);
    db.write::<_, store::Error, _>(move |tx| {
        tx.sql().execute(statement, []).map_err(sql("tamper"))
    })
    .await
    .unwrap();
    let broken = journal.verify().await.unwrap_err();
    assert!(
        matches!(broken, Error::AuditBroken { .. }),
        "{statement}: {broken:?}"
    );
    let Error::AuditBroken { seq, found, .. } = broken else {
        return (0, "another error");
    };
    (seq, found)
}

#[tokio::test]
async fn an_altered_record_is_found() {
    assert_eq!(
        tampered("UPDATE orch_event SET at_ms = at_ms + 1 WHERE seq = 3")
            .await
            .0,
        3
    );
    assert_eq!(
        tampered("UPDATE orch_event SET kind = 'x' WHERE seq = 2")
            .await
            .0,
        2
    );
    assert_eq!(
        tampered("UPDATE orch_event SET actor = 'me' WHERE seq = 4")
            .await
            .0,
        4
    );
}

#[tokio::test]
async fn an_altered_payload_is_found() {
    let (seq, found) = tampered("UPDATE orch_payload SET body = '{}'").await;
    assert_eq!((seq, found), (1, "has an altered payload"));
}

#[tokio::test]
async fn a_removed_record_is_found() {
    let (seq, found) = tampered("DELETE FROM orch_event WHERE seq = 3").await;
    assert_eq!((seq, found), (3, "is missing"));
}

#[tokio::test]
async fn a_reordered_record_is_found() {
    let swap =
        "UPDATE orch_event SET seq = CASE seq WHEN 3 THEN -4 ELSE -3 END WHERE seq IN (3, 4)";
    assert_eq!(
        tampered(swap).await.0,
        1,
        "negative places do not belong to a chain"
    );
    let move_up = "UPDATE orch_event SET hash = (SELECT hash FROM orch_event WHERE seq = 5) \
                   WHERE seq = 4";
    assert_eq!(tampered(move_up).await.0, 4);
}

#[tokio::test]
async fn records_cut_off_at_the_end_are_found() {
    let (seq, found) = tampered("DELETE FROM orch_event WHERE seq > 4").await;
    assert_eq!((seq, found), (5, "was cut off"));
}

#[tokio::test]
async fn an_erased_payload_leaves_the_chain_whole() {
    let (journal, db, _dir) = journal().await;
    db.write::<_, store::Error, _>(|tx| {
        tx.sql()
            .execute("DELETE FROM orch_payload", [])
            .map_err(sql("erase"))
    })
    .await
    .unwrap();
    assert_eq!(journal.verify().await.unwrap().records, 6);
}
