//! The laws of accounts, batches and holds.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Asset, Classify, ErrorKind};

use super::{Subject, at, key, name, usd};
use crate::account::{AccountQuery, Guard};
use crate::batch::{Batch, Entry, Resolution, State, TransferKind};
use crate::error::Error;
use crate::ledger::{Anchor, LedgerExt, StatementQuery};

fn hold(k: &str, units: i64) -> Batch {
    let entry = Entry::hold(name("purse"), name("shop"), usd(units));
    Batch::new(key(k), vec![entry])
}

fn pay(k: &str, units: i64) -> Batch {
    let entry = Entry::post(name("purse"), name("shop"), usd(units));
    Batch::new(key(k), vec![entry])
}

/// Checks what is posted and pending from the purse.
async fn purse_has(subject: &Subject, posted: i64, pending: i64) {
    let purse = subject.ledger.account(Asset::USD, name("purse")).await;
    let balances = purse.unwrap().balances;
    assert_eq!(
        (balances.debits_posted, balances.debits_pending),
        (posted, pending)
    );
}

/// Of a batch with a refused entry nothing happens.
pub async fn batch_happens_whole_or_not_at_all(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let mut batch = pay("a", 60);
    batch.entries.extend(pay("a", 60).entries);
    let refused = subject.ledger.post(batch).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    purse_has(&subject, 0, 0).await;
    assert!(subject.ledger.find(key("a")).await.unwrap().is_none());
    // The key is free and the next batch takes the next number.
    let receipt = subject.ledger.post(pay("a", 60)).await.unwrap();
    assert_eq!(receipt.seq, 2);
    purse_has(&subject, 60, 0).await;
}

/// A batch posted again under its key gets the answer it got and has no second effect.
pub async fn same_key_and_body_get_the_same_answer(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let first = subject.ledger.post(pay("a", 60)).await.unwrap();
    subject.clock.advance(Duration::from_secs(1));
    let second = subject.ledger.post(pay("a", 60)).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.transfers.len(), 1);
    assert_eq!(first.transfers[0].amount, usd(60));
    purse_has(&subject, 60, 0).await;
}

/// A key that was used with another body is refused.
pub async fn same_key_with_another_body_is_a_conflict(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(pay("a", 60)).await.unwrap();
    for other in [pay("a", 10), hold("a", 60)] {
        let refused = subject.ledger.post(other).await.unwrap_err();
        assert!(matches!(refused, Error::KeyReused { .. }));
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
    purse_has(&subject, 60, 0).await;
}

/// Batches that no ledger can keep are refused as invalid, unknown accounts as not found.
pub async fn malformed_batches_are_refused(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let wide = Amount::from_units(i128::from(i64::MAX).saturating_mul(2), Asset::USD);
    let wide = Entry::post(name("purse"), name("shop"), wide);
    let malformed = [
        Batch::new(key("a"), Vec::new()),
        Batch::new(key("a"), vec![wide]),
        pay("a", -1),
        Batch::new(
            key("a"),
            vec![Entry::post(name("purse"), name("purse"), usd(1))],
        ),
        Batch::new(
            key("a"),
            vec![pay("a", 1).entries[0].clone(); Batch::ENTRIES_MAX.saturating_add(1)],
        ),
        hold("a", 1).with_expiry(at(&subject.clock, 0)),
    ];
    for batch in malformed {
        let refused = subject.ledger.post(batch.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{batch:?}");
    }
    let unknown = Entry::post(name("purse"), name("nobody"), usd(1));
    let refused = subject
        .ledger
        .post(Batch::new(key("a"), vec![unknown]))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let other_guard = Entry::open(Asset::USD, name("purse"), Guard::Unguarded);
    let refused = subject
        .ledger
        .post(Batch::new(key("a"), vec![other_guard]))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    purse_has(&subject, 0, 0).await;
}

/// A guarded account gives no more than its posted credits, holds included, to the last unit.
pub async fn guard_counts_posted_and_pending_debits(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(pay("a", 30)).await.unwrap();
    subject.ledger.post(hold("b", 50)).await.unwrap();
    let Err(Error::Insufficient(short)) = subject.ledger.post(pay("c", 21)).await else {
        return assert!(subject.ledger.post(pay("c", 21)).await.is_err());
    };
    assert_eq!(short.account, name("purse"));
    assert_eq!(short.credits, usd(100));
    assert_eq!(
        (short.debits_posted, short.debits_pending),
        (usd(30), usd(50))
    );
    assert_eq!(short.asked, usd(21));
    subject.ledger.post(pay("d", 20)).await.unwrap();
    let refused = subject.ledger.post(hold("e", 1)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exhausted);
    purse_has(&subject, 50, 50).await;
}

/// A capture posts at most the hold, releases the rest, and repeats its answer.
pub async fn capture_posts_its_part_and_frees_the_rest(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("a", 80)).await.unwrap();
    let found = subject.ledger.find(key("a")).await.unwrap().unwrap();
    assert_eq!(found.state, State::Pending);
    let capture = Resolution::Capture(usd(30));
    let first = subject
        .ledger
        .resolve(key("a"), capture.clone())
        .await
        .unwrap();
    let second = subject.ledger.resolve(key("a"), capture).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.transfers[0].kind, TransferKind::Captured);
    assert_eq!(first.transfers[0].hold, Some(found.receipt.transfers[0].id));
    purse_has(&subject, 30, 0).await;
    subject.ledger.post(pay("b", 70)).await.unwrap();
    let found = subject.ledger.find(key("a")).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.resolution),
        (State::Posted, Some(first))
    );
}

/// The holds of a linked set can be captured with an amount each.
pub async fn each_hold_of_a_set_can_be_captured_by_itself(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let mut batch = hold("a", 40);
    batch.entries.extend(hold("a", 50).entries);
    subject.ledger.post(batch).await.unwrap();
    let too_few = Resolution::CaptureEach(vec![usd(1)]);
    let refused = subject.ledger.resolve(key("a"), too_few).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    let one_too_much = Resolution::CaptureEach(vec![usd(40), usd(51)]);
    let refused = subject.ledger.resolve(key("a"), one_too_much).await;
    assert!(matches!(refused, Err(Error::ExceedsHold { .. })));
    purse_has(&subject, 0, 90).await;
    let each = Resolution::CaptureEach(vec![usd(40), usd(0)]);
    subject.ledger.resolve(key("a"), each).await.unwrap();
    purse_has(&subject, 40, 0).await;
}

/// A capture of more than was held is refused and the hold stays.
pub async fn capture_beyond_the_hold_is_refused(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("a", 80)).await.unwrap();
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(81)))
        .await;
    assert!(matches!(refused, Err(Error::ExceedsHold { .. })));
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(-1)))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    purse_has(&subject, 0, 80).await;
    let refused = subject
        .ledger
        .resolve(key("nothing"), Resolution::Void)
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = subject.ledger.resolve(key("setup"), Resolution::Void).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

/// A hold that is resolved cannot be resolved in another way.
pub async fn holds_are_resolved_once(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("a", 40)).await.unwrap();
    subject.ledger.post(hold("b", 40)).await.unwrap();
    subject
        .ledger
        .resolve(key("a"), Resolution::Void)
        .await
        .unwrap();
    subject
        .ledger
        .resolve(key("a"), Resolution::Void)
        .await
        .unwrap();
    subject
        .ledger
        .resolve(key("b"), Resolution::Capture(usd(40)))
        .await
        .unwrap();
    let late = [
        ("a", Resolution::Capture(usd(1)), State::Voided),
        ("b", Resolution::Void, State::Posted),
        ("b", Resolution::Capture(usd(39)), State::Posted),
    ];
    for (k, resolution, expected) in late {
        let refused = subject.ledger.resolve(key(k), resolution).await;
        assert!(
            matches!(refused, Err(Error::Resolved { state, .. }) if state == expected),
            "{refused:?}"
        );
    }
    purse_has(&subject, 40, 0).await;
}

/// A hold whose time is over cannot be captured, swept or not, and sweeping releases it.
pub async fn expired_holds_cannot_be_captured_and_are_released(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let expiring = hold("a", 40).with_expiry(at(&subject.clock, 100));
    subject.ledger.post(expiring.clone()).await.unwrap();
    subject.ledger.post(hold("b", 40)).await.unwrap();
    subject.ledger.expire(10).await.unwrap();
    purse_has(&subject, 0, 80).await;
    subject.clock.advance(Duration::from_millis(100));
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(1)))
        .await;
    assert!(matches!(refused, Err(Error::Expired { .. })), "{refused:?}");
    subject.ledger.expire(10).await.unwrap();
    purse_has(&subject, 0, 40).await;
    let found = subject.ledger.find(key("a")).await.unwrap().unwrap();
    assert_eq!(found.state, State::Expired);
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(1)))
        .await;
    assert!(matches!(
        refused,
        Err(Error::Resolved {
            state: State::Expired,
            ..
        })
    ));
    // The batch itself is still the answer to its key.
    assert_eq!(subject.ledger.post(expiring).await.unwrap(), found.receipt);
    assert!(subject.ledger.expire(10).await.unwrap().is_empty());
}

/// A reversal lowers both posted sums, never below zero and never below the guard.
pub async fn reversal_takes_back_no_more_than_was_posted(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(pay("a", 60)).await.unwrap();
    let refund = |k: &str, units| {
        let entry = Entry::reverse(name("purse"), name("shop"), usd(units));
        Batch::new(key(k), vec![entry])
    };
    let refused = subject.ledger.post(refund("b", 61)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    subject.ledger.post(refund("c", 60)).await.unwrap();
    subject.ledger.post(pay("d", 90)).await.unwrap();
    let entry = Entry::reverse(name("bank"), name("purse"), usd(11));
    let refused = subject.ledger.post(Batch::new(key("e"), vec![entry])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exhausted);
    purse_has(&subject, 90, 0).await;
}

/// A balance that would leave 64 bits is refused.
pub async fn balance_beyond_64_bits_is_refused(subject: Subject) {
    let subject = subject.with_purse(i64::MAX - 1).await;
    let more = |k: &str, units| {
        let entry = Entry::post(name("bank"), name("purse"), usd(units));
        Batch::new(key(k), vec![entry])
    };
    subject.ledger.post(more("a", 1)).await.unwrap();
    let refused = subject.ledger.post(more("b", 1)).await.unwrap_err();
    assert!(matches!(refused, Error::Overflow { .. }));
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    subject.ledger.verify(None).await.unwrap();
}

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
