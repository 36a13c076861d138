//! Statements of a ledger with more transfers than one block has.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::store::{Config, Db, Durability};
use agent_core::{Asset, Env, IdempotencyKey};
use agent_pay::backend::SqliteLedger;
use agent_pay::{AccountName, Batch, Entry, Guard, JournalQuery, Ledger, StatementQuery};

/// Each batch has this many transfers of busy accounts, and each tenth one of the seldom account.
const ENTRIES: u32 = 50;
const BATCHES: u32 = 70;

fn name(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

async fn fill(ledger: &SqliteLedger) {
    let open = |text| Entry::open(Asset::USD, name(text), Guard::Unguarded);
    let opened = ["busy", "other", "seldom", "never"].map(open);
    let batch = |key: &str, entries| Batch::new(IdempotencyKey::new(key).unwrap(), entries);
    ledger.post(batch("open", opened.to_vec())).await.unwrap();
    for n in 0..BATCHES {
        let amount = format!("{}.00 USD", n + 1).parse().unwrap();
        let busy = Entry::post(name("busy"), name("other"), amount);
        let mut entries = vec![busy; usize::try_from(ENTRIES).unwrap()];
        if n % 10 == 9 {
            entries.push(Entry::post(name("other"), name("seldom"), amount));
        }
        let posted = ledger.post(batch(&format!("batch-{n}"), entries)).await;
        posted.unwrap();
    }
}

#[tokio::test]
async fn a_statement_over_many_blocks_is_whole_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    let db = Db::open(config, &Env::system()).await.unwrap();
    let ledger = SqliteLedger::open(db).await.unwrap();
    fill(&ledger).await;
    let (mut journal, mut after) = (Vec::new(), 0);
    loop {
        let query = JournalQuery::new(after);
        let page = ledger.journal(query).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.row.seq;
        journal.extend(page.into_iter().flat_map(|batch| batch.transfers));
    }
    assert_eq!(journal.len(), 3_507);
    for (account, n_wanted) in [
        ("busy", 3_500),
        ("other", 3_507),
        ("seldom", 7),
        ("never", 0),
    ] {
        let account = name(account);
        let mut wanted = journal.clone();
        wanted.retain(|t| t.debit == account || t.credit == account);
        assert_eq!(wanted.len(), n_wanted);
        for limit in [3, 700, 1_000] {
            let (mut found, mut after) = (Vec::new(), 0);
            loop {
                let query = StatementQuery::new(Asset::USD, account.clone());
                let query = query.with_after(after).with_limit(limit);
                let page = ledger.statement(query).await.unwrap();
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after = last.id;
                found.extend(page);
            }
            assert_eq!(found, wanted, "{account} by {limit}");
        }
    }
    ledger.verify(None).await.unwrap();
}
