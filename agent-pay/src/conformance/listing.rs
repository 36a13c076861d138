//! The laws of ledgers as a whole: assets, pages, races, the journal.

use std::sync::Arc;

use agent_core::{Amount, Asset, Classify, ErrorKind};

use super::ledger::{hold, pay, purse_has};
use super::{Subject, key, name, usd};
use crate::account::{AccountQuery, Guard};
use crate::batch::{Batch, Entry, Resolution};
use crate::error::Error;
use crate::exchange::{Exchange, ExchangeRate};
use crate::export::{self, Format};
use crate::ledger::{Anchor, JournalQuery, LedgerExt, StatementQuery};

/// Accounts of one name in two assets have nothing in common, and each ledger balances.
pub async fn ledgers_of_assets_are_apart(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let yen = Asset::new("JPY", 0).unwrap();
    let missing = Entry::post(name("purse"), name("shop"), Amount::from_units(1, yen));
    let refused = subject
        .ledger
        .post(Batch::new(key("a"), vec![missing.clone()]))
        .await;
    assert!(matches!(refused, Err(Error::AccountNotFound { .. })));
    let entries = vec![
        Entry::open(yen, name("purse"), Guard::Unguarded),
        Entry::open(yen, name("shop"), Guard::Unguarded),
        missing,
    ];
    subject
        .ledger
        .post(Batch::new(key("b"), entries))
        .await
        .unwrap();
    purse_has(&subject, 0, 0).await;
    let sums = subject.ledger.trial_balance().await.unwrap();
    let assets: Vec<_> = sums.iter().map(|sum| sum.asset()).collect();
    assert_eq!(assets, [yen, Asset::USD]);
    assert!(sums.iter().all(|sum| sum.is_balanced()));
    assert_eq!(sums[1].debits_posted, usd(100));
}

/// A query lists an account and those below it, in the order of the names, page by page.
pub async fn accounts_are_listed_in_pages(subject: Subject) {
    let subject = subject.with_purse(0).await;
    let names = ["a/x", "a", "a-b", "a/y/z", "ab", "a/y"];
    let opens = names.map(|n| Entry::open(Asset::USD, name(n), Guard::Unguarded));
    let batch = Batch::new(key("open"), opens.to_vec());
    subject.ledger.post(batch).await.unwrap();
    let mut query = AccountQuery::under(Asset::USD, name("a")).with_limit(2);
    let mut listed = Vec::new();
    loop {
        let page = subject.ledger.accounts(query.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        query = query.with_after(last.name.clone());
        listed.extend(page.iter().map(|account| account.name.to_string()));
    }
    assert_eq!(listed, ["a", "a/x", "a/y", "a/y/z"]);
    let nobody = subject.ledger.account(Asset::USD, name("nobody")).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A statement lists every transfer of an account, on either side, in order, page by page.
pub async fn statements_follow_the_journal_in_pages(subject: Subject) {
    let subject = subject.with_purse(100).await;
    for n in 1..=4 {
        let k = format!("pay-{n}");
        subject.ledger.post(pay(&k, n)).await.unwrap();
    }
    let mut query = StatementQuery::new(Asset::USD, name("purse")).with_limit(2);
    let mut units = Vec::new();
    loop {
        let page = subject.ledger.statement(query.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        query = query.with_after(last.id);
        units.extend(page.iter().map(|transfer| transfer.amount.units()));
    }
    assert_eq!(units, [100, 1, 2, 3, 4]);
    let nobody = StatementQuery::new(Asset::USD, name("nobody"));
    let refused = subject.ledger.statement(nobody).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Of racing holds exactly as many are admitted as the credits cover.
pub async fn racing_holds_never_exceed_the_credits(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let ledger = Arc::clone(&subject.ledger);
        racers.spawn(async move { ledger.post(hold(&format!("race-{n}"), 7)).await.is_ok() });
    }
    let admitted = racers.join_all().await;
    assert_eq!(admitted.iter().filter(|ok| **ok).count(), 14);
    purse_has(&subject, 0, 98).await;
    subject.ledger.verify(None).await.unwrap();
}

/// The journal verifies, and against an anchor taken earlier.
pub async fn journal_verifies_and_keeps_its_anchor(subject: Subject) {
    let empty = subject.ledger.verify(None).await.unwrap();
    assert_eq!(empty.anchor, Anchor::new(0, Anchor::ROOT));
    let subject = subject.with_purse(100).await;
    let early = subject.ledger.verify(None).await.unwrap();
    subject.ledger.post(hold("a", 40)).await.unwrap();
    subject.ledger.post(hold("b", 40)).await.unwrap();
    subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(30)))
        .await
        .unwrap();
    let late = subject.ledger.verify(Some(early.anchor)).await.unwrap();
    assert_eq!((late.anchor.seq, late.n_transfers), (4, 4));
    assert_eq!((late.n_accounts, late.n_pending), (3, 1));
    let forged = Anchor::new(early.anchor.seq, late.anchor.hash);
    let refused = subject.ledger.verify(Some(forged)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    let beyond = Anchor::new(99, late.anchor.hash);
    assert!(subject.ledger.verify(Some(beyond)).await.is_err());
}

/// The journal is listed in pages, with every batch once and in order.
pub async fn journal_is_listed_in_pages(subject: Subject) {
    let subject = subject.with_purse(100).await;
    for n in 0..5 {
        let batch = pay(&format!("k{n}"), 1).with_memo(format!("memo {n}"));
        subject.ledger.post(batch).await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let after = seen
            .last()
            .map_or(0, |batch: &crate::journal::Journaled| batch.row.seq);
        let query = JournalQuery::new(after).with_limit(2);
        let page = subject.ledger.journal(query).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    let seqs: Vec<_> = seen.iter().map(|batch| batch.row.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(seen[5].row.memo.as_deref(), Some("memo 4"));
    assert_eq!(seen[5].transfers[0].amount, usd(1));
    let anchor = subject.ledger.verify(None).await.unwrap().anchor;
    assert_eq!(seen[5].row.hash, anchor.hash);
}

/// An exchange moves both ledgers or neither, and the parts add up to the smallest unit.
pub async fn exchange_moves_both_ledgers_or_neither(subject: Subject) {
    let subject = subject.with_purse(1_000_000).await;
    let yen = Asset::new("JPY", 0).unwrap();
    let open = |asset, account| Entry::open(asset, name(account), Guard::Unguarded);
    let entries = vec![
        open(Asset::USD, "exchange"),
        Entry::open(yen, name("exchange"), Guard::DebitsMustNotExceedCredits),
        open(yen, "exchange-spread"),
        open(yen, "purse"),
        open(yen, "bank"),
        Entry::post(name("bank"), name("exchange"), Amount::from_units(160, yen)),
    ];
    subject
        .ledger
        .post(Batch::new(key("desk"), entries))
        .await
        .unwrap();
    let (rate, spread) = ("151.37".parse().unwrap(), "1/200".parse().unwrap());
    let rate = ExchangeRate::new(Asset::USD, yen, rate, spread).unwrap();
    let exchange = |k: &str| {
        let give = usd(1_000_000);
        Exchange::new(key(k), name("purse"), name("purse"), rate, give)
            .unwrap()
            .batch()
            .unwrap()
    };
    subject.ledger.post(exchange("fx")).await.unwrap();
    let of = |account: &'static str| subject.ledger.account(yen, name(account));
    assert_eq!(of("purse").await.unwrap().credits_posted().units(), 150);
    assert_eq!(
        of("exchange-spread")
            .await
            .unwrap()
            .credits_posted()
            .units(),
        1
    );
    // The desk has 9 yen left: nothing moves in either ledger.
    let refill = Entry::post(name("bank"), name("purse"), usd(1_000_000));
    subject
        .ledger
        .post(Batch::new(key("refill"), vec![refill]))
        .await
        .unwrap();
    let refused = subject.ledger.post(exchange("fx2")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    let desk = subject
        .ledger
        .account(Asset::USD, name("exchange"))
        .await
        .unwrap();
    assert_eq!(desk.credits_posted(), usd(1_000_000));
    for sums in subject.ledger.trial_balance().await.unwrap() {
        assert!(sums.is_balanced());
    }
}

/// What is exported has every transfer once, and a statement ends at the account's balance.
pub async fn exports_are_complete_and_close_at_the_balance(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("=h", 60)).await.unwrap();
    let capture = Resolution::Capture(usd(25));
    subject.ledger.resolve(key("=h"), capture).await.unwrap();
    for n in 0..3 {
        let memo = "a \"quoted\", text";
        subject
            .ledger
            .post(pay(&format!("p{n}"), 2).with_memo(memo))
            .await
            .unwrap();
    }
    let (mut csv, mut lines) = (Vec::new(), Vec::new());
    let ledger = &*subject.ledger;
    let n = export::journal(ledger, Format::Csv, &mut csv)
        .await
        .unwrap();
    assert_eq!(
        export::journal(ledger, Format::JsonLines, &mut lines)
            .await
            .unwrap(),
        n
    );
    let (csv, lines) = (
        String::from_utf8(csv).unwrap(),
        String::from_utf8(lines).unwrap(),
    );
    assert_eq!((csv.lines().count(), lines.lines().count()), (7, 6));
    let n_fields = csv.lines().next().unwrap().split(',').count();
    assert_eq!(csv.lines().nth(2).unwrap().split(',').count(), n_fields);
    // A key that a spreadsheet would compute is disarmed; a text with a comma is quoted.
    assert!(csv.contains(",'=h,"), "{csv}");
    assert!(csv.contains("\"a \"\"quoted\"\", text\""));
    let query = StatementQuery::new(Asset::USD, name("purse")).with_limit(2);
    let mut out = Vec::new();
    let closing = export::statement(ledger, query, Format::Csv, &mut out)
        .await
        .unwrap();
    assert_eq!(closing, usd(100 - 25 - 6));
    assert_eq!(
        String::from_utf8(out).unwrap().lines().count(),
        1 + 1 + 2 + 3
    );
    let is_balanced = export::trial_balance(ledger, Format::Csv, &mut Vec::new()).await;
    assert!(is_balanced.unwrap());
}
