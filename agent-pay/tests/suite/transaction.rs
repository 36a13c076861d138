//! Budgets commit together with the rows of others, and a refusal has written nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use agent_core::store::{Config, Db, Durability, Error as StoreError, Tx, sql};
use agent_core::{Amount, Asset, Env, IdempotencyKey};
use agent_pay::backend::{SqliteLedger, sqlite};
use agent_pay::{
    Admission, BudgetPath, Error, HoldState, Ledger, OpenBudget, Reserve, Result, Settle,
};

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

fn path(text: &str) -> BudgetPath {
    BudgetPath::new(text).unwrap()
}

fn reserve(tx: &Tx<'_>, k: &str, units: i64) -> Reserve {
    let expires_at = tx.now().after(Duration::from_secs(60));
    Reserve::new(key(k), path("fleet/a"), usd(units), expires_at)
}

fn note(tx: &Tx<'_>, text: &str) -> Result<()> {
    let insert = tx.sql().execute("INSERT INTO note VALUES (?1)", [text]);
    insert.map_err(sql("note"))?;
    Ok(())
}

fn notes(tx: &Tx<'_>) -> Result<i64, StoreError> {
    let count = tx
        .sql()
        .query_row("SELECT count(*) FROM note", [], |row| row.get(0));
    count.map_err(sql("count"))
}

async fn open(dir: &tempfile::TempDir) -> (Db, SqliteLedger) {
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &Env::system()).await.unwrap();
    let ledger = SqliteLedger::open(db.clone()).await.unwrap();
    db.migrate("host", &["CREATE TABLE note (text TEXT NOT NULL) STRICT"])
        .await
        .unwrap();
    db.write(|tx| {
        sqlite::open_budget(tx, &OpenBudget::new(path("fleet"), usd(100)))?;
        sqlite::open_budget(tx, &OpenBudget::new(path("fleet/a"), usd(50)))
    })
    .await
    .unwrap();
    (db, ledger)
}

#[tokio::test]
async fn reservation_commits_with_the_callers_row_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (db, ledger) = open(&dir).await;
    let both = db.write(|tx| {
        note(tx, "intent")?;
        sqlite::reserve(tx, &reserve(tx, "k1", 40))?.into_hold()
    });
    both.await.unwrap();
    let neither = db.write(|tx| {
        sqlite::reserve(tx, &reserve(tx, "k2", 5))?.into_hold()?;
        note(tx, "intent")?;
        // The caller changes its mind, so its whole write is rolled back.
        Err::<(), _>(Error::invalid("test", "changed my mind"))
    });
    assert!(neither.await.is_err());
    assert_eq!(db.read(notes).await.unwrap(), 1);
    let held = db
        .read(|tx| sqlite::balance(tx, Asset::USD, &path("fleet/a")))
        .await;
    assert_eq!(held.unwrap().held, usd(40));
    let k2 = db.read(|tx| sqlite::hold(tx, &key("k2"))).await.unwrap();
    assert_eq!(k2, None);
    ledger.verify(None).await.unwrap();
}

#[tokio::test]
async fn denial_writes_nothing_and_the_transaction_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (db, ledger) = open(&dir).await;
    let denial = db.write(|tx| {
        let admission = sqlite::reserve(tx, &reserve(tx, "k1", 51))?;
        let Admission::Denied(denial) = admission else {
            return Err(Error::invalid("test", "it was admitted"));
        };
        let late = sqlite::settle(tx, &Settle::new(key("k1"), usd(1)));
        assert!(matches!(late, Err(Error::KeyNotFound { .. })));
        note(tx, "denied")?;
        sqlite::reserve(tx, &reserve(tx, "k1", 50))?.into_hold()?;
        let settled = sqlite::settle(tx, &Settle::new(key("k1"), usd(20)))?;
        assert_eq!(settled.released, usd(30));
        Ok(denial)
    });
    let denial = denial.await.unwrap();
    assert_eq!((denial.node, denial.limit), (path("fleet/a"), usd(50)));
    assert_eq!(db.read(notes).await.unwrap(), 1);
    let state = db.read(|tx| sqlite::hold(tx, &key("k1"))).await.unwrap();
    assert!(matches!(state, Some(HoldState::Settled(_))));
    let verified = ledger.verify(None).await.unwrap();
    // Two openings, a reservation of two levels and its settlement.
    assert_eq!((verified.anchor.seq, verified.n_transfers), (4, 6));
}

#[tokio::test]
async fn hostile_paths_are_refused() {
    let long = "x".repeat(65);
    let deep = ["a"; 9].join("/");
    let wide = ["y".repeat(60).as_str(); 4].join("/");
    let hostile = [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a b",
        "a\0",
        "a\n",
        "ä",
        "a/%",
        "a*",
        "budget'; DROP TABLE pay_account",
        &long,
        &deep,
        &wide,
    ];
    for text in hostile {
        assert!(BudgetPath::new(text).is_err(), "{text:?}");
    }
    let deepest = path(&["a"; 8].join("/"));
    assert_eq!(deepest.levels().len(), 8);
    assert!(deepest.child("b").is_err());
    assert!(path("a").child("b/c").is_err());
    assert_eq!(
        path("fleet/menders/x").parent(),
        Some(path("fleet/menders"))
    );
    let did = "fleet/did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
    assert_eq!(path(did).as_str(), did);
}

#[tokio::test]
async fn keys_of_openings_cannot_be_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _ledger) = open(&dir).await;
    let taken = db.write(|tx| {
        let mut reserve = reserve(tx, "k", 1);
        reserve.key = key("agent-pay.open/USD/fleet/b");
        sqlite::reserve(tx, &reserve)
    });
    assert!(matches!(taken.await, Err(Error::Invalid { .. })));
}
