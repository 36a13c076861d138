//! Whatever is done to the records behind the journal's back is found and named.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use agent_core::store::{self, Config, Db, Durability, sql};
use agent_core::{AgentId, Digest, Effect, EffectClass, Env, Principal, Scope, TaskId};
use agent_identity::backend::InMemoryKeyStore;
use agent_identity::{DidKey, KeyName, KeyStore};
use agent_orch::audit::{ErasePayloads, Export, Sealer, Verification, verify_export};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{
    Audit, Claim, ClaimRequest, Ended, Error, Escalation, Intended, Intent, Journal, NewRun,
    NewTask, Outcome, Policy, RecoveryTable, Result, StepKey, decide,
};
use rusqlite::types::Value as Cell;
use serde_json::json;
use tempfile::TempDir;

/// Text that appears nowhere by chance.
const SECRET: &str = "frumiousbandersnatch";

/// A journal with records of every kind, and a signed root in the middle.
struct Chain {
    journal: Arc<Sqlite>,
    db: Db,
    dir: TempDir,
    sealer: Sealer,
    signer: DidKey,
    task: TaskId,
}

impl Chain {
    async fn new() -> Self {
        let (dir, env) = (TempDir::new().unwrap(), Env::system());
        let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let journal = Arc::new(Sqlite::open(db.clone(), env.clone()).await.unwrap());
        let keys = Arc::new(InMemoryKeyStore::new(&env));
        let name = KeyName::new("host").unwrap();
        let key = keys.generate(&host(), vec![name]).await.unwrap().remove(0);
        let signer = key.did;
        let as_journal = Arc::<Sqlite>::clone(&journal);
        let sealer = Sealer::new(as_journal, keys, env, host(), key);
        let task = work(&journal).await;
        sealer.seal().await.unwrap().unwrap();
        let event = |n: i32| {
            let at = agent_core::Timestamp::from_unix_ms(0);
            agent_core::Event::new(&host(), at, "host.noted", json!({ "n": n }))
        };
        journal.note(event(1)).await.unwrap();
        journal.note(event(2)).await.unwrap();
        Self {
            journal,
            db,
            dir,
            sealer,
            signer,
            task,
        }
    }

    fn trusting(&self) -> Verification {
        Verification::new().trusting(self.signer)
    }

    /// Changes the tables; nothing of it is kept if `change` fails.
    async fn tamper(
        &self,
        change: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        self.db
            .write::<_, store::Error, _>(move |tx| change(tx.sql()).map_err(sql("tamper")))
            .await
            .unwrap();
    }

    async fn execute(&self, statement: &str) {
        let statement = statement.to_owned();
        self.tamper(move |db| db.execute_batch(&statement)).await;
    }

    async fn found(&self) -> (u64, &'static str) {
        named(&self.journal.verify_with(self.trusting()).await)
    }

    async fn export(&self) -> String {
        let mut export = Export::new(Arc::<Sqlite>::clone(&self.journal));
        let mut lines = String::new();
        while let Some(page) = export.next().await.unwrap() {
            lines.push_str(&page);
        }
        lines
    }
}

fn host() -> Scope {
    Scope::new(Principal::host())
}

/// Runs a task with a step of each class, and fails it.
async fn work(journal: &Sqlite) -> TaskId {
    let new = NewRun::new("s", Digest::of_bytes(b"s"), json!({}));
    let run = journal.open_run(&host(), new).await.unwrap().id;
    let task = NewTask::new("t", "p", json!({ "said": SECRET }));
    journal.submit(&host(), run, vec![task]).await.unwrap();
    let owner = AgentId::from_bits(1);
    let scope = Scope::agent(owner).with_run(run);
    let request = ClaimRequest::new(run, "p", owner);
    let claim = journal.claim(&scope, request).await.unwrap().unwrap();
    for class in [EffectClass::Pure, EffectClass::Idempotent] {
        let effect = Effect::new("tool.call", "t", class, json!({ "said": SECRET }));
        let step = StepKey::new(format!("{class:?}"), 0);
        let intent = Intent::new(step, effect);
        let intended = journal.intend(&scope, &claim.lease, intent).await.unwrap();
        let Intended::Go(pass) = intended else {
            continue;
        };
        let outcome = Outcome::new(Ok(json!({ "said": SECRET })));
        journal
            .settle(&scope, &claim.lease, &pass, outcome)
            .await
            .unwrap();
    }
    let done = Ended::done(json!(SECRET));
    end(journal, &claim, done).await;
    let request = ClaimRequest::new(run, "v", AgentId::from_bits(2));
    let claim = journal.claim(&scope, request).await.unwrap().unwrap();
    end(journal, &claim, Ended::accepted(json!(SECRET))).await;
    claim.task.id
}

async fn end(journal: &Sqlite, claim: &Claim, ended: Ended) {
    let (table, escalation) = (RecoveryTable::default(), Escalation::default());
    let next = decide(&claim.task, ended, &Policy::new(&table, "v", &escalation));
    journal
        .finish(&host(), &claim.lease, next.transition)
        .await
        .unwrap();
}

fn named(result: &Result<Audit>) -> (u64, &'static str) {
    match result {
        Err(Error::AuditBroken { seq, found, .. }) => (*seq, found),
        _ => (0, "nothing was found"),
    }
}

/// Another value of the same type.
fn altered(cell: &Cell) -> Cell {
    match cell {
        Cell::Null => Cell::Blob(vec![1; 16]),
        Cell::Integer(n) => Cell::Integer(n + 1_000),
        Cell::Real(x) => Cell::Real(x + 1.0),
        Cell::Text(text) => Cell::Text(format!("{text} ")),
        Cell::Blob(bytes) => {
            let flipped = bytes.iter().enumerate();
            Cell::Blob(
                flipped
                    .map(|(n, b)| if n == 0 { b ^ 1 } else { *b })
                    .collect(),
            )
        }
    }
}

/// Reads the cells of a table: its key, the column, the value.
async fn cells(db: &Db, table: &'static str, key: &'static str) -> Vec<(i64, String, Cell)> {
    db.read::<_, store::Error, _>(move |tx| {
        let read = || {
            let mut select = tx.sql().prepare(&format!("SELECT {key}, * FROM {table}"))?;
            let columns: Vec<String> = select.column_names().skip(1).map(str::to_owned).collect();
            let mut rows = select.query([])?;
            let mut cells = Vec::new();
            while let Some(row) = rows.next()? {
                for (n, column) in columns.iter().enumerate() {
                    cells.push((row.get(0)?, column.clone(), row.get(n + 1)?));
                }
            }
            Ok(cells)
        };
        read().map_err(sql("read the cells"))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn any_altered_cell_is_found_and_its_record_named() {
    let chain = Chain::new().await;
    let records = chain.journal.verify_with(chain.trusting()).await.unwrap();
    assert!(records.records >= 10 && records.roots == 1, "{records:?}");
    let tables = [
        ("orch_event", "seq"),
        ("orch_body", "seq"),
        ("orch_root", "record"),
        ("orch_head", "id"),
    ];
    for (table, key) in tables {
        for (id, column, cell) in cells(&chain.db, table, key).await {
            if table == "orch_head" && column == "id" {
                continue;
            }
            let set = |cell: Cell, by: i64| {
                let text = format!("UPDATE {table} SET {column} = ?1 WHERE {key} = ?2");
                move |db: &rusqlite::Connection| {
                    db.execute(&text, rusqlite::params![cell, by]).map(drop)
                }
            };
            // An integer column that is empty cannot take bytes.
            let mut other = altered(&cell);
            if cell == Cell::Null && matches!(column.as_str(), "fence" | "cause") {
                other = Cell::Integer(0);
            }
            let moved = match &other {
                Cell::Integer(n) if column == key => *n,
                _ => id,
            };
            chain.tamper(set(other, id)).await;
            let (seq, found) = chain.found().await;
            chain.tamper(set(cell, moved)).await;
            assert!(seq > 0, "{table}.{column} of {id}: {found}");
            let names_it = i64::try_from(seq).unwrap() == id;
            assert!(
                names_it || table == "orch_head" || column == "record",
                "{table}.{column} of {id}: record {seq} {found}"
            );
        }
    }
    assert_eq!(chain.journal.verify().await.unwrap(), records);
}

#[tokio::test]
async fn any_removed_or_swapped_record_is_found_and_named() {
    let chain = Chain::new().await;
    let n_records = chain.journal.head().await.unwrap().records;
    for seq in 1..=n_records {
        chain
            .execute(&format!(
                "CREATE TEMP TABLE kept AS SELECT * FROM orch_event WHERE seq = {seq};
                 DELETE FROM orch_event WHERE seq = {seq}"
            ))
            .await;
        let (found_at, found) = chain.found().await;
        chain
            .execute("INSERT INTO orch_event SELECT * FROM kept; DROP TABLE kept")
            .await;
        assert_eq!(found_at, seq, "{found}");
    }
    for seq in 1..n_records {
        let (a, b) = (seq, seq + 1);
        let swap = format!(
            "UPDATE orch_event SET seq = -seq WHERE seq IN ({a}, {b});
             UPDATE orch_event SET seq = CASE seq WHEN -{a} THEN {b} ELSE {a} END WHERE seq < 0"
        );
        chain.execute(&swap).await;
        let (found_at, found) = chain.found().await;
        chain.execute(&swap).await;
        assert_eq!(found_at, a, "{found}");
    }
    chain.journal.verify().await.unwrap();
}

#[tokio::test]
async fn records_cut_off_at_the_end_are_found() {
    let chain = Chain::new().await;
    let n_records = chain.journal.head().await.unwrap().records;
    chain
        .execute(&format!("DELETE FROM orch_event WHERE seq = {n_records}"))
        .await;
    assert_eq!(chain.found().await, (n_records, "was cut off"));
}

/// Cuts the chain behind a record and moves its end there, as a forger would.
fn cut(seq: u64) -> String {
    format!(
        "DELETE FROM orch_event WHERE seq > {seq}; DELETE FROM orch_body WHERE seq > {seq};
         UPDATE orch_head SET seq = {seq},
             hash = (SELECT hash FROM orch_event WHERE seq = {seq})"
    )
}

#[tokio::test]
async fn a_cut_with_a_moved_end_is_found_by_a_signed_root() {
    let chain = Chain::new().await;
    let root = chain.journal.roots(0).await.unwrap().remove(0);
    chain.execute(&cut(root.seq - 1)).await;
    let (seq, found) = chain.found().await;
    assert_eq!(seq, root.seq, "{found}");
}

#[tokio::test]
async fn a_cut_that_takes_its_roots_along_is_found_by_a_root_kept_elsewhere() {
    let chain = Chain::new().await;
    let root = chain.journal.roots(0).await.unwrap().remove(0);
    chain.execute(&cut(root.seq - 1)).await;
    chain.execute("DELETE FROM orch_root").await;
    chain.journal.verify().await.unwrap();
    let how = chain.trusting().including(root.clone());
    assert_eq!(named(&chain.journal.verify_with(how).await).0, root.seq);
    let lines = chain.export().await;
    let how = chain.trusting().including(root.clone());
    assert_eq!(named(&verify_export(lines.as_bytes(), how)).0, root.seq);
}

#[tokio::test]
async fn forged_and_removed_roots_are_found() {
    let chain = Chain::new().await;
    let root = chain.journal.roots(0).await.unwrap().remove(0);
    chain.execute("DELETE FROM orch_root").await;
    assert_eq!(chain.found().await.0, root.seq + 1, "it was removed");
    chain.execute("INSERT INTO orch_root SELECT 2, seq, at_ms, hash, 'did:key:x', zeroblob(64) FROM orch_event WHERE seq = 1").await;
    assert_eq!(chain.found().await.0, 2, "it was made up");

    let chain = Chain::new().await;
    let stranger = Arc::new(InMemoryKeyStore::new(&Env::system()));
    let name = KeyName::new("host").unwrap();
    let keys = stranger.generate(&host(), vec![name]).await.unwrap();
    let journal = Arc::<Sqlite>::clone(&chain.journal);
    let forger = Sealer::new(journal, stranger, Env::system(), host(), keys[0].clone());
    forger.seal().await.unwrap().unwrap();
    let end = chain.journal.head().await.unwrap().records;
    assert_eq!(chain.found().await.0, end, "a stranger signed it");
}

#[tokio::test]
async fn verification_starts_from_a_root_and_finds_what_came_after_it() {
    let chain = Chain::new().await;
    let root = chain.sealer.seal().await.unwrap().unwrap();
    let from = || chain.trusting().after(root.clone());
    let whole = chain.journal.verify().await.unwrap();
    let part = chain.journal.verify_with(from()).await.unwrap();
    assert_eq!((part.records, part.head), (whole.records, whole.head));
    chain
        .execute("UPDATE orch_event SET code = 'x' WHERE seq = 2")
        .await;
    assert_eq!(chain.found().await.0, 2);
    chain.journal.verify_with(from()).await.unwrap();
    let of_root = format!(
        "UPDATE orch_event SET hash = zeroblob(32) WHERE seq = {}",
        root.seq
    );
    chain.execute(&of_root).await;
    let broken = named(&chain.journal.verify_with(from()).await);
    assert_eq!(broken.0, root.seq, "its record must be there");
}

#[tokio::test]
async fn an_export_verifies_without_a_store() {
    let chain = Chain::new().await;
    let lines = chain.export().await;
    let audit = verify_export(lines.as_bytes(), chain.trusting()).unwrap();
    assert_eq!(audit, chain.journal.verify().await.unwrap());
    let n_lines = u64::try_from(lines.lines().count()).unwrap();
    assert_eq!(n_lines, audit.records + 2, "a header and an end");
    for n in 1..lines.lines().count() {
        let without: Vec<&str> = lines
            .lines()
            .enumerate()
            .filter(|(m, _)| *m != n)
            .map(|(_, line)| line)
            .collect();
        let broken = verify_export(without.join("\n").as_bytes(), chain.trusting());
        assert_eq!(
            named(&broken).0,
            u64::try_from(n).unwrap(),
            "line {n} is missing"
        );
    }
}

#[tokio::test]
async fn any_flipped_byte_of_an_export_is_found() {
    let chain = Chain::new().await;
    let lines = chain.export().await;
    // The records of a whole run would take minutes; the header, two records and an end do not.
    let n_kept: usize = lines.lines().take(3).map(|line| line.len() + 1).sum();
    for n in 0..n_kept {
        let mut flipped = lines.clone().into_bytes();
        flipped[n] ^= 1;
        let found = verify_export(flipped.as_slice(), chain.trusting());
        assert!(found.is_err(), "byte {n} of {:?}", &lines[..n_kept]);
    }
}

fn is_in_files(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes
            .windows(text.len())
            .any(|found| found == text.as_bytes())
    })
}

#[tokio::test]
async fn erased_text_is_in_no_file_and_the_chain_is_whole() {
    let chain = Chain::new().await;
    assert!(is_in_files(chain.dir.path(), SECRET), "the scan finds it");
    let before = chain.journal.verify().await.unwrap();
    let what = ErasePayloads::Task(chain.task);
    let erased = chain.journal.erase(&host(), what).await.unwrap();
    assert!(erased.is_scrubbed && erased.payloads > 0, "{erased:?}");
    assert!(!is_in_files(chain.dir.path(), SECRET), "while open");
    let after = chain.journal.verify_with(chain.trusting()).await.unwrap();
    assert_eq!(after.records, before.records + 1);
    let lines = chain.export().await;
    let exported = verify_export(lines.as_bytes(), chain.trusting()).unwrap();
    assert_eq!(exported, after, "an erased export verifies");
    chain.db.close().await;
    assert!(!is_in_files(chain.dir.path(), SECRET), "once closed");
}

#[tokio::test]
async fn a_payload_removed_without_an_erasure_is_found() {
    let chain = Chain::new().await;
    chain.execute("DELETE FROM orch_body WHERE seq = 3").await;
    assert_eq!(chain.found().await.0, 3);
    let what = ErasePayloads::Record(3);
    chain.journal.erase(&host(), what).await.unwrap();
    chain.journal.verify().await.unwrap();
}

#[tokio::test]
async fn a_run_is_erased_as_a_whole() {
    let chain = Chain::new().await;
    let run = chain.journal.task(chain.task).await.unwrap().run;
    let what = ErasePayloads::Run(run);
    chain.journal.erase(&host(), what).await.unwrap();
    assert!(!is_in_files(chain.dir.path(), SECRET));
    chain.journal.verify().await.unwrap();
}
