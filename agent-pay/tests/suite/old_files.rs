//! A file of an earlier version is opened, its books are the same, and what was begun in it goes on.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_core::store::{Config, Db};
use agent_core::{
    Amount, Asset, Clock, Env, IdempotencyKey, ManualClock, SeededEntropy, Timestamp,
};
use agent_pay::authority::SpendState;
use agent_pay::backend::sqlite::authority::replay;
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::{AccountName, Ledger, Resolution, StatementQuery, TransferKind};

/// Forty spends of a dollar: of four one is held, one captured at 70 cents, one released, and of the
/// others every second submitted. The first has half a dollar more, the second gave 20 cents back,
/// and of the sixth 30 are set aside. Three holds of the ledger, one of them resolved, two that
/// expire.
const VERSION_6: &[u8] = include_bytes!("../fixtures/authority-v6.db");
/// The beginnings of the digests of all steps so far.
const STEPS: [&str; 9] = [
    "9e2e272746098e2f",
    "c59185249d04aa9a",
    "6fd29daf5c469c7e",
    "22252d4c9e9af826",
    "7868c8fd9a5ca81c",
    "2fb98820b2c183c6",
    "1b5aeded87127ff6",
    "a1a730d202fcbe51",
    "130020c79082a06e",
];
/// When it was made.
const NOON_MS: i64 = 1_795_608_000_000;

fn op(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

fn money(text: &str) -> Amount {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_file_of_version_6_is_opened_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pay.db");
    std::fs::write(&path, VERSION_6).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(NOON_MS)));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let env = Env::new(shared, Arc::new(SeededEntropy::new(1)));
    let db = Db::open(Config::new(&path), &env).await.unwrap();
    let authority = SqliteAuthority::open(db.clone()).await.unwrap();
    let ledger = SqliteLedger::open(db.clone()).await.unwrap();
    db.verify().await.unwrap();
    let before = ledger.verify(None).await.unwrap();
    assert_eq!((before.n_transfers, before.n_pending), (253, 23));

    let state = async |n: usize| {
        let spend = authority.spend(op(&format!("spend-{n}"))).await.unwrap();
        spend.unwrap().state
    };
    for n in 0..40 {
        let wanted = match (n % 4, n % 8) {
            (1, _) => SpendState::Captured,
            (2, _) => SpendState::Released,
            (3, 3) => SpendState::Submitted,
            _ => SpendState::Held,
        };
        assert_eq!(state(n).await, wanted, "{n}");
    }
    assert_eq!(authority.submitted(100).await.unwrap().len(), 5);
    let decision = authority.decision(7).await.unwrap().unwrap();
    assert!(replay(&decision).unwrap());

    // A page of a statement ends where the next begins, and all of them are the whole.
    let acme = AccountName::new("budget/acme").unwrap();
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let query = StatementQuery::new(Asset::USD, acme.clone());
        let page = ledger.statement(query.with_after(after).with_limit(7));
        let page = page.await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        all.extend(page);
    }
    assert!(all.is_sorted_by_key(|transfer| transfer.id));
    let captured = all.iter().filter(|t| t.kind == TransferKind::Captured);
    assert_eq!(captured.count(), 10);

    let captured = authority.capture(op("spend-0"), money("1.50 USD")).await;
    assert_eq!(captured.unwrap().captured, money("1.50 USD"));
    let refund = authority.refund(op("spend-5"), op("refund-5"), money("0.30 USD"));
    assert_eq!(refund.await.unwrap().refunded, money("0.30 USD"));
    // What was held without an end is resolved; what expires is found by itself.
    ledger
        .resolve(op("hold-2"), Resolution::Void)
        .await
        .unwrap();
    clock.advance(std::time::Duration::from_secs(601));
    assert_eq!(ledger.expire(10).await.unwrap().len(), 1);
    clock.advance(std::time::Duration::from_secs(3_600));
    assert!(authority.sweep(1_000).await.unwrap() > 0);
    assert_eq!(state(4).await, SpendState::Expired);
    assert_eq!(state(3).await, SpendState::Submitted);
    ledger.verify(Some(before.anchor)).await.unwrap();
}

/// A file records the digest of each step it went through, and is refused if one is another: a step
/// that was ever applied stays as it is, and new ones come at the end.
#[tokio::test]
async fn steps_of_the_tables_are_only_added() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path().join("pay.db"));
    let db = Db::open(config, &Env::system()).await.unwrap();
    let _authority = SqliteAuthority::open(db.clone()).await.unwrap();
    let applied: Vec<String> = db
        .read(|tx| {
            let select = "SELECT substr(digest, 1, 16) FROM core_migration WHERE layer = 'pay' \
                          ORDER BY version";
            let rows = tx.sql().prepare(select).and_then(|mut select| {
                let rows = select.query_map([], |row| row.get(0))?;
                rows.collect()
            });
            rows.map_err(agent_core::store::sql("list the steps"))
        })
        .await
        .unwrap();
    assert_eq!(applied, STEPS);
}
